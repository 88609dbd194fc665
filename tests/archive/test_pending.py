from __future__ import annotations

import pytest

from metrics_app.aggregator import row as rows
from metrics_app.archive.pending import Pending
from tests.archive.changelogs import HOUR, row_of, sealed


def taken(pending: Pending, *records: tuple[bytes | None, bytes | None], start: int = 0) -> Pending:
    for offset, (key, value) in enumerate(records, start):
        pending.take(offset, key, value)
    return pending


def ours(key: bytes) -> bool:
    return not key.startswith(b"other")


def at(hour: int, key: bytes = b"k") -> bytes:
    return rows.hour_key(hour, key)


def test_an_hour_is_ready_when_a_checkpoint_says_that_it_is_sealed():
    pending = taken(Pending(ours), (at(HOUR), row_of([1])), (at(HOUR + 1), row_of([2])), sealed(HOUR))
    assert pending.ready() == {}
    taken(pending, sealed(HOUR + 1), start=3)
    assert pending.ready() == {HOUR: {b"k": row_of([1])}}


def test_of_states_in_any_order_the_newest_is_held():
    old, new = row_of([1], stamp=1), row_of([1, 2], stamp=2)
    for states in ((old, new), (new, old), (new, new)):
        pending = taken(Pending(ours), *((at(HOUR), state) for state in states), sealed(HOUR + 1))
        assert pending.ready() == {HOUR: {b"k": new}}


def test_a_new_process_reads_from_the_first_record_that_waits():
    pending = taken(
        Pending(ours),
        (at(HOUR), row_of([1])),
        (at(HOUR + 1), row_of([2])),
        (at(HOUR), row_of([1, 1], 2)),
        sealed(HOUR + 1),
    )
    assert (pending.position, pending.resume) == (4, 0)
    pending.archived(HOUR)
    assert pending.resume == 1
    taken(pending, sealed(HOUR + 2), start=4)
    pending.archived(HOUR + 1)
    assert pending.resume == pending.position == 5


def test_beyond_its_memory_the_latest_hours_are_read_another_time():
    log = [(at(HOUR + age, key), row_of([age])) for age in (2, 1, 0) for key in (b"a", b"b")] + [sealed(HOUR + 3)]
    pending = taken(Pending(ours, most_bytes=3 * len(log[0][1])), *log)
    seen = []
    while ready := pending.ready():
        for hour, found in ready.items():
            assert set(found) == {b"a", b"b"}
            pending.archived(hour)
            seen.append(hour)
        if pending.read_again():
            taken(pending, *log[pending.position :], start=pending.position)
    assert sorted(seen) == [HOUR, HOUR + 1, HOUR + 2]
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (at(HOUR, b"other"), row_of([1])),
        (b"junk", b"junk"),
        (None, None),
        (b"\x20", b""),
        (at(HOUR, b"\xff"), row_of([1])),
    ],
)
def test_what_does_not_belong_there_is_counted_and_left_out(key: bytes | None, value: bytes | None):
    pending = taken(Pending(ours), (key, value), sealed(HOUR + 1))
    assert (pending.ready(), pending.bad) == ({}, 1)


def test_a_damaged_newest_state_makes_the_row_incomplete_and_a_damaged_old_one_does_not():
    good, damaged = row_of([1], stamp=5), bytearray(row_of([1, 2], stamp=6))
    damaged[-6] ^= 1
    pending = taken(Pending(ours), (at(HOUR), good), (at(HOUR), bytes(damaged)), sealed(HOUR + 1))
    assert rows.is_incomplete(pending.ready()[HOUR][b"k"])
    old = bytearray(row_of([1, 2], stamp=4))
    old[-6] ^= 1
    pending = taken(Pending(ours), (at(HOUR), good), (at(HOUR), bytes(old)), sealed(HOUR + 1))
    assert pending.ready() == {HOUR: {b"k": good}}
