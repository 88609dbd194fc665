"""Damages valid bytes: turned bits, cuts, copied and swapped slices, numbers at the edge of their width.

Called by `test_targets`, where Hypothesis chooses, and by `running_worker`, where a seeded generator does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

Choose = Callable[[int, int], int]  # a number between two, both included

EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 2**53, 2**63 - 1, 2**64 - 1]
WIDTHS = (1, 2, 4, 8)
MOST_DAMAGES = 4


def damaged(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    """The data after one to four damages.

    Args:
        others: valid bytes of the same kind, to take slices from.
    """
    for _ in range(choose(1, MOST_DAMAGES)):
        data = DAMAGES[choose(0, len(DAMAGES) - 1)](data, others, choose)
    return data


def _turn_bit(data: bytes, _: Sequence[bytes], choose: Choose) -> bytes:
    if not data:
        return data
    turned = bytearray(data)
    turned[choose(0, len(data) - 1)] ^= 1 << choose(0, 7)
    return bytes(turned)


def _set_number(data: bytes, _: Sequence[bytes], choose: Choose) -> bytes:
    width = WIDTHS[choose(0, len(WIDTHS) - 1)]
    at = choose(0, len(data))
    number = EDGES[choose(0, len(EDGES) - 1)] & (1 << 8 * width) - 1
    return data[:at] + number.to_bytes(width, "little") + data[at + width :]


def _cut(data: bytes, _: Sequence[bytes], choose: Choose) -> bytes:
    return data[: choose(0, len(data))]


def _leave_out(data: bytes, _: Sequence[bytes], choose: Choose) -> bytes:
    start, stop = _slice(data, choose)
    return data[:start] + data[stop:]


def _repeat(data: bytes, _: Sequence[bytes], choose: Choose) -> bytes:
    start, stop = _slice(data, choose)
    return data[:stop] + data[start:]


def _take_from_another(data: bytes, others: Sequence[bytes], choose: Choose) -> bytes:
    other = others[choose(0, len(others) - 1)] if others else b""
    start, stop = _slice(other, choose)
    at = choose(0, len(data))
    return data[:at] + other[start:stop] + data[at:]


def _slice(data: bytes, choose: Choose) -> tuple[int, int]:
    start = choose(0, len(data))
    return start, choose(start, min(len(data), start + 64))


DAMAGES = [_turn_bit, _set_number, _cut, _leave_out, _repeat, _take_from_another]


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """One of the valid encodings, damaged; Hypothesis makes the damage as small as it can."""
    return damaged(draw(st.sampled_from(valid)), valid, lambda low, high: draw(st.integers(low, high)))
