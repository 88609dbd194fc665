"""Makes the route of a path, so that one key stands for all that one handler serves: `/users/42` is `/users/{id}`.

Called by `log_fields`.
"""

from __future__ import annotations

import re

ID = "{id}"
LONG = 20  # characters from which a segment with a digit in it is no word

_ID = re.compile(
    r"(?<=/)(?:[0-9]+"
    r"|[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}"  # a UUID
    r"|(?=[^/]*[0-9])(?:[0-9A-Fa-f]{8,}"
    rf"|[^/.]{{{LONG},}}))(?=/|$)"  # a file's name has a dot and stays
)


def route_of(path: str) -> str:
    """The path with {id} for each segment that is a number, a UUID, hexadecimal, or long with a digit in it.

    What follows `?` or `#` is left out, and so are scheme and host of an absolute URL.
    """
    return _ID.sub(ID, path_of(path))


def path_of(target: str) -> str:
    """The path in the target of a request: without query string, fragment, scheme and host."""
    path = target.partition("?")[0].partition("#")[0]
    return "/" + path.split("://", 1)[1].partition("/")[2] if "://" in path else path
