"""Makes docs/limits.md: every limit, its number from the code, what happens beyond it, and why it is that number.

Called by `make docs` and by `tests/test_docs.py`. A setting that begins with `max_` and is not told of here gets a row
from its description, so that the page is never without it.
"""

# ruff: noqa: E501 # a row of the page is a line

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NamedTuple

from aiohttp.web_protocol import RequestHandler

from metrics_app.aggregator import fold
from metrics_app.aggregator.fold import FoldLimits
from metrics_app.client.options import Options
from metrics_app.collector import body, lane, publisher, senders
from metrics_app.faust_runtime import connection, web_server
from metrics_app.http import problems
from metrics_app.query import peers, reading, statistics
from metrics_app.settings import PREFIX, Settings
from metrics_app.stats import scale6
from metrics_app.wire import bodies, chunk, columnar_body, gathering, metric_key, record

PAGE = Path(__file__).parent.parent / "docs" / "limits.md"

INTRODUCTION = """\
# Limits

Every limit there is, with its default, what happens beyond it, and why it is that number. A name that begins with
`METRICS_` is a setting (`settings.md`); the others are constants of this release. "Rejected" means: the values are not
kept, the reply names them with this reason, and the rest of the request is kept. A status stands for the whole request:
nothing of it is kept. A 503 has `Retry-After`; the same request may be sent again.

This page is generated: `make docs`.
"""


class Limit(NamedTuple):
    """A row: the name of a setting, or a constant in words with its number; what happens beyond it; why that number."""

    what: str
    number: float | None
    beyond: str
    why: str


def _of(name: str, beyond: str, why: str) -> Limit:
    """The row of a setting."""
    assert name in Settings.model_fields, name
    return Limit(name, None, beyond, why)


_HTTP = {name: each.default for name, each in inspect.signature(RequestHandler.__init__).parameters.items()}
_FOLD = FoldLimits()
_CLIENT = Options()

