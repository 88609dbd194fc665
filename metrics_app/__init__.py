"""Hourly response-time statistics that are counted exactly once and say how good they are."""

from importlib.metadata import version

__version__ = version("metrics-app")
