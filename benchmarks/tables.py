"""The tables of the documentation, each a function of the results document alone; the terminal shows the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.scale_brief import Managed, bill
from benchmarks.scale_model import Load, is_near, planned, predicted, unseen
from benchmarks.scale_plan import Assumptions

Document = dict[str, Any]
Row = list[str]


class Table(NamedTuple):
    """A header and rows of text; the first column is what the row is of, the others are figures."""

    header: Row
    rows: list[Row]

    def markdown(self) -> str:
        """As GitHub reads it."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


NAMES = {
    "ours": "ours",
    "ours_json": "ours, of JSON objects",
    "naive_faust": "the obvious Faust app",
    "quix_streams": "Quix Streams",
    "kafka_streams": "Kafka Streams",
    "kafka_streams_eos": "Kafka Streams, exactly once",
}


CASES = {
    "fold-10-keys": "fold, ten keys",
    "fold-many-keys": "fold, every value a new key",
    "collect-json": "collector, JSON objects",
}
LEAST_SHARE = 0.005  # of a stage that is listed


def us(nanoseconds: float) -> str:
    """Nanoseconds as microseconds."""
    return f"{nanoseconds / 1000:,.2f} µs" if nanoseconds < 1e5 else f"{nanoseconds / 1000:,.0f} µs"


def ms(milliseconds: float) -> str:
    """Milliseconds."""
    return f"{milliseconds:,.0f} ms"


def ladder(document: Document) -> Table:
    """Where it breaks."""
    header = ["baseline times", "values/s", "body", "held", "lost, double"]
    header += ["CPU a value: worker, Kafka", "cores: worker, Kafka", "queryable after (p99)"]
    forms = {"pairs": "JSON pairs", "json": "JSON objects", "columnar": "JSON columns", "msgpack": "msgpack columns"}
    rows = []
    for row in document["ladder"]:
        cost, cores = row["cpu_ns_per_value"], row["cores"]
        rows.append(
            [
                f"{row['times']:,}",
                f"{row['accepted_per_s']:,}",
                f"{forms[row['form']]}, {row['batch']:,} a request",
                "yes" if row["held"] else "no",
                f"{row['lost']}, {row['double']}",
                f"{us(cost['worker'])}, {us(cost['kafka'])}",
                f"{cores['worker']:.2f}, {cores['kafka']:.2f}",
                ms(row["freshness_ms"]["p99"]),
            ]
        )
    return Table(header, rows)


def peers(document: Document) -> Table:
    """The fold beside the others."""
    header = ["", "samples", "samples/s", "ours is", "CPU a sample: worker", "Kafka", "memory"]
    rows = []
    for name, run in document["peers"]["runs"].items():
        ratio = document["ratios"].get(name)
        figures = [us(run["cpu_ns"]), us(run["broker_cpu_ns"]), f"{run['rss_mb']:,} MiB"]
        times = f"{ratio:,.1f} times as fast" if ratio else "1"
        rows.append([NAMES[name], f"{run['samples']:,}", f"{run['per_s']:,}", times, *figures])
    return Table(header, rows)


def rates(document: Document) -> Table:
    """The fold beside the others, in short."""
    figures = {name: f"{rate:,}" for name, rate in document["rates"].items()}
    ratios = {name: f"{ratio:,.0f}" for name, ratio in document["ratios"].items()}
    header = ["", *(NAMES[name] for name in figures)]
    times = [ratios.get(name, "1") for name in figures]
    return Table(header, [["samples/s", *figures.values()], ["ours is so many times as fast", *times]])


def cpu(document: Document) -> Table:
    """From a request, or a producer, to the row."""
    header = ["CPU a sample", "way in", "worker", "both", "its worker alone, to both of ours"]
    rows = []
    for name, cost in document["peers"]["cpu"].items():
        both = cost["way_in_ns"] + cost["worker_ns"]
        ratio = f"{cost['ratio']:,.1f} times" if "ratio" in cost else ""
        rows.append([NAMES[name], us(cost["way_in_ns"]), us(cost["worker_ns"]), us(both), ratio])
    return Table(header, rows)


