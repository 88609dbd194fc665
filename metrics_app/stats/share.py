"""The share of values that are not above a limit: "how many requests took at most 250 ms?"

At most, not less than: the bounds of OTLP and Prometheus buckets are inclusive above, and so the share is exact at
every one of them.
"""

from __future__ import annotations

from metrics_app.stats.summary import Answer, HourlySummary


def share_at_most(summary: HourlySummary, limit: float) -> Answer:
    """The share, 0.0 to 1.0, of values <= limit; exact unless the limit cuts a bucket of a histogram.

    Then the value is 2lh/(l+h), which of all values has the least relative error against anything in between.

    Raises:
        ValueError: there is no value.
    """
    if not summary.count:
        raise ValueError("nothing was added")
    least, most = summary.at_most(limit)
    lo, hi = least / summary.count, most / summary.count
    if least == most:
        return Answer(lo, lo, lo, True, 0.0)
    return Answer(2 * lo * hi / (lo + hi), lo, hi, False, (hi - lo) / (hi + lo))
