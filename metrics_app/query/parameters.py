"""The query string as named texts. Nothing in it is passed over: a typo must not silently change the question."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from metrics_app.errors import InvalidQueryError

FORMAT = "format"
SHOWN = 100  # characters of what was sent that an error repeats
ENCODED = "percent-encoding: % and two hexadecimal digits, %25 for % itself"
UTF_8 = "percent-encoded UTF-8"

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_WHOLE = re.compile("[0-9]{1,9}")


def decode(part: str, raw: str) -> str:
    """The text of a percent-encoded piece of a URL.

    Raises:
        InvalidQueryError: naming the part.
    """
    # not the framework's decoding: it takes %zz and %ff as they stand, and the row of another key would answer
    if _BAD_ESCAPE.search(raw):
        raise InvalidQueryError(part, raw[:SHOWN], ENCODED)
    try:
        return unquote_to_bytes(raw.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError:
        raise InvalidQueryError(part, raw[:SHOWN], UTF_8) from None


def parameters(raw_query: str, allowed: Collection[str]) -> dict[str, str]:
    """The parameters of a query string as it was received, each at most once; + is a space, as forms have it.

    Raises:
        InvalidQueryError: naming the parameter that is not known here, comes twice, or is not UTF-8.
    """
    found: dict[str, str] = {}
    for pair in filter(None, raw_query.split("&")):
        raw_name, _, raw_value = pair.replace("+", " ").partition("=")
        name = decode("query", raw_name)
        if name not in allowed:
            raise InvalidQueryError(name[:SHOWN], raw_value[:SHOWN], _known(allowed))
        if name in found:
            raise InvalidQueryError(name, raw_value[:SHOWN], "the parameter only once")
        found[name] = decode(name, raw_value)
    return found


def _known(allowed: Collection[str]) -> str:
    return f"one of the parameters {', '.join(sorted(allowed))}" if allowed else "no parameters here"


def whole_number(part: str, text: str, most: int) -> int:
    """A number from 1 to `most`.

    Raises:
        InvalidQueryError: naming the part.
    """
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= most:
        raise InvalidQueryError(part, text[:SHOWN], f"a whole number 1 to {most:,}")
    return int(text)


def one_of(part: str, text: str, choices: Collection[str]) -> str:
    """The text, if it is one of the choices.

    Raises:
        InvalidQueryError: naming the part.
    """
    if text not in choices:
        raise InvalidQueryError(part, text[:SHOWN], " or ".join(choices))
    return text