def by_batch(document: Document) -> Table:
    """The fold by the size of the requests."""
    header = ["values a request (ten keys)", "values/s folded", "CPU a value: worker"]
    found = document["peers"]["by_batch"].items()
    rows = [[f"{int(size):,}", f"{run['per_s']:,}", us(run["cpu_ns"])] for size, run in found]
    return Table(header, rows)


def ingest(document: Document) -> Table:
    """The way in by form."""
    header = ["body", "values a request", "values/s", "CPU a value: collector", "Kafka", "values/s a core would do"]
    rows = []
    for row in document["ingest"]:
        of_a_core = f"{1e9 / max(1, row['cpu_ns']):,.0f}"
        rows.append(
            [
                row["form"],
                f"{row['batch']:,}",
                f"{row['per_s']:,}",
                us(row["cpu_ns"]),
                us(row["broker_cpu_ns"]),
                of_a_core,
            ]
        )
    return Table(header, rows)


def single_post(document: Document) -> Table:
    """One sample a request."""
    found = document["single_post"]
    header = ["one sample a request", "requests/s, best turn", "of the bare server", "CPU a request"]
    names = {
        "bare": "bare aiohttp, same parse, no Kafka",
        "ours": "our collector, acknowledged by Kafka",
        "without_lane": "the same with METRICS_SMALL_REQUEST_LANE=false",
    }
    cpu_us = found.get("cpu_us", {})
    rows = [
        [
            text,
            f"{found[name]:,}",
            f"{100 * found[name] / found['bare']:.0f} %",
            f"{cpu_us[name]:.0f} µs" if name in cpu_us else "",
        ]
        for name, text in names.items()
        if name in found
    ]
    return Table(header, rows)


def one_message(document: Document) -> Table:
    """The brief's baseline to the letter."""
    found = document["one_message"]
    header = ["requests/s, one message in each", "held", "lost, double", "reply p50, p99", "queryable after p50, p99"]
    header += ["CPU a request: collector, aggregator, Kafka", "memory: collector, aggregator"]
    reply, fresh, cpu_us, rss_mb = (found[each] for each in ("reply_ms", "freshness_ms", "cpu_us", "rss_mb"))
    row = [
        f"{found['accepted_per_s']:,}",
        "yes" if found["held"] else "no",
        f"{found['lost']}, {found['double']}",
        f"{ms(reply['p50'])}, {ms(reply['p99'])}",
        f"{ms(fresh['p50'])}, {ms(fresh['p99'])}",
        ", ".join(f"{cpu_us[each]:.0f} µs" for each in ("collector", "aggregator", "kafka")),
        f"{rss_mb['collector']}, {rss_mb['aggregator']} MiB",
    ]
    return Table(header, [row])


def end_to_end(document: Document) -> Table:
    """From POST to answer."""
    header = ["body", "values/s held", "CPU a value: collector", "aggregator", "Kafka"]
    header += ["at half the rate: reply p99", "queryable p50", "p99"]
    rows = []
    for row in document["end_to_end"]:
        cost, fresh = row.get("cpu_ns", {}), row["freshness_ms"]
        costs = [us(cost[name]) if name in cost else "" for name in ("collector", "aggregator", "kafka")]
        held = f"{row['held_per_s']:,}" if row["held_per_s"] else "none of those tried"
        body = {"msgpack": "msgpack columns", "json": "JSON array of objects"}[row["form"]]
        figures = [ms(row["ack_ms"]["p99"]), ms(fresh["p50"]), ms(fresh["p99"])]
        rows.append([f"{body}, {row['batch']:,} a request", held, *costs, *figures])
    return Table(header, rows)


def queries(document: Document) -> Table:
    """Questions while samples come in."""
    header = ["queries/s", "values/s beside them", "p50", "p99", "slowest", "held", "CPU a question"]
    rows = []
    for row in document["queries"]:
        times = [f"{row[name]:,.1f} ms" for name in ("p50_ms", "p99_ms", "max_ms")]
        held = "yes" if row["held"] else f"{row['asked_per_s']:,}/s"
        rows.append([f"{row['per_s']:,}", f"{row['values_per_s']:,}", *times, held, f"{row['cpu_us']:.0f} µs"])
    return Table(header, rows)


