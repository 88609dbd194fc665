"""Which base URLs other workers may have (METRICS_PEERS).

Called by `peers` and `views`.

A URL comes from the consumer group: whoever may join that could have this worker send requests anywhere.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from yarl import URL

from metrics_app.accepted import names
from metrics_app.errors import SettingsError

ANY_LABEL = "*."


class Members:
    """The URLs that are contacted.

    Args:
        text: base URLs and networks, separated by commas; empty: any URL.

    Raises:
        SettingsError: a part is neither.
    """

    def __init__(self, text: str = "") -> None:
        self._networks: list[IPv4Network | IPv6Network] = []
        self._urls: list[URL] = []
        for part in names(text):
            self._urls.append(_base(part)) if "://" in part else self._networks.append(_network(part))

    def has(self, url: str) -> bool:
        """Whether a worker may be there."""
        if not self._networks and not self._urls:
            return True
        there = URL(url)
        return any(_covers(each, there) for each in self._urls) or self._is_in_network(there.host or "")

    def _is_in_network(self, host: str) -> bool:
        try:
            return any(ip_address(host) in network for network in self._networks)
        except ValueError:
            return False


def _covers(base: URL, there: URL) -> bool:
    ours, theirs = base.host or "", there.host or ""
    same_host = theirs.endswith(ours[1:]) if ours.startswith(ANY_LABEL) else theirs == ours
    return same_host and base.scheme == there.scheme and base.port == there.port


def _base(part: str) -> URL:
    try:
        url = URL(part)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.path not in ("", "/"):
        raise SettingsError([f"METRICS_PEERS: expected a base URL or a network, got {part!r}"])
    return url


def _network(part: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(part)
    except ValueError as error:
        raise SettingsError([f"METRICS_PEERS: expected a base URL or a network: {error}"]) from None
