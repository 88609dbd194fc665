"""What the table of hours holds: row keys, and the bytes of the three kinds of row.

Called by everything in this package that reads or writes rows.

    kind        key                                         value
    hour        0x10 | hour u32 BE | metric key             header, ranges of numbers, summary: one key in one hour
    ids         0x20 | arrival hour u32 BE | offset u64 BE  header, what was claimed under ids in that source record
    checkpoint  0x30                                        header, how far this partition has been folded; its losses

Integers of a key are big-endian, so that one range delete drops the hours before a cutoff. Every value starts with the
same header. Its version (epoch, stamp) orders two states of the same row: `stamp` is the source offset up to which the
row is complete, `epoch` the incarnation of the source topic. One flag says that the row is incomplete: the only newer
record of it was damaged. A CRC-32 closes each value, in every version of the format.

Version 1 has 16 bytes for each id that stands for everything that came with it. Version 2 is written only when an id
stands for values at positions: a u32 counts these ids, and each has 32 bytes, the id and a range of positions.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from metrics_app.aggregator.ranges import WHOLE, Ranges
from metrics_app.errors import FormatError, other_version
from metrics_app.holdings import Loss
from metrics_app.stats import codec
from metrics_app.stats.summary import HourlySummary
from metrics_app.wire.chunk import ID_BYTES, SENDER_BYTES

HOUR = 0x10
IDS = 0x20
CHECKPOINT = 0x30
CHECKPOINT_KEY = bytes([CHECKPOINT])

MAGIC = 0xA5
VERSION = 2  # the newest that this program reads
PLAIN = 1  # version of all rows but checkpoints and ids with positions: older releases can read it
NO_STAMP = -1
INCOMPLETE = 1  # flag of an hour row
MOST = 2**64 - 1  # duplicates that a row has room to count; no other counter of it can pass the number of its values

_HEADER = struct.Struct("<BBHIq")  # magic, version, flags, epoch, stamp
_COUNTS = struct.Struct("<QQQH")  # late, duplicates, unfenced, senders
_SENDER = struct.Struct(f"<{SENDER_BYTES}sH")  # sender, number of ranges
_CHECKPOINT = struct.Struct("<dqI")  # as_of, log_ms, sealed; all there is of version 1
_CHECKPOINT_MORE = struct.Struct("<qH")  # clock_ms, number of losses
_LOSS = struct.Struct("<IIdQ")  # first hour, hour after the last one, since, records
_CRC = struct.Struct("<I")
_COUNT = struct.Struct("<I")
_CLAIM = struct.Struct(f"<{ID_BYTES}sQQ")  # id, first position, the one after the last
_KEY_PREFIX = struct.Struct(">BI")
_IDS_KEY = struct.Struct(">BIQ")

HOUR_PREFIX_BYTES = _KEY_PREFIX.size
IDS_KEY_BYTES = _IDS_KEY.size
_EMPTY_SUMMARY_BYTES = len(codec.encode(HourlySummary()))  # any other is longer

MIN_VALUE_BYTES = _HEADER.size + _CRC.size


class Version(NamedTuple):
    """Order of two states of a row: the greater one holds everything the other holds."""

    epoch: int
    stamp: int


@dataclass(slots=True)
class Row:
    """State of one key in one hour.

    Attributes:
        summary: the statistics.
        epoch, stamp: see the module; stamp is NO_STAMP for a row never written.
        late: values folded after the hour had closed.
        duplicates: values left out because they had been counted before.
        unfenced: values of senders beyond the bounds, counted but not protected against repetition.
        senders: per numbering sender the numbers already counted.
        incomplete: values recorded earlier may be missing: a state of the row was found damaged (`changelog.py`).
    """

    summary: HourlySummary
    epoch: int = 0
    stamp: int = NO_STAMP
    late: int = 0
    duplicates: int = 0
    unfenced: int = 0
    senders: dict[bytes, Ranges] = field(default_factory=dict)
    incomplete: bool = False

    @property
    def count(self) -> int:
        """Number of values."""
        return self.summary.count

    def leave_out(self, values: int) -> None:
        """Counts values that had come before."""
        self.duplicates = min(self.duplicates + values, MOST)

    @property
    def ranges(self) -> int:
        """Runs of numbers without a gap, of all senders."""
        return sum(len(ranges.edges) for ranges in self.senders.values()) // 2

    @property
    def missing(self) -> int:
        """Numbers below each sender's highest that never arrived."""
        return sum(ranges.missing for ranges in self.senders.values())


