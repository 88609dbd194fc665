"""A request sent again, to a collector that has changed its mind: each value that was ever accepted counts once."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.aggregator.fold import FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT, split_hour_key
from metrics_app.client.gathering import SentHistogram
from metrics_app.wire import bodies, record

NOW_S = 498_740 * 3600.0 + 1800.0
OLD_ID = "cd2569bd2099168a742f93489120e2f1"
JSON, LINES, MSGPACK = "application/json", "application/x-ndjson", "application/msgpack"


class Attempt(NamedTuple):
    """What may be another one each time a request is sent."""

    after_s: float = 0.0
    max_ahead_s: float = 300
    retention_s: float = 86_400
    chunk_values: int = 3


def fold_all(body: bytes, content_type: str, attempts: list[Attempt], request_id: bytes = b"r") -> PartitionFold:
    """What the attempts come to, each a record of its own."""
    fold = PartitionFold(lambda _row_key: None, FoldLimits(), NO_CHECKPOINT)
    for offset, attempt in enumerate(attempts):
        limits = bodies.BodyLimits(1000, attempt.max_ahead_s, attempt.retention_s, attempt.chunk_values)
        now_s = NOW_S + attempt.after_s
        parsed = bodies.parse(body, content_type, now_s, limits, request_id)
        fold.apply(offset, int(now_s * 1000), record.decode(record.encode(parsed.chunks)))
    return fold


def counted(fold: PartitionFold) -> tuple[int, float]:
    """Values and their sum, over all keys and hours."""
    found = [fold.find(key, hour) for hour, key in map(split_hour_key, fold.cache)]
    summaries = [row.summary for row in found if row is not None]
    return sum(summary.count for summary in summaries), sum(summary.sum for summary in summaries if summary.count)


def test_a_value_that_was_too_far_ahead_at_first_counts_when_the_request_is_sent_again():
    body = json.dumps([["a", 1, NOW_S], ["a", 2, NOW_S + 301.5]]).encode()
    assert counted(fold_all(body, JSON, [Attempt(), Attempt(after_s=3)])) == (2, 3.0)
    assert counted(fold_all(body, JSON, [Attempt(), Attempt(after_s=3), Attempt(), Attempt(after_s=4)])) == (2, 3.0)


def test_the_refused_one_may_be_in_the_middle_or_the_only_one_of_its_key():
    body = json.dumps([["a", 1, NOW_S], ["a", 2, NOW_S + 301], ["a", 4, NOW_S], ["b", 8, NOW_S + 301]]).encode()
    assert counted(fold_all(body, JSON, [Attempt(), Attempt(after_s=3), Attempt()])) == (4, 15.0)


def test_what_was_taken_at_first_and_is_too_old_now_stays_counted_and_hides_nothing():
    body = json.dumps([["a", 1, NOW_S - 86_399], ["a", 2, NOW_S - 86_300], ["a", 4, NOW_S - 86_398]]).encode()
    assert counted(fold_all(body, JSON, [Attempt(), Attempt(after_s=60), Attempt()])) == (3, 7.0)


def test_another_largest_record_cuts_the_request_elsewhere_and_changes_nothing():
    body = json.dumps([["a", n] for n in range(20)]).encode()
    assert counted(fold_all(body, JSON, [Attempt(chunk_values=n) for n in (3, 7, 100, 1)])) == (20, 190.0)


def test_a_retry_after_the_turn_of_the_hour_is_known():
    body = json.dumps([["a", 1], ["a", 2, NOW_S + 1801], ["a", 4]]).encode()
    attempts = [Attempt(), Attempt(after_s=1790), Attempt(after_s=1810)]
    assert counted(fold_all(body, JSON, attempts)) == (3, 7.0)


def test_a_histogram_among_values_keeps_its_checkpoints_whatever_is_refused_beside_it():
    hour, histogram = int(NOW_S // 3600), SentHistogram()
    histogram.add([8.0, 16.0])
    runs = [
        {"key": "a", "hour": hour + 1, "values": [1.0, 2.0]},
        {"key": "a", "hour": hour + 1, "histogram": histogram.body()},
        {"key": "a", "hour": hour, "values": [32.0, -1.0]},
        {"key": "a", "hour": hour, "histogram": histogram.body()},
        {"key": "a", "hour": hour, "values": [64.0]},
    ]
    body = json.dumps({"series": runs}).encode()
    attempts = [Attempt(), Attempt(after_s=1600, chunk_values=1), Attempt(chunk_values=2)]
    assert counted(fold_all(body, JSON, attempts)) == (7, 3.0 + 2 * 24.0 + 64.0)


def as_an_older_release(body: bytes, request_id: bytes) -> bytes:
    """The record of a collector from before there were places: each piece has an id of its own, by its number."""
    limits = bodies.BodyLimits(1000, 300, 86_400, 3)
    chunks = bodies.parse(body, JSON, NOW_S, limits, request_id).chunks
    named = [
        chunk._replace(first=0, ids=chunk.ids if chunk.first == 1 else blake2b(chunk.ids + b"%d" % piece).digest()[:16])
        for piece, chunk in enumerate(chunks)
    ]
    return record.encode(named)


@pytest.mark.parametrize("count", [2, 20])
def test_a_request_that_an_older_collector_took_is_known_when_it_is_sent_again_to_a_newer_one(count):
    body = json.dumps([["a", n] for n in range(count)]).encode()
    old = as_an_older_release(body, b"r")
    assert old[2] == record.VERSION, "which an older aggregator reads"
    fold = PartitionFold(lambda _row_key: None, FoldLimits(), NO_CHECKPOINT)
    fold.apply(0, int(NOW_S * 1000), record.decode(old))
    new = bodies.parse(body, JSON, NOW_S, bodies.BodyLimits(1000, 300, 86_400, 7), b"r").chunks
    assert fold.apply(1, int(NOW_S * 1000), new).duplicate_ids == count
    assert counted(fold) == (count, sum(range(count)))


def test_the_ids_are_those_of_an_older_release():
    """Golden: a collector that gives others counts again what was taken before it was upgraded."""
    (chunk,) = bodies.parse(b'["a",1]', JSON, NOW_S, bodies.BodyLimits(1000, 300, 86_400, 7), b"r").chunks
    assert chunk.ids.hex() == OLD_ID


times = st.sampled_from([None, -86_401, -86_399.5, -3600, 0, 299, 300.5, 301, 600, 1799, 3000])
items = st.lists(st.tuples(st.sampled_from("ab"), times, st.sampled_from([None, None, None, "x", "y"])), max_size=12)
attempts = st.lists(
    st.builds(
        Attempt,
        after_s=st.sampled_from([0, 1, 3, 60, 1500, 4000]),
        max_ahead_s=st.sampled_from([0, 300, 3000]),
        retention_s=st.sampled_from([3600, 86_400]),
        chunk_values=st.integers(1, 5),
    ),
    min_size=1,
    max_size=4,
)
Items = list[tuple[str, float | None, str | None]]


def value_of(given_items: Items, number: int) -> float:
    key, _, id_ = given_items[number]
    same = [at for at, (other, _, its_id) in enumerate(given_items) if id_ and (other, its_id) == (key, id_)]
    return 2.0 ** min([*same, number])


def as_objects(given_items: Items) -> list[dict[str, Any]]:
    """Samples of which each has a value of its own, but those of one id the same."""
    samples = []
    for number, (key, at, id_) in enumerate(given_items):
        sample: dict[str, Any] = {"key": key, "value": value_of(given_items, number)}
        if at is not None:
            sample["timestamp"] = NOW_S + at
        if id_ is not None:
            sample["id"] = id_
        samples.append(sample)
    return samples


def as_array(given_items: Items) -> bytes:
    return json.dumps(as_objects(given_items)).encode()


def as_lines(given_items: Items) -> bytes:
    return "\n".join(map(json.dumps, as_objects(given_items))).encode()


def as_table(given_items: Items) -> bytes:
    samples = as_objects(given_items)
    keys = sorted({sample["key"] for sample in samples})
    body = {
        "keys": keys,
        "index": [keys.index(sample["key"]) for sample in samples],
        "values": [float(sample["value"]) for sample in samples],
        "timestamps": [sample.get("timestamp") for sample in samples],
        "ids": [sample.get("id") for sample in samples],
    }
    return msgspec.msgpack.encode(body)


@pytest.mark.parametrize(("write", "content_type"), [(as_array, JSON), (as_lines, LINES), (as_table, MSGPACK)])
@settings(deadline=None)
@given(items.filter(bool), attempts)
def test_each_value_that_was_ever_accepted_counts_once(
    write: Callable[[Items], bytes], content_type: str, given_items: Items, tries: list[Attempt]
):
    expected: dict[Any, float] = {}
    for attempt in tries:
        now_s = NOW_S + attempt.after_s
        for number, (key, at, id_) in enumerate(given_items):
            timestamp = now_s if at is None else NOW_S + at
            if now_s - attempt.retention_s <= timestamp <= now_s + attempt.max_ahead_s:
                expected[(key, id_) if id_ else number] = value_of(given_items, number)
    found = fold_all(write(given_items), content_type, tries)
    assert counted(found) == (len(expected), sum(expected.values()))


series = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([-24, -23, 0, 1]), st.integers(0, 4), st.booleans()), max_size=6
)


@pytest.mark.parametrize(("encode", "content_type"), [(msgspec.json.encode, JSON), (msgspec.msgpack.encode, MSGPACK)])
@given(series, attempts)
def test_each_column_that_was_ever_accepted_counts_once(
    encode: Callable[[Any], bytes],
    content_type: str,
    given_series: list[tuple[str, int, int, bool]],
    tries: list[Attempt],
):
    hour, value, written = int(NOW_S // 3600), 0, []
    expected: dict[int, list[float]] = {}
    for number, (key, ahead, count, is_good) in enumerate(given_series):
        values = [2.0 ** (value + n) for n in range(count)]
        value += count
        written.append({"key": key, "hour": hour + ahead, "values": values if is_good else [*values, -1.0]})
        for attempt in tries:
            now_s = NOW_S + attempt.after_s
            oldest, newest = (now_s - attempt.retention_s) // 3600, (now_s + attempt.max_ahead_s) // 3600
            if is_good and oldest <= hour + ahead <= newest:
                expected[number] = values
    found = fold_all(encode({"series": written}), content_type, tries)
    all_values = [each for values in expected.values() for each in values]
    assert counted(found) == (len(all_values), sum(all_values))
