"""Checks records of the changelog before anything is believed of them.

Called by `store`, for recovery, for standbys and for the reading of gaps alike.

A record must be a whole row under a key that belongs in its partition. Any other record is not taken in. It does not
end the worker either, which would meet it again at each start. A damaged record of an hour row may have been the newest
one. That does no harm if it claims to be no newer than a good record, or newer than the checkpoint: everything after
the checkpoint is folded again. Otherwise the last good row goes on as an incomplete row, or an empty row does where
there is none. Values are folded into it, and a question about it is answered 503 rather than with less than was
accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import NO_STAMP, Row, Version
from metrics_app.errors import FormatError, NewerFormatError
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.metric_key import fault_of

OLDEST = Version(-1, -1)
ALL_DISTINCT = 1 << 31  # decoding changes nothing


class Bad(NamedTuple):
    """A record that is not taken in.

    Attributes:
        reason: a sentence.
        row_key: the row it was meant for; empty when it is of no row of this partition.
        claimed: the version its header claims; None when it has no readable one.
    """

    reason: str
    row_key: bytes
    claimed: Version | None


class Good(NamedTuple):
    """A record that is whole and belongs here."""

    row_key: bytes
    value: bytes
    version: Version


def check(row_key: bytes | None, value: bytes | None, belongs: Callable[[bytes], bool]) -> Good | Bad:
    """The record, or what is wrong with it.

    Args:
        belongs: whether a metric key is one of this partition.

    Raises:
        NewerFormatError: a newer release has written it.
    """
    row_key = row_key or b""
    try:
        _check_key(row_key, belongs)
    except FormatError as error:
        return Bad(str(error), b"", None)
    if value is None:  # a tombstone: nothing here writes one
        return Bad("row: no value", row_key, OLDEST)
    try:
        return Good(row_key, value, _version(row_key[0], value))
    except NewerFormatError:
        raise
    except FormatError as error:
        return Bad(str(error), row_key, _claimed(value))


def _check_key(row_key: bytes, belongs: Callable[[bytes], bool]) -> None:
    kind = row_key[:1]
    if kind == bytes([rows.HOUR]) and len(row_key) > rows.HOUR_PREFIX_BYTES:
        _, key = rows.split_hour_key(row_key)
        if fault := fault_of(key):
            raise FormatError("row key", fault)
        if not belongs(key):
            raise FormatError("row key", f"{key!r} belongs in another partition")
    elif not (row_key == rows.CHECKPOINT_KEY or (kind == bytes([rows.IDS]) and len(row_key) == rows.IDS_KEY_BYTES)):
        raise FormatError("row key", f"{row_key[:20]!r} is of no kind of row")


def _version(kind: int, value: bytes) -> Version:
    if kind == rows.HOUR:
        row = rows.decode_row(value, ALL_DISTINCT)
        return Version(row.epoch, row.stamp)
    if kind == rows.IDS:
        rows.decode_ids(value)
    else:
        rows.decode_checkpoint(value)
    return rows.version_of(value)


def _claimed(value: bytes) -> Version | None:
    if len(value) < rows.MIN_VALUE_BYTES:  # no row is so short
        return OLDEST
    try:
        return rows.version_of(value)
    except FormatError:
        return None


def is_older(claimed: Version | None, current: bytes) -> bool:
    """Whether a damaged record surely was no newer than a good row."""
    return claimed is not None and claimed <= rows.version_of(current)


def rewritten(current: bytes | None, incomplete: bool) -> bytes:
    """An hour row that goes on from the last good one, or from none, and says whether it may lack values."""
    row = rows.decode_row(current, ALL_DISTINCT) if current is not None else Row(HourlySummary(), 0, NO_STAMP)
    row.incomplete = incomplete
    return rows.encode_row(row)
