"""One sample in JSON, as an object or as a pair, and what is wrong with what is neither.

Nothing here is lenient: no number in a string, no true for 1, no unknown member. Of a member given twice the last
counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Raw, Struct, ValidationError
from msgspec.json import Decoder

from metrics_app.wire.chunk import VALUE_MAX
from metrics_app.wire.gathering import Gathering, shown
from metrics_app.wire.json_text import UNREADABLE, opening
from metrics_app.wire.keys import EXPECTED as A_KEY

Value = Annotated[float, Meta(ge=0, le=VALUE_MAX)]
Timestamp = float | Annotated[datetime, Meta(tz=True)] | None
Id = Annotated[str, Meta(min_length=1, max_length=255)] | None


class Sample(Struct, forbid_unknown_fields=True):
    """The object form."""

    key: str
    value: Value
    timestamp: Timestamp = None
    id: Id = None


class Pair(Struct, array_like=True, forbid_unknown_fields=True):
    """The array form."""

    key: str
    value: Value
    timestamp: Timestamp = None
    id: ClassVar[None] = None


Item = Sample | Pair

SAMPLE, PAIR = Decoder(Sample), Decoder(Pair)
MEMBERS = Decoder(dict[str, Raw] | list[Raw])

_FIELDS: dict[str, tuple[Decoder[Any], str]] = {
    "key": (Decoder(str), A_KEY),
    "value": (Decoder(Value), "a number from 0 to 2^44"),
    "timestamp": (Decoder(Timestamp), "epoch seconds or RFC 3339 text with an offset"),
    "id": (Decoder(Id), "a text of 1 to 255 characters"),
}
_REQUIRED = ("key", "value")
PAIRED = ("key", "value", "timestamp")


def read_item(index: int, text: bytes | memoryview, gathering: Gathering) -> Item | None:
    """The sample that a JSON text is; None when it is none, which is then among the rejections."""
    try:
        return PAIR.decode(text) if opening(text)[0] else SAMPLE.decode(text)
    except UNREADABLE:
        gathering.reject(index, *_fault(text))
        return None


def _fault(text: bytes | memoryview) -> tuple[str, str]:
    try:
        members = MEMBERS.decode(text)
    except ValidationError:
        return "shape", f"expected an object or a pair, got {shown(text)}"
    except UNREADABLE as error:
        return "json", str(error)
    if isinstance(members, list):
        if not len(_REQUIRED) <= len(members) <= len(PAIRED):
            return "shape", f"expected a pair of key and value, or these and a timestamp, got {len(members)} members"
        members = dict(zip(PAIRED, members, strict=False))
    return _member_fault(members)


def _member_fault(members: dict[str, Raw]) -> tuple[str, str]:
    for name in members:
        if name not in _FIELDS:
            return "shape", f"member {shown(name)!r} is unknown; known are {', '.join(_FIELDS)}"
    for name, (decoder, expected) in _FIELDS.items():
        if name not in members:
            if name in _REQUIRED:
                return name, f"{name} is missing: expected {expected}"
            continue
        try:
            decoder.decode(members[name])
        except UNREADABLE:
            return name, f"{name}: expected {expected}, got {shown(memoryview(members[name]))}"
    return "shape", "a member is given twice, once with something else than expected"
