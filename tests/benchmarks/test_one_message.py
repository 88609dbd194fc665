from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.one_message import Sent, section

USED = {"collector": 1.0}


def sent(accepted: int, refused: int = 0) -> Sent:
    statuses = Counter({202: accepted, 503: refused} if refused else {202: accepted})
    return Sent(Counter({"app": accepted}), statuses, [1.0, 3.0])


@pytest.mark.parametrize(("accepted", "refused", "held"), [(100_000, 0, True), (99_999, 1, False), (90_000, 0, False)])
def test_it_is_held_when_the_rate_is_and_nothing_was_refused(accepted: int, refused: int, held: bool) -> None:
    found = section(sent(accepted, refused), {"app": {"value": accepted}}, USED, 10.0, [5.0])
    assert (found["held"], found["refused"], found["lost"], found["double"]) == (held, refused, 0, 0)


@pytest.mark.parametrize("counted", [99, 101])
def test_a_run_that_lost_or_doubled_a_value_gives_no_figures(counted: int) -> None:
    with pytest.raises(RuntimeError, match=f"'app': {counted - 100}"):
        section(sent(100), {"app": {"value": counted}}, USED, 1.0, [5.0])
