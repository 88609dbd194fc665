"""Which texts the settings accept.

Called by `settings` and by those that take a setting apart: `http.access`, `http.hosts` and `query.members`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

TOPIC = r"^[A-Za-z0-9._-]{1,200}$"  # what Kafka takes as the name of a topic
URL = r"^(https?://[^/?#\s]+/?)?$"  # a base URL, or none
KEY_TEMPLATE = r"^([^{}]*\{[^{}|]+(\|[^{}|]+)*\})+[^{}]*$"  # with at least one place in it, none empty
STATSD = r"^(udp://(\[[0-9A-Fa-f:.]+\]|[\w.-]+):\d{1,5}|unix:///.+)?$"  # a datagram socket, or none
ORIGINS = r"^$|^ *https?://[^/?#\s,]+ *(, *https?://[^/?#\s,]+ *)*$"

MAX_PORT = 65_535
SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?")  # host:port, [IPv6]:port, or a host alone


def checked_servers(text: str) -> str:
    """Addresses of servers, unchanged.

    Raises:
        ValueError: not host:port, separated by commas.
    """
    found = names(text)
    for server in found:
        match = SERVER.fullmatch(server)
        if match is None or not 0 < int(match[2] or 1) <= MAX_PORT:
            raise ValueError(f"expected host:port, several separated by commas, got {server!r}")
    if not found:
        raise ValueError("expected host:port, several separated by commas, got nothing")
    return text


def checked_host(text: str) -> str:
    """An address to listen on; IPv6 without the brackets that it has in a URL.

    Raises:
        ValueError: it is none.
    """
    plain = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not re.fullmatch(r"[\w.:%-]+", plain):
        raise ValueError(f"expected a host name or an IP address, got {text!r}")
    return plain


def names(text: str) -> list[str]:
    """The parts of a text that commas separate, without spaces around them or empty ones."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _path(given: str | Path) -> str | Path:
    """One that can be written down: by RocksDB, which takes UTF-8 only, and in a line of a log."""
    try:
        name = os.fsencode(given).decode()
    except UnicodeDecodeError:
        raise ValueError(f"expected a path in UTF-8, got {os.fsencode(given)!r:.200}") from None
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise ValueError(f"expected a path without line breaks or control characters, got {name!r:.200}")
    return given


Named = Annotated[Path, BeforeValidator(_path)]
