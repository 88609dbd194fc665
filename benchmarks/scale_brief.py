"""What the brief's own sketch would cost: functions, a queue, Spark and a warehouse, all managed by a cloud.

Called by `tables`. Nothing of it was run here: every figure is an assumption below times the load. Prices are round
figures near the list prices of the large clouds; change them here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.scale_model import Load
from benchmarks.scale_plan import GB, MONTH_H

MONTH_S = MONTH_H * 3600


@dataclass(frozen=True)
class Managed:
    """Prices in dollars, and what is assumed of each part."""

    gateway_million: float = 1.00  # requests
    function_million: float = 0.20  # requests
    function_gb_s: float = 0.0000167
    function_s: float = 0.005  # of a request
    function_gb: float = 0.125
    queue_gb: float = 0.08  # once in and once out
    queue_least: float = 1000.0  # bytes a message is billed as at least
    value_bytes: float = 23.0
    spark_core_hour: float = 0.06
    spark_values: float = 50_000.0  # values a second and core
    spark_least: int = 12  # cores
    warehouse_gb: float = 0.00625  # scanned
    warehouse_least: float = 10e6  # bytes a question is billed as at least
    questions_per_s: float = 10.0


def bill(load: Load, prices: Managed) -> dict[str, float]:
    """Dollars a month of each part; ingest, storage of rows and people are left out."""
    requests = load.values_per_s / load.batch * MONTH_S
    message = max(prices.queue_least, load.batch * prices.value_bytes)
    cores = max(prices.spark_least, math.ceil(load.values_per_s / prices.spark_values))
    running = prices.function_s * prices.function_gb * prices.function_gb_s
    return {
        "gateway": requests / 1e6 * prices.gateway_million,
        "functions": requests * (prices.function_million / 1e6 + running),
        "queue": requests * message / GB * prices.queue_gb,
        "Spark": cores * MONTH_H * prices.spark_core_hour,
        "warehouse": prices.questions_per_s * MONTH_S * prices.warehouse_least / GB * prices.warehouse_gb,
    }
