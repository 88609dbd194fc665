"""Makes docs/metrics.md: every metric of the product with its type, labels and meaning, from the list in the code.

Called by `make docs` and by `tests/test_metrics.py`.
"""

from __future__ import annotations

from pathlib import Path

from metrics_app.telemetry import Listed, Telemetry

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"

INTRODUCTION = """\
# Metrics

`GET /metrics` has these in Prometheus' text format, in every role; units are seconds, bytes, values and records. Beside
them it has `process_*`: CPU, memory and descriptors of the process. A histogram has the buckets `_bucket{le="..."}`,
`_sum` and `_count`.

The counters close. After a drain, in values, if no process was killed: received = accepted + rejected + refused for
collectors, accepted = folded + duplicate + expired + overfull for aggregators. `docker/prometheus/` has a scrape
configuration and the alerts, and [runbook.md](runbook.md) what to do about each.

This page is generated: `make docs`.
"""


def page() -> str:
    """The whole page."""
    lists = Telemetry().lists
    return INTRODUCTION + "".join(f"\n## {title}\n{_table(metrics.listed)}" for title, metrics in lists.items())


def _table(listed: list[Listed]) -> str:
    rows = [f"| `{one.name}` | {one.kind} | {_labels(one)} | {one.meaning} |\n" for one in listed]
    return "".join(["| Name | Type | Labels | Meaning |\n", "| --- | --- | --- | --- |\n", *rows])


def _labels(one: Listed) -> str:
    return ", ".join(f"`{label}`" for label in one.labels)


if __name__ == "__main__":
    PAGE.write_text(page())
