"""Hourly response-time statistics that are counted exactly once and say how good they are.

from metrics_app import MetricsClient

client = MetricsClient(["http://collector-1:8080", "http://collector-2:8080"])
client.record("checkout", 12.5)
"""

from __future__ import annotations

TYPE_CHECKING = (
    False  # as in `typing`, which takes longer to import than all that a command needs before its first line
)
if TYPE_CHECKING:
    from metrics_app.client import AsyncMetricsClient, MetricsClient, Options, Stats

__all__ = ["AsyncMetricsClient", "MetricsClient", "Options", "Stats", "__version__"]
__version__: str


def __getattr__(name: str) -> object:
    """The client and the version, when first asked for: the command line imports this package and must start fast."""
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("metrics-app")
    if name in __all__:
        value: object = getattr(import_module("metrics_app.client"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
