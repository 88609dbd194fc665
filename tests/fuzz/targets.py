"""Every place where bytes of others come in. Each target takes any bytes, and fails only where the product has a bug.

Called by `test_targets`, with what Hypothesis makes up, and by `coverage_guided`, with what atheris does.

A target lets an error of ours pass (`MetricsError`); any other exception, and an answer that contradicts itself, fails.
Formats with a checksum are read twice: as they came, and with the checksum made right, or nothing would get past it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web
from multidict import CIMultiDict

from metrics_app.aggregator import changelog, dead_letters, deduplication
from metrics_app.aggregator import row as rows
from metrics_app.aggregator.fold import HOUR_MS, FoldLimits, PartitionFold
from metrics_app.aggregator.row import NO_CHECKPOINT
from metrics_app.client import transport
from metrics_app.client.segments import SEGMENT, Segments
from metrics_app.collector import body as collector_body
from metrics_app.collector.views import idempotency_key
from metrics_app.errors import FormatError, InvalidBodyError, InvalidQueryError, MetricsError, SettingsError
from metrics_app.http.proof import ROLE
from metrics_app.http.tokens import Tokens
from metrics_app.query import all_workers, keys, merging, ranked_keys, ranking
from metrics_app.query.merging import MergedHere
from metrics_app.query.question import Policy, parameters, question_of
from metrics_app.query.ranking import RankedHere
from metrics_app.query.reply import format_of
from metrics_app.query.statistics import Statistic
from metrics_app.query.views import ALWAYS, WORDS, KeyQuestion
from metrics_app.sources import otlp, spans
from metrics_app.sources.key_template import KeyTemplate
from metrics_app.sources.spans import SpanRules
from metrics_app.stats import codec
from metrics_app.stats.statistic import STATS
from metrics_app.stats.summary import EXACT_DISTINCT, HourlySummary, value_of
from metrics_app.wire import bodies, dropped, record
from metrics_app.wire.chunk import Chunk
from tests.fuzz import seeds
from tests.fuzz.in_memory import InMemoryWorker

NOW_S = seeds.HOUR * 3600.0 + 1800
LIMITS = bodies.BodyLimits(max_items=1000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=50, max_rows=100)
FOLD = FoldLimits(exact_distinct=3, max_senders=2, max_ranges=3)
POLICY = Policy("ms", 744, 1000)
MOST_INFLATED = 1 << 16
DATE = re.compile(rb"Date: [^\r]+")


def read_summary(data: bytes) -> None:
    """A summary is refused, or is one that can be asked, merged and written again as it was."""
    try:
        summary = codec.decode(data, EXACT_DISTINCT)
    except FormatError:
        return
    assert codec.encode(codec.decode(codec.encode(summary), EXACT_DISTINCT)) == codec.encode(summary)
    if summary.count:
        for stat in STATS:
            value_of(summary, stat)
    other = HourlySummary(2)
    other.merge(summary)
    assert other.count == summary.count


def read_record(data: bytes) -> None:
    """A record is refused, or comes back from its chunks, and what is folded of it can be written and read."""
    for value in (data, seeds.resealed_record(data), seeds.resealed_record(data[8:])):
        with suppress(FormatError):
            _fold(record.decode(value))


def _fold(chunks: list[Chunk]) -> None:
    assert record.decode(record.encode(chunks)) == chunks
    fold = PartitionFold(dict[bytes, bytes]().get, FOLD, NO_CHECKPOINT)
    for offset in range(2):  # the second time its ids and numbers have been seen
        tally = fold.apply(offset, seeds.HOUR * HOUR_MS, chunks)
        told = tally.folded + tally.replayed + tally.duplicate_numbers + tally.duplicate_ids + tally.expired
        assert sum(chunk.count for chunk in chunks) == told + tally.overlapping + tally.overfull
    flush = fold.take(as_of=0.0)
    assert rows.decode_checkpoint(rows.encode_checkpoint(flush.checkpoint)) == flush.checkpoint
    for row_key, value in flush.rows:
        assert isinstance(changelog.check(row_key, value, lambda _: True), changelog.Good)


def read_row(data: bytes) -> None:
    """A changelog record under each kind of key is taken in or is bad; what is taken in can be written again."""
    for value in (data, seeds.resealed_row(data)):
        for row_key in (rows.hour_key(seeds.HOUR, b"a"), rows.ids_key(seeds.HOUR, 7), rows.CHECKPOINT_KEY):
            with suppress(FormatError):  # of a newer release
                _take_in(row_key, value)
        with suppress(FormatError):
            rows.counts_values(value)
    with suppress(FormatError):
        changelog.check(data, seeds.ROWS[0], lambda _: True)


def _take_in(row_key: bytes, value: bytes) -> None:
    checked = changelog.check(row_key, value, lambda _: True)
    if isinstance(checked, changelog.Bad):
        return
    if row_key[0] == rows.HOUR:
        rewritten = changelog.rewritten(value, rows.is_incomplete(value))
        assert changelog.rewritten(rewritten, rows.is_incomplete(value)) == rewritten
        rows.decode_row(value, FOLD.exact_distinct)
    elif row_key[0] == rows.CHECKPOINT:
        checkpoint = rows.decode_checkpoint(value)
        again = rows.decode_checkpoint(rows.encode_checkpoint(checkpoint))
        assert repr(again) == repr(checkpoint)  # a time may be NaN
    else:
        for _, entry in deduplication._occurrences(row_key, value):
            assert list(deduplication._decode(entry))


def read_entry(data: bytes) -> None:
    """An entry of an id is refused, or joins with itself to one that says the same."""
    with suppress(FormatError):
        joined = deduplication._joined(data, data)
        assert deduplication._joined(joined, joined) == joined


def read_body(data: bytes) -> None:
    """A body is refused, or all of it is accounted for, and its chunks fit into a record and come back."""
    head, sent = data[0] if data else 0, data[1:]
    content_type = seeds.CONTENT_TYPES[(head & 7) % len(seeds.CONTENT_TYPES)]
    try:
        body = bodies.inflate(sent, MOST_INFLATED) if head & 8 else sent
        assert len(body) <= MOST_INFLATED or not head & 8
        parsed = bodies.parse(body, content_type, NOW_S, LIMITS, b"r" if head & 16 else b"")
    except InvalidBodyError:
        return
    assert parsed.accepted == sum(chunk.count for chunk in parsed.chunks)
    assert len(parsed.rejected) <= parsed.reasons.total()
    assert record.decode(record.encode(parsed.chunks)) == parsed.chunks


SPANS = SpanRules(frozenset({"server"}), KeyTemplate.of("{service.name} {name}"), 1_000_000)


def read_spans(data: bytes) -> None:
    """An export is refused, or each of its spans is taken or rejected, and what is kept fits into a record."""
    form = (otlp.PROTOBUF, otlp.JSON)[(data[0] if data else 0) & 1]
    parts = bodies.BodyParts(NOW_S, LIMITS)
    with suppress(InvalidBodyError):
        sum(otlp.points(data[1:], form))
    try:
        for _ in spans.read(otlp.spans(data[1:], form, SPANS.template.names), SPANS, parts):
            pass
    except InvalidBodyError:
        return
    parsed = parts.done()
    assert parsed.accepted == sum(chunk.count for chunk in parsed.chunks)
    assert record.decode(record.encode(parsed.chunks)) == parsed.chunks


def read_question(data: bytes) -> None:
    """A path with a query string is refused, or is a question about hours that there are."""
    path, _, query = data.decode("utf-8", "surrogateescape").partition("?")
    _, *segments = path.split("/")[:5] if "/" in path else ("", path)
    named = dict(zip(("key", "stat", "date", "hour"), segments, strict=False))
    if len(segments) > 1:
        kind: type[KeyQuestion] = WORDS.get(named["stat"], Statistic)
        allowed = (*ALWAYS, *kind.parameters("date" in named, POLICY))
        with suppress(InvalidQueryError):
            window = kind.of(question_of(path, query, named, allowed, POLICY, NOW_S), POLICY).question.window
            assert 0 <= window.first < window.end
            assert window.bounds
    with suppress(InvalidQueryError):
        _read_listing(parameters(query, (*keys.PARAMETERS, *ranked_keys.RANKING_PARAMETERS)))


def _read_listing(given: dict[str, str]) -> None:
    if "sort" in given:
        asked = ranked_keys.Ranking.of(given, "", POLICY, NOW_S).asked(None)
        assert all(0 <= span.start < span.stop for span in asked.order.spans)
    else:
        assert keys.Listing.of(given, "", POLICY, NOW_S).times


def read_header(data: bytes) -> None:
    """The text of every header that is read; as aiohttp has it, bytes that are not UTF-8 as surrogates."""
    text = data.decode("utf-8", "surrogateescape")
    assert format_of({}, text) in ("json", "csv")
    given = SimpleNamespace(headers=CIMultiDict({"Idempotency-Key": text, "Content-Encoding": text}))
    for read in (dropped.read, lambda text: bodies.parse(b'["a",1]', text, NOW_S, LIMITS)):
        with suppress(MetricsError):
            cast("Callable[[str], Any]", read)(text)
    for read_from in (idempotency_key, collector_body.is_gzipped):
        with suppress(MetricsError):
            cast("Callable[[Any], Any]", read_from)(given)


def read_reply(data: bytes) -> None:
    """What a collector says to a client, and a worker to another one, is used or passed over."""
    said = transport._read(data)
    assert said.accepted is None or isinstance(said.accepted, int)
    listing = keys.Listing.of({"date": "2026-11-23"}, "", POLICY, NOW_S)
    held = keys.read_held(web.Response(body=data, headers={ROLE: "active"}), listing)
    if held is not None:
        keys.joined(listing, [held], partitions=4)
    reply = web.Response(body=data, headers={ROLE: "active"})
    if (ranked := all_workers.read(reply, RankedHere)) is not None:
        ranking.joined([ranked], 2, partitions=4)
    if (merged := all_workers.read(reply, MergedHere)) is not None:
        merging.whole_of([merged], partitions=4)


def read_letter(data: bytes) -> None:
    """The headers and the value of a dead letter are refused, or its samples come back in records."""
    fields = data.split(b"\0")
    headers = [(name.decode(errors="replace"), value) for name, value in zip(fields[::2], fields[1::2], strict=False)]
    with suppress(FormatError):
        letter = dead_letters.read_letter(headers, seeds.resealed_record(data[-64:]))
        assert dead_letters.revived(letter._replace(value=seeds.RECORDS[zlib.crc32(data) % 3]), 1 << 10, 4)
        dead_letters.revived(letter, 1 << 10, 4)


def read_spool(data: bytes) -> None:
    """Of a file of the spool every whole batch is read, and what is left of it can be read again."""
    for content in (data, seeds.resealed_segment(data)):
        with TemporaryDirectory() as folder:
            owner = "0" * 32
            (Path(folder) / f"{owner}-000001{SEGMENT}").write_bytes(content)
            found = _left(Path(folder), owner)
            assert _left(Path(folder), owner) == found


def _left(folder: Path, owner: str) -> list[object]:
    segments = Segments(folder, 1 << 20, sync=False, owner=owner)
    try:
        loaded = [stored.load() for stored in segments.read()]
        assert None not in loaded
        return [*loaded]
    except FormatError:  # no file of a spool: it is left as it is
        return []
    finally:
        segments.abandon()


def read_tokens(data: bytes) -> None:
    """A file of tokens is refused, or says who may come in."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        path.touch(mode=0o600)
        path.write_bytes(data)
        with suppress(SettingsError):
            assert Tokens(path).caller(seeds.TOKEN) is None or seeds.TOKEN_FILES[0][-66:-2] in data