class Checkpoint(NamedTuple):
    """How far a partition is folded: every record up to `offset` of `epoch`, which is all there was at `as_of`.

    Attributes:
        log_ms: highest log-append time of the records folded, right or wrong; 0 when there was none.
        sealed: first hour whose rows have not been sealed (`fencing.py`).
        clock_ms: highest log-append time that a worker's own clock confirmed (`source_log.py`).
        losses: records that were gone before they could be folded, oldest first.
    """

    epoch: int
    offset: int
    as_of: float
    log_ms: int = 0
    sealed: int = 0
    clock_ms: int = 0
    losses: tuple[Loss, ...] = ()

    @property
    def version(self) -> Version:
        """What tells a newer one from an older one."""
        return Version(self.epoch, self.offset)


MOST_LOSSES = 32  # of a checkpoint; beyond it the oldest two become one


def with_loss(checkpoint: Checkpoint, loss: Loss) -> Checkpoint:
    """The checkpoint with one more loss noted."""
    losses = (*checkpoint.losses, loss)
    if len(losses) > MOST_LOSSES:
        losses = (losses[0].joined(losses[1]), *losses[2:])
    return checkpoint._replace(losses=losses)


NO_CHECKPOINT = Checkpoint(epoch=0, offset=NO_STAMP, as_of=0.0)


def hour_key(hour: int, key: bytes) -> bytes:
    """Row key of a metric key in an hour."""
    return _KEY_PREFIX.pack(HOUR, hour) + key


def split_hour_key(row_key: bytes) -> tuple[int, bytes]:
    """(hour, metric key) of an hour row."""
    _, hour = _KEY_PREFIX.unpack_from(row_key)
    return hour, row_key[_KEY_PREFIX.size :]


def ids_key(arrival_hour: int, offset: int) -> bytes:
    """Row key of the ids first seen in the source record at `offset`."""
    return _IDS_KEY.pack(IDS, arrival_hour, offset)


def split_ids_key(row_key: bytes) -> tuple[int, int]:
    """(arrival hour, offset) of an ids row."""
    _, arrival_hour, offset = _IDS_KEY.unpack(row_key)
    return arrival_hour, offset


def before(kind: int, hour: int) -> tuple[bytes, bytes]:
    """Key range [from, to) of the rows of one kind older than an hour."""
    return _KEY_PREFIX.pack(kind, 0), _KEY_PREFIX.pack(kind, max(hour, 0))


def version_of(value: bytes) -> Version:
    """Order of a stored value, read from its header alone.

    Raises:
        NewerFormatError: a newer release has written it.
        FormatError: not a value of this table.
    """
    if len(value) < MIN_VALUE_BYTES or value[0] != MAGIC:
        raise FormatError("row", "no header")
    _, version, _, epoch, stamp = _HEADER.unpack_from(value)
    if not PLAIN <= version <= VERSION:
        raise other_version("row", version, VERSION)
    return Version(epoch, stamp)