def query_cost(document: Document) -> Table:
    """Questions as fast as they are answered."""
    names = {"ours": "ours, which takes in 10,000 values/s meanwhile", "bare": "bare aiohttp, with one answer for all"}
    found = document["query_cost"]
    rows = [[text, f"{found[name]['per_s']:,}", f"{found[name]['cpu_us']:.0f} µs"] for name, text in names.items()]
    return Table(["questions as fast as they are answered", "a second, best turn", "CPU a question"], rows)


def logs(document: Document) -> Table:
    """Lines of logs."""
    found = document["logs"]
    rows = [[row["format"], f"{row['paths']:,}", f"{row['per_s']:,}"] for row in found["formats"]]
    whole = "`metrics-app import`, nginx, until Kafka has all"
    rows.append([whole, rows[0][1], f"{found['import_per_s']:,}"])  # of the same lines as the first
    return Table(["log", "different paths or keys", "lines/s"], rows)


def many_keys(document: Document) -> Table:
    """Few keys and many."""
    header = ["keys", "values", "values/s", "CPU a value: collector", "worker", "memory", "bytes a row", "on disk"]
    rows = []
    for row in document["many_keys"]:
        sizes = [f"{row['row_bytes']:,}", f"{row['disk_bytes_per_row']:,}"]
        costs = [us(row["collector_cpu_ns"]), us(row["cpu_ns"]), f"{row['rss_mb']:,} MiB"]
        rows.append([f"{row['keys']:,}", f"{row['samples']:,}", f"{row['per_s']:,}", *costs, *sizes])
    return Table(header, rows)


def recovery(document: Document) -> Table:
    """A worker that starts again."""
    found = document["recovery"]
    header = [f"{found['rows']:,} rows on one worker", "ready after", "rows/s"]
    rebuilt = f"{found['rows'] / found['rebuild_s']:,.0f}"
    rows = [["restart with its disk", f"{found['restart_s']:.1f} s", ""]]
    rows.append(["rebuilt from the changelog alone", f"{found['rebuild_s']:.1f} s", rebuilt])
    return Table(header, rows)


def client(document: Document) -> Table:
    """What a call of record costs."""
    header = ["record()", "calls/s", "with so many cores", "CPU a call, all threads", "of an empty call"]
    header += ["calls/s a core would do", "p50", "p99", "dropped", "exact"]
    rows = []
    for row in document["client"]:
        calls = [f"{row['per_s']:,}", f"{row['cores']:.2f}", us(row["cpu_ns"]), us(row["empty_ns"])]
        calls.append(f"{1e9 / row['cpu_ns']:,.0f}")
        times = [f"{row['p50_us']:.1f} µs", f"{row['p99_us']:.1f} µs"]
        rows.append([row["case"], *calls, *times, f"{row['dropped']:,}", "yes" if row["exact"] else "no"])
    return Table(header, rows)


def middleware(document: Document) -> Table:
    """What an app's users notice of it."""
    states = {"without": "without it", "up": "collectors up", "down": "down", "silent": "silent"}
    header = ["response times, p50 and p99 in ms", *states.values()]
    rows = []
    for row in document["middleware"]:
        moved = {"without": ""} | {state: f" ({by:+.1f} %)" for state, by in row["p99_moved_percent"].items()}
        figures = [f"{row[state]['p50_ms']:.2f}, {row[state]['p99_ms']:.2f}{moved[state]}" for state in states]
        rows.append([row["app"], *figures])
    return Table(header, rows)


def sketches(document: Document) -> Table:
    """Quantile sketches."""
    header = ["sketch", "bulk ns/value", "single ns/value", "bytes", "error p50", "p99", "p99.9"]
    rows = []
    for row in document["sketches"]["rows"]:
        errors = [f"{100 * error:.3f} %" for error in row["errors"]]
        order = "yes" if row["batching_changes_answer"] else "no"
        speeds = [f"{row['bulk_ns']:.0f}", f"{row['single_ns']:.0f}", f"{row['encoded_bytes']:,}"]
        rows.append([row["name"], *speeds, *errors, order])
    return Table([*header, "order or batching matters"], rows)


def profile(document: Document) -> Table:
    """Where the time goes, by stage."""
    cases = document["profile"]
    stages = sorted(
        {stage for case in cases.values() for stage in case["shares"]}, key=lambda stage: _weight(cases, stage)
    )
    header = ["", *(f"{CASES[name]}: share, CPU a value" for name in cases)]
    rows = [[stage, *(_part(case, stage) for case in cases.values())] for stage in stages]
    rows = [row for row in rows if any(row[1:])]
    return Table(header, [*rows, ["all", *(us(case["cpu_ns"]) for case in cases.values())]])


