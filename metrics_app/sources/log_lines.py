"""Takes lines of logs apart into values by key and hour. Pure: no file, no clock.

Called by `cli.import_files`.

A line that is no sample is noted with its number and what was expected, and never stops the lines after it. Lines of a
pattern are first taken all at once; only when one does not fit are they looked at one by one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from metrics_app.errors import UNREADABLE
from metrics_app.sources.log_fields import REMEMBERED, FieldRules
from metrics_app.sources.log_formats import LogFormat

_GROUP = re.compile(rb"\(\?P<(\w+)>")
_REFERENCE = re.compile(rb"\(\?P=|\(\?\(|\\[1-9]")  # to a group, by its name or number
SHOWN = 60  # characters of a bad line that are repeated
Place = tuple[str, int]  # key and hour


class BadLine(NamedTuple):
    """A line that is no sample: its number from 1, and why."""

    number: int
    detail: str


@dataclass
class Gathered:
    """What some lines held."""

    lines: int = 0
    values: dict[Place, list[float]] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(map(len, self.values.values()))


Read = Callable[[bytes, int], Gathered]  # whole lines, and the number of the first


def reader_of(form: LogFormat, rules: FieldRules, columns: list[str], delimiter: str) -> Read:
    """What takes lines of a format apart.

    Args:
        columns: of CSV.
    """
    if form.kind == "pattern":
        return PatternLines(form, rules).read
    return FieldLines(form, rules, _json_fields if form.kind == "json" else _csv_fields(columns, delimiter)).read


class PatternLines:
    """Lines that a regular expression describes."""

    def __init__(self, form: LogFormat, rules: FieldRules) -> None:
        pattern = _lean(form.pattern, {form.time, form.value} | rules.names)
        self._one = re.compile(pattern + rb"\r?")
        self._all = re.compile(rb"^" + pattern + rb"\r?$", re.MULTILINE)
        groups = self._one.groupindex
        self._time, self._value = groups[form.time] - 1, groups[form.value] - 1
        self._names = {name: at - 1 for name, at in groups.items() if name in rules.names}
        self._rules = rules
        self._keys: dict[tuple[bytes, ...], str] = {}

    def read(self, block: bytes, first: int) -> Gathered:
        """The values of whole lines."""
        lines = block.count(b"\n") + (not block.endswith(b"\n") and bool(block))
        found = self._all.findall(block) if self._one.groups > 1 else []
        if len(found) == lines:
            gathered = Gathered(lines)
            if self._take_all(gathered, found):
                return gathered
        return self._one_by_one(block, first)

    def _take_all(self, gathered: Gathered, found: list[tuple[bytes, ...]]) -> bool:
        """Whether all of them are samples."""
        time, value, values = self._time, self._value, gathered.values
        hour_of, value_of, key_of = self._rules.hour, self._rules.value, self._key
        try:
            for groups in found:
                place = key_of(groups), hour_of(groups[time].decode())
                number = value_of(groups[value].decode())
                if place in values:
                    values[place].append(number)
                else:
                    values[place] = [number]
        except ValueError:
            return False
        return True

    def _one_by_one(self, block: bytes, first: int) -> Gathered:
        return _each(block, first, self._sample)

    def _sample(self, line: bytes) -> tuple[Place, float]:
        found = self._one.fullmatch(line)
        if found is None:
            raise ValueError("it does not fit the format")
        groups = tuple(group or b"" for group in found.groups())
        place = self._key(groups), self._rules.hour(groups[self._time].decode())
        return place, self._rules.value(groups[self._value].decode())

    def _key(self, groups: tuple[bytes, ...]) -> str:
        named = tuple([groups[at] for at in self._names.values()])
        key = self._keys.get(named)
        if key is None:
            key = self._rules.key({name: text.decode() for name, text in zip(self._names, named, strict=True)})
            if len(self._keys) >= REMEMBERED:
                self._keys.clear()
            self._keys[named] = key
        return key


def _lean(pattern: bytes, used: AbstractSet[str]) -> bytes:
    """The pattern without groups that nobody looks at, for they take as long as the others."""
    if _REFERENCE.search(pattern):
        return pattern
    return _GROUP.sub(lambda group: group[0] if group[1].decode() in used else b"(?:", pattern)


class FieldLines:
    """Lines with fields that have names: objects of JSON, or columns."""

    def __init__(self, form: LogFormat, rules: FieldRules, fields: Callable[[bytes], Mapping[str, Any]]) -> None:
        self._form = form
        self._rules = rules
        self._fields = fields

    def read(self, block: bytes, first: int) -> Gathered:
        """The values of whole lines."""
        return _each(block, first, self._sample)

    def _sample(self, line: bytes) -> tuple[Place, float]:
        form, fields = self._form, self._fields(line)
        time, value = (_text(fields, name) for name in (form.time, form.value))
        known = {name: text for name in self._rules.names if (text := _text(fields, name, needed=False))}
        if path := _text(fields, form.path, needed=False):
            known["path"] = path
        return (self._rules.key(known), self._rules.hour(time)), self._rules.value(value)


def _each(block: bytes, first: int, sample: Callable[[bytes], tuple[Place, float]]) -> Gathered:
    """Takes lines one by one; blank ones are passed over."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    gathered = Gathered(len(lines))
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        try:
            place, value = sample(line.rstrip(b"\r"))
        except ValueError as error:
            gathered.bad.append(BadLine(number, f"{_sentence(error)}: {_shown(line)}"))
        else:
            gathered.values.setdefault(place, []).append(value)
    return gathered


def _json_fields(line: bytes) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except UNREADABLE:
        raise ValueError("expected a JSON object") from None


def _csv_fields(columns: list[str], delimiter: str) -> Callable[[bytes], Mapping[str, Any]]:
    def fields(line: bytes) -> Mapping[str, Any]:
        try:
            cells = next(csv.reader([line.decode()], delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration):
            raise ValueError("expected the columns of one row in one line") from None
        if len(cells) != len(columns):
            raise ValueError(f"expected {len(columns)} columns, got {len(cells)}")
        return dict(zip(columns, cells, strict=True))

    return fields


def _text(fields: Mapping[str, Any], name: str, needed: bool = True) -> str:
    """The field of a name, or of a path of names, as text; empty when it is not there and not needed."""
    found: Any = fields.get(name, fields)
    for part in name.split(".") if found is fields else ():
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, (str, int, float)) and not isinstance(found, bool) and found != "":
        return found if isinstance(found, str) else repr(found)
    if needed:
        raise ValueError(f"expected a field {name!r} with a text or number")
    return ""


def _sentence(error: ValueError) -> str:
    return "expected UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace").strip()
    return f"{text[:SHOWN]!r}{'...' if len(text) > SHOWN else ''}"
