"""Reads the product's metrics in a test, as /metrics would show them."""

from __future__ import annotations

from prometheus_client.metrics import MetricWrapperBase


def value_of(metric: MetricWrapperBase) -> float:
    """The value of a counter or gauge without labels."""
    (value,) = (
        each.value for found in metric.collect() for each in found.samples if not each.name.endswith("_created")
    )
    return float(value)