@cache
def _worker(guarded: bool = False, lane: bool = True) -> InMemoryWorker:
    return InMemoryWorker(guarded, lane)


def read_requests(data: bytes) -> None:
    """What comes over a connection is answered, without a 5xx but for a 503, and then the connection ends."""
    assert all(status < 500 or status == 503 for status in _worker().answer(data))


def read_requests_both_ways(data: bytes) -> None:
    """Small requests are answered past aiohttp as they are by it, to the byte, and the same samples are taken."""
    if b"metrics" in data:  # counters differ
        return
    said = []
    for lane in (True, False):
        worker = _worker(lane=lane)
        worker.sink.chunks.clear()
        said.append((DATE.sub(b"Date: x", worker.said(data)), [*worker.sink.chunks]))
    assert said[0] == said[1]


def read_requests_of_strangers(data: bytes) -> None:
    """The same where a token is needed: without it nobody gets as far as a row, nor puts a sample in."""
    worker = _worker(guarded=True)
    worker.sink.chunks.clear()
    worker.reader.was_asked = False
    assert all(status < 500 or status == 503 for status in worker.answer(data))
    if seeds.TOKEN.encode() not in data:
        assert not worker.sink.chunks
        assert not worker.reader.was_asked
    assert all(chunk.key.startswith(b"check") for chunk in worker.sink.chunks)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "summary": read_summary,
    "record": read_record,
    "row": read_row,
    "entry": read_entry,
    "body": read_body,
    "spans": read_spans,
    "question": read_question,
    "header": read_header,
    "reply": read_reply,
    "letter": read_letter,
    "spool": read_spool,
    "tokens": read_tokens,
    "http": read_requests,
    "lane": read_requests_both_ways,
    "guarded": read_requests_of_strangers,
}
