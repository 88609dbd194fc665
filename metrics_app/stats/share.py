"""The share of values that are not above a limit: "how many requests took at most 250 ms?"

At most, not less than: the bounds of OTLP and Prometheus buckets are inclusive above, and so the share is exact at
every one of them.
"""

from __future__ import annotations

from fractions import Fraction

from metrics_app.stats.enclosed import Answer, between
from metrics_app.stats.summary import HourlySummary


def share_at_most(summary: HourlySummary, limit: float) -> Answer:
    """The share, 0.0 to 1.0, of values <= limit; exact unless the limit cuts a bucket of a histogram.

    Raises:
        ValueError: there is no value.
    """
    if not summary.count:
        raise ValueError("nothing was added")
    least, most = summary.at_most(limit)
    return between(Fraction(least, summary.count), Fraction(most, summary.count))
