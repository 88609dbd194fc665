"""Which Host and Origin headers are taken, so that no web page in somebody's browser uses the service behind his back.

Called by `access`.

A page reaches a service on its reader's machine or network in two ways. It sends a request across origins: that has an
`Origin` header, and only those that are allowed are taken. Or its own host name begins to resolve to the service's
address (DNS rebinding): then the request is of one origin, but its `Host` header names a host that is not ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from yarl import URL

from metrics_app.accepted import names
from metrics_app.settings import Settings

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-None-Match, "
    "Metrics-Dropped",
    "Access-Control-Max-Age": "600",
}
EXPOSED = "ETag, Link, Retry-After, X-Metrics-Role"


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Hosts:
    """The hosts by which the service may be called: any IP address, of loopback if it listens there, and these names.

    Args:
        listening: the address it listens on.
    """

    def __init__(self, listening: str, names: Iterable[str]) -> None:
        self._only_loopback = is_loopback(listening)
        self._names = {"localhost", *(name.lower() for name in names if name)}

    @classmethod
    def of(cls, settings: Settings) -> Hosts:
        """As set."""
        return cls(settings.host, [settings.host, URL(settings.url).host or "", *names(settings.allowed_hosts)])

    def know(self, header: str) -> bool:
        """Whether the value of a Host header names the service."""
        host = _without_port(header).lower().removesuffix(".")
        if host in self._names:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or not self._only_loopback


def _without_port(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
