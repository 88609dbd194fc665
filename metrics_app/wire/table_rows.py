"""Gathers the rows of a sample table. Each means what the same sample means in JSON, and is kept or rejected by itself.

Called by `bodies`.

All rows are looked at together: a pass of numpy over a column costs a row some nanoseconds, and Python is left with
what is done once a key and once a chunk. Of several faults of a row the first in the order of `_REASONS` is told.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from typing import NamedTuple

import numpy as np

from metrics_app.wire.chunk import VALUE_BYTES, VALUE_MAX, Chunk, chunk_of
from metrics_app.wire.gathering import HOUR_S, ITEMS_A_STEP, NO_MORE_ROWS, NOW, BodyParts, Steps, shown, why_not_then
from metrics_app.wire.metric_key import MAX_KEY_BYTES, are_plain, key_bytes
from metrics_app.wire.ownership import FORBIDDEN, forbidden
from metrics_app.wire.sample_table import Column, SampleTable

MAX_ID_CHARACTERS = 255
ROWS_A_STEP = 1000

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
    for at in range(0, len(table.keys), ROWS_A_STEP):
        keys = table.keys[at : at + ROWS_A_STEP]
        encoded = [key.encode() for key in keys]
        sizes = set(map(len, encoded))
        if parts.owner.prefixes or not are_plain(b"".join(encoded)) or min(sizes) == 0 or max(sizes) > MAX_KEY_BYTES:
            for number, key in enumerate(keys, at):
                _look_at(number, key, found, parts)
        found.encoded.extend(encoded)
        yield
    return found


def _look_at(number: int, key: str, found: _Keys, parts: BodyParts) -> None:
    try:
        key_bytes(key)
        if not parts.owner.has(key):
            found.faults[number] = _FORBIDDEN
    except ValueError as error:
        found.faults[number] = _KEY
        found.details[number] = f"key {shown(key)!r}: {error}"


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
    for at in range(0, len(firsts), ROWS_A_STEP):
        rows = firsts[at : at + ROWS_A_STEP]
        names = [keys.encoded[key] for key in key_of[rows].tolist()]
        refused += [at + number for number in parts.not_admitted(names, hours[rows].tolist())]
        yield
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
    order, starts = groups.order, _chunk_starts(table, groups, passed)
    longest = int(np.diff(starts).max(initial=0))
    data = (table.values[order] + 0.0).tobytes()  # -0.0 becomes 0.0
    has_ids, key_of = bool(named.any()), table.key_of
    for at in range(0, len(starts) - 1, ROWS_A_STEP):
        bounds = starts[at : at + ROWS_A_STEP + 1]
        rows = order[bounds[:-1]]
        names = [keys.encoded[key] for key in key_of[rows].tolist()]
        values = [data[start:end] for start, end in pairwise((bounds * VALUE_BYTES).tolist())]
        firsts = repeat(0) if table.numbers is None else table.numbers[rows].tolist()
        ids = _ids(table, order, bounds, names, named, parts) if has_ids else repeat(b"")
        columns = (names, hours[rows].tolist(), values, repeat(table.sender), firsts, ids, repeat(b""), repeat(0))
        chunks = list(map(chunk_of, zip(*columns, strict=False)))
        if passed.any():
            _add_around(chunks, passed[rows].tolist(), parts)
        else:
            parts.add_all(chunks, longest)
        yield


def _chunk_starts(table: SampleTable, groups: _Groups, passed: Column) -> Column:
    """Where chunks start in the order of the groups, and its end."""
    begins = np.zeros(len(groups.order) + 1, bool)
    begins[groups.starts] = begins[-1] = True
    skipped = passed[groups.order]
    begins[:-1] |= skipped
    begins[1:] |= skipped
    if table.numbers is not None:
        begins[1:-1] |= np.diff(table.numbers[groups.order]) != 1
    return np.flatnonzero(begins)


def _add_around(chunks: Iterable[Chunk], passed: Iterable[bool], parts: BodyParts) -> None:
    for chunk, skip in zip(chunks, passed, strict=True):
        if skip:
            parts.pass_over(chunk.key, chunk.hour, chunk.count)
        else:
            parts.add(chunk)


def _ids(
    table: SampleTable, order: Column, bounds: Column, names: Sequence[bytes], named: Column, parts: BodyParts
) -> Iterator[bytes]:
    """What identifies the values of each chunk; empty for chunks without."""
    texts, sample_id = table.ids or (), parts.owner.sample_id
    for name, (start, end) in zip(names, pairwise(bounds.tolist()), strict=True):
        rows = order[start:end].tolist() if named[order[start]] else ()
        yield b"".join([sample_id(name, texts[row] or "") for row in rows])


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