def _weight(cases: Document, stage: str) -> float:
    return -float(sum(case["shares"].get(stage, 0.0) for case in cases.values()))


def _part(case: Document, stage: str) -> str:
    share = case["shares"].get(stage, 0.0)
    return f"{100 * share:.0f} %, {us(share * case['cpu_ns'])}" if share >= LEAST_SHARE else ""


class Aim(NamedTuple):
    """What was to be reached: a sentence, the figure, its bound, whether more is better, how a figure is written."""

    what: str
    figure: Callable[[Document], float]
    bound: float
    least: bool = True
    write: Callable[[float], str] = "{:,.1f} times".format

    def row(self, document: Document) -> Row:
        """The aim, what was measured, and whether that is enough."""
        try:
            figure = self.figure(document)
        except KeyError:
            return [self.what, self.write(self.bound), "not measured", ""]
        reached = figure >= self.bound if self.least else figure <= self.bound
        return [self.what, self.write(self.bound), self.write(figure), "yes" if reached else "no"]


def _end_to_end(form: str, name: str) -> Callable[[Document], float]:
    def figure(document: Document) -> float:
        row = next(each for each in document["end_to_end"] if each["form"] == form)
        return float(row["freshness_ms"]["p99"] if name == "freshness" else row[name])

    return figure


def _most_keys(name: str) -> Callable[[Document], float]:
    return lambda document: float(document["many_keys"][-1][name])


def _query(nth: int, name: str) -> Callable[[Document], float]:
    return lambda document: float(document["queries"][nth][name])


def _of(section: str, name: str, times: float = 1) -> Callable[[Document], float]:
    return lambda document: times * float(document[section][name])


_RATE: Callable[[float], str] = "{:,.0f}/s".format
_MS: Callable[[float], str] = "{:,.0f} ms".format
_PERCENT: Callable[[float], str] = "{:.0f} %".format
_MIB: Callable[[float], str] = "{:,.0f} MiB".format
AIMS = (
    Aim("fold, ten keys, one worker, to Kafka Streams with two threads", _of("ratios", "kafka_streams"), 25),
    Aim("the same, to Quix Streams", _of("ratios", "quix_streams"), 300),
    Aim("the same, to the obvious Faust app", _of("ratios", "naive_faust"), 3000),
    Aim("end to end, msgpack columns, held", _end_to_end("msgpack", "held_per_s"), 1e6, write=_RATE),
    Aim("end to end, JSON arrays of objects, held", _end_to_end("json", "held_per_s"), 3e5, write=_RATE),
    Aim("queryable after, p99, at half that rate, msgpack", _end_to_end("msgpack", "freshness"), 2000, False, _MS),
    Aim("queryable after, p99, at half that rate, JSON", _end_to_end("json", "freshness"), 2000, False, _MS),
    Aim("500 queries/s while 10,000 values/s come in, p99", _query(0, "p99_ms"), 10, False, _MS),
    Aim("2,000 queries/s while 10,000 values/s come in, p99", _query(-1, "p99_ms"), 10, False, _MS),
    Aim("CPU a question in the worker, at that rate", _query(-1, "cpu_us"), 150, False, "{:,.0f} µs".format),
    Aim("one sample a POST, of a bare aiohttp server", _of("single_post", "share", 100), 75, write=_PERCENT),
    Aim("row updates, every value another of a million keys", _most_keys("per_s"), 25_000, write=_RATE),
    Aim("memory with a million keys in an hour", _most_keys("rss_mb"), 4096, False, _MIB),
)


def aims(document: Document) -> Table:
    """What was to be reached, and what is."""
    rows = [aim.row(document) for aim in AIMS]
    if "linear" in document:
        verdict = "yes" if document["linear"] else "no"
        rows.append(
            [
                "CPU a value stays or falls from 1x to 10x to 100x",
                "at most 1.1 of the rung before",
                "see below",
                verdict,
            ]
        )
    return Table(["", "aim", "measured", "reached"], rows)


