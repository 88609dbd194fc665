"""Dead letters: the rule that stops, the headers, and samples that come back once however often they are sent."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from metrics_app.aggregator.dead_letters import (
    Letter,
    LetterOrigin,
    StopRule,
    headers_of,
    open_letters,
    read_letter,
    replayed_headers,
    revived,
)
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT
from metrics_app.errors import FormatError
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk

HOUR = 498_740
ORIGIN = LetterOrigin("samples", 3, 1234)
MESSAGE: Any = SimpleNamespace(topic="samples", partition=3, offset=1234, timestamp=1_700_000_000_123)


def one(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


CHUNKS = [
    Chunk(b"plain", HOUR, one(1, 2)),
    Chunk(b"plain", HOUR, one(3)),
    Chunk(b"numbered", HOUR, one(4), sender=b"s" * 16, first=0),
    Chunk(b"named", HOUR, one(5, 6), ids=b"i" * 16 + b"j" * 16),
]


def letter(chunks: list[Chunk] = CHUNKS, origin: LetterOrigin = ORIGIN) -> Letter:
    return Letter(origin, "fold: a bug", 1, record.encode(chunks))


def note_all(rule: StopRule, *reasons: str | None) -> None:
    for reason in reasons:
        rule.note(reason)


def test_a_hundred_in_a_row_break_the_rule_and_a_good_one_in_between_does_not():
    rule = StopRule(percent=100)
    note_all(rule, *["bad"] * 99, None, *["bad"] * 99)
    assert rule.broken is None
    rule.note("record: version 99")
    assert rule.broken is not None
    assert "100 records in a row could not be folded, the last one because of record: version 99" in rule.broken


def test_more_than_a_percent_of_the_last_ten_thousand_break_the_rule():
    rule = StopRule()
    for _ in range(100):
        note_all(rule, "bad", *[None] * 98)  # 100 of 9,900
    assert rule.broken is None
    rule.note("bad")
    assert rule.broken is not None
    assert "101 of the last 9,901 records" in rule.broken


def test_what_is_longer_ago_than_the_window_is_forgotten():
    rule = StopRule()
    for _ in range(300):
        note_all(rule, "bad", *[None] * 99)  # one percent, and no more
    assert rule.broken is None


def test_a_rule_once_broken_stays_broken():
    rule = StopRule(in_row=1)
    note_all(rule, "first", None, "second")
    assert rule.broken is not None
    assert "first" in rule.broken


def test_a_letter_says_where_when_and_why():
    found = read_letter(headers_of(MESSAGE, "record: a: b"), b"value")
    assert found == Letter(ORIGIN, "record: a: b", 1_700_000_000_123, b"value")
    assert found.kind == "record"


@pytest.mark.parametrize("headers", [[], [("topic", b"x")], [*headers_of(MESSAGE, "r")[:2], ("offset", b"many")]])
def test_what_is_no_letter_is_refused(headers: Any):
    with pytest.raises(FormatError, match="dead letter"):
        read_letter(headers, b"value")


def test_letters_that_were_replayed_and_letters_written_twice_are_not_open():
    """The next owner of a partition puts a record aside again."""
    other = letter(origin=ORIGIN._replace(offset=5))
    note = read_letter(replayed_headers(other), b"")
    assert open_letters([letter(), other, letter(), note]) == [letter()]


@pytest.mark.parametrize("first_try_lost", [False, True])
def test_samples_replayed_many_times_count_once(first_try_lost: bool):
    """A replay may be interrupted behind any record; then it is made again from the first."""
    fold = PartitionFold(dict[bytes, bytes]().get, FoldLimits(), NO_CHECKPOINT)
    records = [value for _, value in revived(letter(), 1 << 20, 1)]
    for offset, value in enumerate([*([] if first_try_lost else records), *records, *records]):
        fold.apply(offset, HOUR * HOUR_MS, record.decode(value))
    found = {key: fold.find(key, HOUR) for key in (b"plain", b"numbered", b"named")}
    assert {key: row and row.summary.sum for key, row in found.items()} == {b"plain": 6, b"numbered": 4, b"named": 11}


def test_letters_of_other_origins_are_other_samples():
    fold = PartitionFold(dict[bytes, bytes]().get, FoldLimits(), NO_CHECKPOINT)
    for offset in range(2):
        ((_, value),) = revived(letter([Chunk(b"k", HOUR, one(1))], ORIGIN._replace(offset=offset)), 1 << 20, 1)
        fold.apply(offset, HOUR * HOUR_MS, record.decode(value))
    row = fold.find(b"k", HOUR)
    assert row is not None
    assert row.summary.count == 2


def test_a_letter_of_a_topic_made_anew_is_another_one_though_its_offset_is_the_same():
    before, after = (Letter(ORIGIN, "fold: a bug", timestamp_ms, record.encode(CHUNKS)) for timestamp_ms in (1, 2))
    replayed = Letter(ORIGIN, "replayed", 1, b"")
    assert open_letters([before, replayed, after]) == [after]
    ids = [
        {chunk.ids for _, one in revived(each, 10_000, 1) for chunk in record.decode(one)} for each in (before, after)
    ]
    assert ids[0] & ids[1] == {b"", CHUNKS[-1].ids}, "only what had ids of its own keeps them"


def test_records_that_have_grown_by_their_ids_are_parted_and_keep_them():
    chunks = [Chunk(b"k%d" % number, HOUR, one(number)) for number in range(100)]
    whole = [chunk for _, value in revived(letter(chunks), 1 << 20, 1) for chunk in record.decode(value)]
    parts = [value for _, value in revived(letter(chunks), 1000, 1)]
    assert len(parts) > 1
    assert max(len(part) for part in parts) <= 1000
    assert [chunk for value in parts for chunk in record.decode(value)] == whole


def test_what_cannot_be_read_stays_a_dead_letter():
    with pytest.raises(FormatError):
        revived(letter()._replace(value=b"garbage"), 1 << 20, 1)


def test_keys_that_were_in_a_partition_of_others_come_back_to_their_own():
    chunks = [Chunk(b"k%d" % number, HOUR, one(number)) for number in range(20)]
    back = revived(letter(chunks), 1 << 20, 4)
    assert sorted(partition for partition, _ in back) == [0, 1, 2, 3]
    found = [chunk for partition, value in back for chunk in record.decode(value, record.RecordSource(partition, 4))]
    assert {(chunk.key, bytes(chunk.values)) for chunk in found} == {(chunk.key, chunk.values) for chunk in chunks}
