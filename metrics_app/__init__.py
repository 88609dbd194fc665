"""Hourly response-time statistics that are counted exactly once and say how good they are.

from metrics_app import MetricsClient

client = MetricsClient(["http://collector-1:8080", "http://collector-2:8080"])
client.record("checkout", 12.5)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metrics_app.client import AsyncMetricsClient, MetricsClient, Options, Stats

__all__ = ["AsyncMetricsClient", "MetricsClient", "Options", "Stats", "__version__"]
__version__: str


def __getattr__(name: str) -> Any:
    """The client and the version, when first asked for: the command line imports this package and must start fast."""
    if name == "__version__":
        return import_module("importlib.metadata").version("metrics-app")
    if name in __all__:
        return getattr(import_module("metrics_app.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