def machine(document: Document) -> Table:
    """What the figures depend on."""
    found = document["machine"]
    busy = document.get("busy", {}).values()
    others = f"{min(busy):g} to {max(busy):g}" if busy else "not noted"
    row = [str(found["cores"]), f"{found['memory_gib']} GiB", found["python"], found["system"], others]
    return Table(["cores", "memory", "Python", "system", "processes running before a benchmark began"], [row])


def scale_check(document: Document) -> Table:
    """What the model says of loads that it was not made of, beside what was measured."""
    rows = []
    for point in unseen(document):
        for part, measured in point.cores.items():
            said, load = predicted(point.load, document)[part], point.load
            label = f"{load.values_per_s:,}/s as {load.form}, {load.batch:,} a request: {CORES[part]}"
            verdict = "yes" if is_near(measured, said) else "**no**"
            rows.append([label, f"{measured:.2f}", f"{said:.2f}", f"{100 * (said / measured - 1):+.0f} %", verdict])
    return Table(["a load not fitted to", "measured", "the model", "off by", "within 25 %"], rows)


CORES = {"ours": "cores of collector and aggregator", "kafka": "cores of Kafka"}
RUNGS = (
    ("1x", Load(10_000, 100, 10, "pairs")),
    ("1x, one message a request", Load(10_000, 1, 10, "one")),
    ("10x", Load(100_000, 1_000, 100, "pairs")),
    ("100x", Load(1_000_000, 10_000, 1_000, "msgpack")),
    ("1,000x", Load(10_000_000, 10_000, 10_000, "msgpack")),
    ("1,000x, one message a request", Load(10_000_000, 1, 10_000, "one")),
)


def scale_ladder(document: Document) -> Table:
    """The fleet of each rung by the model, at its default assumptions."""
    rows = []
    for name, load in RUNGS:
        found = planned(document, load, Assumptions())
        shown = f"{name}: {load.values_per_s:,}/s, {load.batch:,} a request, {load.keys:,} keys, {load.form}"
        counts = (found.collectors, found.aggregators, found.partitions, found.brokers)
        network = f"{found.network_bytes_per_s / 1e6:,.1f} MB/s"
        money = (found.compute_month, found.disk_month, found.network_month, found.month)
        disk = f"{found.disk_bytes / 1e9:,.0f} GB"
        rows.append([shown, *(f"{count:,}" for count in counts), network, disk, *(f"{each:,.0f}" for each in money)])
    header = ["rung", "collectors", "aggregators", "partitions", "brokers", "network", "disk"]
    return Table([*header, "$ a month: machines", "disk", "between zones", "all"], rows)


def scale_brief(document: Document) -> Table:
    """The brief's sketch at each rung, and ours by the model."""
    rows, parts = [], []
    for name, load in RUNGS:
        parts = list(costs := bill(load, Managed()))
        ours = planned(document, load, Assumptions()).month
        rows.append([name, *(f"{each:,.0f}" for each in (*costs.values(), sum(costs.values()), ours))])
    return Table(["$ a month", *parts, "all of it", "ours"], rows)


class Shown(NamedTuple):
    """A table and the section of the results without which there is none."""

    section: str
    table: Callable[[Document], Table]


TABLES = {
    "ladder": Shown("ladder", ladder),
    "peers": Shown("peers", peers),
    "rates": Shown("rates", rates),
    "cpu": Shown("peers", cpu),
    "by-batch": Shown("peers", by_batch),
    "ingest": Shown("ingest", ingest),
    "single-post": Shown("single_post", single_post),
    "one-message": Shown("one_message", one_message),
    "end-to-end": Shown("end_to_end", end_to_end),
    "logs": Shown("logs", logs),
    "queries": Shown("queries", queries),
    "query-cost": Shown("query_cost", query_cost),
    "many-keys": Shown("many_keys", many_keys),
    "recovery": Shown("recovery", recovery),
    "client": Shown("client", client),
    "middleware": Shown("middleware", middleware),
    "sketches": Shown("sketches", sketches),
    "profile": Shown("profile", profile),
    "scale-check": Shown("end_to_end", scale_check),
    "scale-ladder": Shown("end_to_end", scale_ladder),
    "scale-brief": Shown("end_to_end", scale_brief),
    "aims": Shown("machine", aims),
    "machine": Shown("machine", machine),
}