SECTIONS: dict[str, list[Limit]] = {
    "Connections": [
        _of("max_connections", "one that has asked nothing yet is closed, else 503", "each takes a descriptor; fewer where `ulimit -n` leaves less"),
        Limit("seconds without a whole request header", problems.IDLE_S, "the connection is closed", "longer than a browser or a proxy pauses; silent clients hold descriptors"),
        Limit("seconds in which a client reads nothing of a reply", connection.WRITE_S, "the connection is closed", "what is not read stays in memory"),
        Limit("seconds of a TLS handshake", web_server.HANDSHAKE_S, "the connection is closed", "several round trips over a bad line"),
        Limit("bytes of a request line", _HTTP["max_line_size"], "400", "aiohttp's; a key of 256 encoded bytes takes 768"),
        Limit("bytes of a header", _HTTP["max_field_size"], "400", "aiohttp's"),
        Limit("headers of a request", _HTTP["max_headers"], "400", "aiohttp's"),
        Limit("requests begun in a turn of the event loop", connection.BEGUN_A_TURN, "the others wait in line", "a turn stays below some 20 ms"),
    ],
    "A request with samples": [
        _of("max_body_bytes", "413", "50,000 pairs of 20 bytes"),
        _of("max_inflated_bytes", "413; no more than that is decompressed", "eight times the body: more than most texts of samples are packed"),
        Limit("gzip members of a body", bodies.MAX_GZIP_MEMBERS, "400", "each costs a copy of what follows it"),
        _of("body_timeout_s", "408", "1 MiB over a line of 1 Mbit/s"),
        _of("max_items", "413", "as many keys take a second to read; a histogram counts as its buckets and a few more"),
        _of("max_rows", "413", "a row costs the fold about 30 µs"),
        Limit("rejected items that a reply lists", gathering.LISTED, "the others are counted in `rejected_count`", "the first few show the mistake"),
        Limit("characters of an `Idempotency-Key`", 255, "400", "a UUID has 36"),
        Limit("characters of the `id` of a sample", 255, "rejected: `id`", "the same; 16 bytes of its hash are kept"),
    ],
    "A sample": [
        Limit("bytes of a key", metric_key.MAX_KEY_BYTES, "rejected: `key`; in a question 400", "a request line has room for it, each byte encoded as three"),
        Limit("greatest value", chunk.VALUE_MAX, "rejected: `value`", "557 years of milliseconds; the sums of 2^63 such values are kept exactly"),
        Limit("greatest number of a value (`first`)", chunk.FIRST_MAX, "rejected: `shape`", "2^53: every JSON reader keeps it exact"),
        Limit("values of a histogram", chunk.COUNT_MAX, "rejected: `histogram`", "a record has 32 bits for it"),
        Limit("bytes of a histogram", columnar_body._HISTOGRAM_BYTES, "rejected: `shape`", "all buckets with the greatest counts take less"),
        Limit("items that a histogram counts as, besides its buckets", columnar_body.HISTOGRAM_ITEMS, "counted into METRICS_MAX_ITEMS", "what it costs to read, in values"),
        _of("max_ahead_s", "rejected: `timestamp` or `hour`; 503 while the collector doubts its own clock", "clocks of machines differ, and an hour must not be filled long before it begins"),
        _of("retention_days", "rejected: `timestamp` or `hour`; hours older than that are deleted", "any month, whole"),
    ],
    "Load of a collector": [
        _of("max_pending_bytes", "503, counted as `memory`", "bounds the memory of a collector while Kafka is slow"),
        _of("max_pending_rows", "503, counted as `rows`", "two requests of METRICS_MAX_ROWS"),
        Limit("share of those rows for large requests", publisher.LARGE_SHARE, "503 for further large ones", "small requests find room while large ones wait"),
        Limit("rows from which a request is a large one", publisher.LARGE_COST, "it waits behind small ones", "a hundred rows take about 3 ms to fold"),
        _of("max_incoming_bytes", "503, counted as `busy`", "64 bodies of the greatest size"),
        Limit("large bodies that wait to be read", body.MOST_WAITING, "503, counted as `busy`", "the last one would wait longer than clients do"),
        Limit("of those, of one client", body.MOST_OF_ONE, "503, counted as `busy`", "half: one client alone cannot take all"),
        _of("max_rows_an_hour", "values of further rows are rejected: `keys`", "each takes memory and disk of a worker for as long as hours are kept"),
        _of("max_rows_of_a_client", "values of further rows are rejected: `keys`", "as many as of all: behind a proxy all clients have one address"),
        Limit("clients that are told apart", senders.MOST_CLIENTS, "the one not seen for longest is forgotten", "bounds the memory of their accounts"),
        _of("max_remembered_keys", "the key not seen for longest is forgotten: its reuse with another body is no longer a 422; each body still counts once", "about 13 MB"),
        _of("request_deadline_s", "503, counted as `deadline`; the same request counts once when sent again", "a reply within two seconds, whatever Kafka does"),
        _of("max_record_bytes", "samples are divided into more records", "below the 1 MB that Kafka takes by default"),
        Limit("cost of a record, in rows", lane.MOST_COST, "samples are divided into more records", "a record is folded in one turn of the event loop, 15 ms"),
    ],
    "Aggregation": [
        Limit("bytes of a record that is read", record.MAX_BYTES, "a dead letter", "no collector can be set to write a larger one"),
        Limit("numbering senders protected against repetition, a row", _FOLD.max_senders, "counted, and told as `unfenced`", "a row has to fit into a request to Kafka"),
        Limit("gaps in their numbers, a row", _FOLD.max_ranges, "counted, and told as `unfenced`", "the same: 16 bytes each"),
        Limit("values of a row", fold.VALUES_MAX, "left out, and counted in `metrics_app_overfull_values_total`", "2^62: its sums can still be encoded"),
        _of("id_horizon_hours", "an id that comes again later counts as new", "retries end within a day; memory and disk grow with it"),
        _of("exact_distinct", f"quantiles come from a histogram, with an error bound of {scale6.ERROR_BOUND:.2%}", "8 KB a row"),
        _of("max_dirty_rows", "rows are flushed before METRICS_FLUSH_INTERVAL_S is over", "bounds a flush, and what is folded again after a crash"),
        _of("max_cached_rows", "the rows not used for longest are read from disk when needed", "bounds memory"),
        _of("dead_letters_in_row", "the partition stops until a person has looked", "a broken sender stops it, a few bad records do not"),
        _of("dead_letters_percent", "the partition stops as well", "the same, for bad records among good ones"),
        _of("stall_timeout_s", "the worker ends itself, to be restarted", "longer than any pause that ends by itself"),
    ],
    "Questions": [
        _of("max_range_hours", "400", "a month, which takes half a second"),
        _of("max_page", "400 for a greater `limit`; the default of a page", "bounds an answer: an item has 16 KiB at most"),
        _of("query_deadline_s", "503", "a person waits for it"),
        Limit("hours from which a question is a long one", reading.LONG_HOURS + 1, "it waits for others", "a day takes about 25 ms"),
        Limit("long questions answered at once", reading.AT_ONCE, "the others wait", "short ones are answered between them"),
        Limit("long questions that wait", reading.MOST_WAITING, "503", "who would wait longer is told at once"),
        Limit("questions that wait for their turn", connection.QUESTIONS_WAITING, "503", "they take about 150 ms"),
        Limit("greatest threshold of `under`", statistics.THRESHOLD_MAX, "400", "beyond every value there can be"),
        Limit("connections to other workers", peers.MAX_CONNECTIONS, "the question waits for one", "half of METRICS_MAX_CONNECTIONS"),
        Limit("bytes of another worker's answer without a list", peers.ANSWER_BYTES, "it is not used; 503 when no other worker answers", "a histogram of all buckets as CSV is shorter"),
    ],
    "The client": [
        Limit("`max_values`", _CLIENT.max_values, "the oldest are dropped: `overflow`", "a quarter of an hour at 1,000 values a second"),
        Limit("`max_bytes`", _CLIENT.max_bytes, "the oldest are dropped: `overflow`", "bounds memory in an outage"),
        Limit("`max_keys`", _CLIENT.max_keys, "values of further keys are dropped: `keys`", "1 KB each; keys made of ids are a mistake"),
        Limit("`histogram_above`, values a second of a key", _CLIENT.histogram_above, "a histogram is sent instead of the values", "from there on it is smaller"),
        Limit("`spool_bytes`", _CLIENT.spool_bytes, "the oldest are dropped: `overflow`", "bounds disk in an outage"),
    ],
}  # fmt: skip


