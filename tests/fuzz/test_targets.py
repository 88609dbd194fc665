"""Any bytes, and valid ones that were damaged: an error of ours or a sound answer, never another exception."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import seeds
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS

SHORT, LONG = 200, 20_000
EXAMPLES = [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]


@pytest.mark.parametrize("name", TARGETS)
def test_valid_bytes_and_all_that_was_ever_found_are_read(name: str) -> None:
    for data in [*seeds.VALID[name], *seeds.corpus(name), b""]:
        TARGETS[name](data)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_refused_by_an_error_of_ours_or_read(name: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(st.binary(max_size=300), mutated(seeds.VALID[name]), mutated(seeds.VALID[name])))
    def check(data: bytes) -> None:
        TARGETS[name](data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_every_cut_and_every_single_turned_bit_is_refused_by_an_error_of_ours_or_read(name: str) -> None:
    """Each of them, of one valid input: chance need not find them."""
    data = min((each for each in seeds.VALID[name] if each), key=len)
    for end in range(len(data)):
        TARGETS[name](data[:end])
    for bit in range(8 * min(len(data), 200)):
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        TARGETS[name](bytes(turned))
