"""Numbers as small plots of one line of text, which any terminal and any log can show.

Called by `answers` and `tail`.
"""

from __future__ import annotations

from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉█"


def spark(values: Sequence[float]) -> str:
    """A column for each value, from the least of them to the greatest; all in the middle where they are equal."""
    if not values:
        return ""
    low, high = min(values), max(values)
    if low == high:
        return LEVELS[len(LEVELS) // 2 - 1] * len(values)
    return "".join(LEVELS[round((value - low) / (high - low) * (len(LEVELS) - 1))] for value in values)


def bar(value: float, most: float, width: int) -> str:
    """A bar from 0: `width` characters for `most`, in steps of an eighth; empty for what is not above 0."""
    if most <= 0.0 or value <= 0.0:
        return ""
    whole, rest = divmod(round(min(1.0, value / most) * width * 8), 8)
    return ("█" * whole + (EIGHTHS[rest] if rest else "")) or EIGHTHS[1]
