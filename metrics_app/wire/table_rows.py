"""Gathers the rows of a sample table. Each means what the same sample means in JSON, and is kept or rejected by itself.

Called by `bodies`.

All rows are looked at together: a pass of numpy over a column costs a row some nanoseconds, and Python is left with
what is done once a key and once a chunk. Of several faults of a row the first in the order of `_REASONS` is told.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from metrics_app.wire.chunk import VALUE_BYTES, VALUE_MAX, Chunk
from metrics_app.wire.gathering import HOUR_S, ITEMS_A_STEP, NO_MORE_ROWS, NOW, BodyParts, Steps, shown, why_not_then
from metrics_app.wire.metric_key import key_bytes
from metrics_app.wire.ownership import FORBIDDEN, forbidden
from metrics_app.wire.sample_table import Column, SampleTable

MAX_ID_CHARACTERS = 255

_VALUE, _ID, _TIMESTAMP, _KEY, _FORBIDDEN, _KEYS = range(1, 7)
_REASONS = ("", "value", "id", "timestamp", "key", FORBIDDEN, "keys")


class _Keys(NamedTuple):
    encoded: list[bytes]
    faults: Column  # of each, 0 for none
    details: dict[int, str]  # of faults


class _Groups(NamedTuple):
    """Rows by key, hour and whether they have an id; the groups in the order of their first rows."""

    order: Column  # the rows, group by group
    starts: Column  # where each group starts in it


def gather(table: SampleTable, parts: BodyParts) -> Steps:
    """Gather the rows of a table, which have been counted in.

    Raises:
        InvalidBodyError: its columns do not fit each other.
        BodyTooLargeError: it has more keys and hours than the limit.
    """
    table.check()
    yield
    keys = yield from _look_at_keys(table, parts)
    yield
    named = _named(table)
    faults = _faults(table, named, keys, parts)
    yield
    hours = _hours(table, parts)
    passed = _passed(table, faults, named, keys, parts)
    live = np.flatnonzero((faults == 0) | passed)
    groups = _grouped(table, live, hours, named)
    parts.check_rows(len(groups.starts))
    yield
    groups = yield from _admitted(groups, table.key_of, hours, keys, faults, parts)
    yield from _add(table, groups, hours, named, passed, keys, parts)
    yield from _reject(table, faults, keys, parts)


def _look_at_keys(table: SampleTable, parts: BodyParts) -> Generator[None, None, _Keys]:
    found = _Keys([], np.zeros(len(table.keys), np.uint8), {})
    for at, key in enumerate(table.keys):
        if at % ITEMS_A_STEP == ITEMS_A_STEP - 1:
            yield
        try:
            found.encoded.append(key_bytes(key))
            if not parts.owner.has(key):
                found.faults[at] = _FORBIDDEN
        except ValueError as error:
            found.encoded.append(b"")
            found.faults[at] = _KEY
            found.details[at] = f"key {shown(key)!r}: {error}"
    return found


def _named(table: SampleTable) -> Column:
    """Which rows have an id."""
    if table.ids is None:
        return np.zeros(len(table.values), bool)
    return np.array([text is not None for text in table.ids], bool)


def _faults(table: SampleTable, named: Column, keys: _Keys, parts: BodyParts) -> Column:
    """What is wrong with each row by itself."""
    values, times = table.values, table.times
    faults: Column = keys.faults[table.key_of]
    if times is not None:
        within = (times.seconds >= parts.oldest_s) & (times.seconds <= parts.newest_s)  # NaN is not
        faults[times.given & ~within] = _TIMESTAMP
    if table.ids is not None:
        lengths = np.array([len(text or "") for text in table.ids], np.int64)
        faults[named & ((lengths == 0) | (lengths > MAX_ID_CHARACTERS))] = _ID
    faults[~((values >= 0) & (values <= VALUE_MAX))] = _VALUE
    return faults


def _hours(table: SampleTable, parts: BodyParts) -> Column:
    missing = NOW if parts.request_id else int(parts.now_s // HOUR_S)
    if table.times is None:
        return np.full(len(table.values), missing, np.int64)
    return np.where(table.times.given, table.times.hours, missing)


def _passed(table: SampleTable, faults: Column, named: Column, keys: _Keys, parts: BodyParts) -> Column:
    """The rows that are refused for now, whose places among those of the request nobody else may have."""
    if not parts.request_id or table.sender:
        return np.zeros(len(faults), bool)
    passed: Column = (faults == _TIMESTAMP) & ~named & (keys.faults[table.key_of] == 0)
    return passed


def _grouped(table: SampleTable, live: Column, hours: Column, named: Column) -> _Groups:
    if table.places is None:
        return _Groups(live, np.arange(len(live)))
    of_hour = np.unique(hours[live], return_inverse=True)[1]
    places = (of_hour * 2 + named[live]) * len(table.keys) + table.places[live]
    _, firsts, inverse = np.unique(places, return_index=True, return_inverse=True)
    ranks = firsts[inverse]
    order = np.argsort(ranks, kind="stable")
    return _Groups(live[order], np.flatnonzero(np.diff(ranks[order], prepend=-1)))


def _admitted(
    groups: _Groups, key_of: Column, hours: Column, keys: _Keys, faults: Column, parts: BodyParts
) -> Generator[None, None, _Groups]:
    """The groups without those that would begin a row too many, which becomes a fault of their rows."""
    firsts = groups.order[groups.starts]
    refused = []
    for at, (key, hour) in enumerate(zip(key_of[firsts].tolist(), hours[firsts].tolist(), strict=True)):
        if at % ITEMS_A_STEP == ITEMS_A_STEP - 1:
            yield
        if not parts.may_keep(keys.encoded[key], hour):
            refused.append(at)
    if not refused:
        return groups
    of_group = np.repeat(np.arange(len(groups.starts)), np.diff(groups.starts, append=len(groups.order)))
    out = np.isin(of_group, refused)
    rows = groups.order[out]
    faults[rows[faults[rows] == 0]] = _KEYS
    return _Groups(groups.order[~out], np.flatnonzero(np.diff(of_group[~out], prepend=-1)))


def _add(
    table: SampleTable, groups: _Groups, hours: Column, named: Column, passed: Column, keys: _Keys, parts: BodyParts
) -> Steps:
    """Keeps the groups as chunks, which numbers that do not follow each other and rows that are passed over divide."""
    order, data = groups.order, (table.values[groups.order] + 0.0).tobytes()  # -0.0 becomes 0.0
    begins = np.zeros(len(order) + 1, bool)
    begins[groups.starts] = begins[-1] = True
    skipped = passed[order]
    begins[:-1] |= skipped
    begins[1:] |= skipped
    if table.numbers is not None:
        begins[1:-1] |= np.diff(table.numbers[order]) != 1
    starts = np.flatnonzero(begins)
    rows = order[starts[:-1]]
    numbers = np.zeros(len(rows), np.int64) if table.numbers is None else table.numbers[rows]
    columns = (table.key_of[rows], hours[rows], numbers, skipped[starts[:-1]])
    spans = pairwise(starts.tolist())
    for at, ((start, end), key, hour, first, skip) in enumerate(
        zip(spans, *(column.tolist() for column in columns), strict=True)
    ):
        if at % ITEMS_A_STEP == ITEMS_A_STEP - 1:
            yield
        encoded = keys.encoded[key]
        if skip:
            parts.pass_over(encoded, hour, 1)
            continue
        ids = b"".join(_ids(table, order[start:end], encoded, parts)) if named[order[start]] else b""
        values = data[start * VALUE_BYTES : end * VALUE_BYTES]
        parts.add(Chunk(encoded, hour, values, table.sender, first, ids))


def _ids(table: SampleTable, rows: Column, key: bytes, parts: BodyParts) -> Iterator[bytes]:
    assert table.ids is not None
    for row in rows.tolist():
        yield parts.owner.sample_id(key, table.ids[row] or "")


def _reject(table: SampleTable, faults: Column, keys: _Keys, parts: BodyParts) -> Steps:
    for at, row in enumerate(np.flatnonzero(faults).tolist()):
        if at % ITEMS_A_STEP == ITEMS_A_STEP - 1:
            yield
        fault = int(faults[row])
        parts.reject(row, _REASONS[fault], _detail(table, row, fault, keys, parts))


def _detail(table: SampleTable, row: int, fault: int, keys: _Keys, parts: BodyParts) -> str:
    if fault == _VALUE:
        return f"value: expected a number from 0 to 2^44, got {table.values[row]}"
    if fault == _ID and table.ids is not None:
        return f"id: expected a text of 1 to {MAX_ID_CHARACTERS} characters, got {shown(table.ids[row] or '')!r}"
    if fault == _TIMESTAMP and table.times is not None:
        seconds = float(table.times.seconds[row])
        if seconds != seconds:  # NaN
            return "timestamp: expected epoch seconds, got nan"
        return why_not_then(seconds, parts)
    if fault == _FORBIDDEN:
        return forbidden(parts.owner.prefixes)
    return NO_MORE_ROWS if fault == _KEYS else keys.details[int(table.key_of[row])]