def encode_row(row: Row) -> bytes:
    """Bytes of an hour row; the same state gives the same bytes."""
    parts = [_COUNTS.pack(row.late, row.duplicates, row.unfenced, len(row.senders))]
    for sender in sorted(row.senders):
        edges = row.senders[sender].edges
        parts.append(_SENDER.pack(sender, len(edges) // 2) + struct.pack(f"<{len(edges)}Q", *edges))
    parts.append(codec.encode(row.summary))
    return _seal(row.epoch, row.stamp, b"".join(parts), INCOMPLETE if row.incomplete else 0)


def decode_row(value: bytes, exact_distinct: int) -> Row:
    """The hour row of stored bytes.

    Raises:
        FormatError: truncated, damaged, or of another version.
    """
    (epoch, stamp), body = _open(value)
    try:
        late, duplicates, unfenced, senders = _COUNTS.unpack_from(body)
        ranges: dict[bytes, Ranges] = {}
        at = _COUNTS.size
        for _ in range(senders):
            sender, count = _SENDER.unpack_from(body, at)
            at += _SENDER.size
            ranges[sender] = Ranges(list(struct.unpack_from(f"<{2 * count}Q", body, at)))
            at += 16 * count
    except struct.error as error:
        raise FormatError("row", str(error)) from error
    summary = codec.decode(body[at:], exact_distinct)
    return Row(summary, epoch, stamp, late, duplicates, unfenced, ranges, is_incomplete(value))


def is_incomplete(value: bytes) -> bool:
    """Whether an hour row says that it may lack values, read from its header alone."""
    return bool(_HEADER.unpack_from(value)[2] & INCOMPLETE)


def counts_values(value: bytes) -> bool:
    """Whether an hour row has counted any value; one that has only seen duplicates, or numbers, has not.

    Raises:
        FormatError: not an hour row.
    """
    return len(value) - _CRC.size - _start_of_summary(value) > _EMPTY_SUMMARY_BYTES


def glance(value: bytes, q: float) -> tuple[int, float]:
    """How many values an hour row has counted, and a bound that their quantile `q` is not above, from its bytes.

    Raises:
        FormatError: damaged, or not an hour row.
    """
    if zlib.crc32(memoryview(value)[: -_CRC.size]) != int.from_bytes(value[-_CRC.size :], "little"):
        raise FormatError("row", "checksum does not match")
    return codec.glance(value[_start_of_summary(value) : -_CRC.size], q)


def _start_of_summary(value: bytes) -> int:
    try:
        at = _HEADER.size
        *_, senders = _COUNTS.unpack_from(value, at)
        at += _COUNTS.size
        for _ in range(senders):
            _, ranges = _SENDER.unpack_from(value, at)
            at += _SENDER.size + 16 * ranges
    except struct.error as error:
        raise FormatError("row", str(error)) from error
    return at


def encode_ids(epoch: int, offset: int, claims: Mapping[bytes, Ranges]) -> bytes:
    """Bytes of an ids row: what was claimed under each id."""
    all_of_it = [*WHOLE]
    whole = [id_ for id_, ranges in claims.items() if ranges.edges == all_of_it]
    if len(whole) == len(claims):
        return _seal(epoch, offset, b"".join(whole))
    placed = [
        _CLAIM.pack(id_, *part)
        for id_, ranges in claims.items()
        if ranges.edges != all_of_it
        for part in zip(ranges.edges[::2], ranges.edges[1::2], strict=True)
    ]
    return _seal(epoch, offset, b"".join([_COUNT.pack(len(whole)), *whole, *placed]), version=VERSION)


def decode_ids(value: bytes) -> dict[bytes, tuple[int, ...]]:
    """What was claimed under each id of an ids row, as edges of `Ranges`."""
    _, body = _open(value, VERSION)
    if value[1] == PLAIN:
        return _whole_ids(body)
    try:
        (count,) = _COUNT.unpack_from(body)
        start = _COUNT.size + count * ID_BYTES
        claims = _whole_ids(body[_COUNT.size : start])
        for id_, *part in _CLAIM.iter_unpack(body[start:]):
            claims[id_] = (*claims.get(id_, ()), *part)
    except struct.error as error:
        raise FormatError("ids", str(error)) from error
    return claims


def _whole_ids(body: bytes) -> dict[bytes, tuple[int, ...]]:
    if len(body) % ID_BYTES:
        raise FormatError("ids", f"{len(body):,} bytes are not whole ids")
    return dict.fromkeys([body[at : at + ID_BYTES] for at in range(0, len(body), ID_BYTES)], WHOLE)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Bytes of the checkpoint row."""
    parts = [
        _CHECKPOINT.pack(checkpoint.as_of, checkpoint.log_ms, checkpoint.sealed),
        _CHECKPOINT_MORE.pack(checkpoint.clock_ms, len(checkpoint.losses)),
    ]
    parts += [_LOSS.pack(*loss) for loss in checkpoint.losses]
    return _seal(checkpoint.epoch, checkpoint.offset, b"".join(parts), version=VERSION)


def decode_checkpoint(value: bytes) -> Checkpoint:
    """The checkpoint of stored bytes."""
    (epoch, offset), body = _open(value, VERSION)
    try:
        as_of, log_ms, sealed = _CHECKPOINT.unpack_from(body)
        if believed_the_log(value):
            return Checkpoint(epoch, offset, as_of, log_ms, sealed, clock_ms=log_ms)
        clock_ms, losses = _CHECKPOINT_MORE.unpack_from(body, _CHECKPOINT.size)
        start, stop = (
            _CHECKPOINT.size + _CHECKPOINT_MORE.size,
            _CHECKPOINT.size + _CHECKPOINT_MORE.size + losses * _LOSS.size,
        )
        found = tuple(Loss(*fields) for fields in _LOSS.iter_unpack(body[start:stop]))
        return Checkpoint(epoch, offset, as_of, log_ms, sealed, clock_ms, found)
    except struct.error as error:
        raise FormatError("checkpoint", str(error)) from error


def believed_the_log(value: bytes) -> bool:
    """Whether the release that wrote this checkpoint took the log's clock as it was, and deleted by it."""
    return value[1] == PLAIN


def _seal(epoch: int, stamp: int, body: bytes, flags: int = 0, version: int = PLAIN) -> bytes:
    sealed = _HEADER.pack(MAGIC, version, flags, epoch, stamp) + body
    return sealed + _CRC.pack(zlib.crc32(sealed))


def _open(value: bytes, newest: int = PLAIN) -> tuple[Version, bytes]:
    # first: a bit turned in the version byte makes no newer release
    if (
        len(value) >= MIN_VALUE_BYTES
        and zlib.crc32(memoryview(value)[: -_CRC.size]) != _CRC.unpack(value[-_CRC.size :])[0]
    ):
        raise FormatError("row", "checksum does not match")
    version = version_of(value)
    if value[1] > newest:
        raise other_version("row", value[1], newest)
    return version, value[_HEADER.size : -_CRC.size]