def page() -> str:
    """The whole page."""
    told = {limit.what for limits in SECTIONS.values() for limit in limits}
    others = [name for name in Settings.model_fields if name.startswith("max_") and name not in told]
    sections = dict(SECTIONS)
    if others:
        sections["Others"] = [Limit(name, None, "see its meaning", _meaning(name)) for name in others]
    return INTRODUCTION + "".join(f"\n## {title}\n{_table(limits)}" for title, limits in sections.items())


def _table(limits: list[Limit]) -> str:
    rows = [f"| {_name(limit)} | {_number(limit)} | {limit.beyond} | {limit.why} |\n" for limit in limits]
    return "".join(["| Limit | Default | Beyond it | Why |\n", "| --- | --- | --- | --- |\n", *rows])


def _name(limit: Limit) -> str:
    return limit.what if limit.number is not None else f"`{PREFIX}{limit.what}`".upper()


def _number(limit: Limit) -> str:
    number = limit.number if limit.number is not None else Settings.model_fields[limit.what].default
    if number >= 1024 and number == 2 ** (power := int(number).bit_length() - 1) and power > 30:
        return f"2^{power}"
    return f"{number:,.10g}" if isinstance(number, float) else f"{number:,}"


def _meaning(name: str) -> str:
    return (Settings.model_fields[name].description or "").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
