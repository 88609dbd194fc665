"""The client: what an app imports to have its response times collected. It needs msgspec and urllib3, nothing else."""

from metrics_app.client.client import AsyncMetricsClient, MetricsClient
from metrics_app.client.options import Options, Stats

__all__ = ["AsyncMetricsClient", "MetricsClient", "Options", "Stats"]
