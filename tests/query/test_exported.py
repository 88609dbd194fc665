"""The histogram in other systems' forms, read by their own libraries."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from metrics_app.query.exported import name_of
from metrics_app.stats.histogram import Values

from .fakes import END_S, HOUR, Worker, ask, row, worker

PATH = "/checkout/histogram/2025-11-23/22"
FORMS = ("json", "csv", "otlp", "prometheus", "prometheus-native")
RNG = np.random.default_rng(3)
SETS: dict[str, Values] = {
    "many": np.concatenate([RNG.lognormal(3.0, 1.0, 5000), [0.0, 0.0, 1e-9, 2.0**-20, 2.0**44]]),
    "few": np.array([10.0, 20.0, 60.0, 64.0, 64.0]),
    "powers of two": np.exp2(np.arange(-5.0, 9.0)),
    "zeros": np.array([0.0, 0.0]),
    "one": np.array([12.5]),
}


@pytest.fixture(params=SETS)
async def one(request: Any) -> AsyncIterator[Worker]:
    async with worker(found=row(*SETS[request.param])) as running:
        yield running


@pytest.fixture
def values(request: Any, one: Worker) -> Values:
    return SETS[request.node.callspec.params["one"]]


def share(values: Values, limit: float) -> int:
    return int(np.count_nonzero(values <= limit))


async def test_json_lists_the_buckets_in_use(one: Worker, values: Values) -> None:
    answer = (await ask(one.url, PATH)).json

    assert (answer["count"], answer["min"], answer["max"]) == (len(values), values.min(), values.max())
    assert answer["zero_count"] == share(values, answer["zero_threshold"])
    assert answer["zero_count"] + sum(each["count"] for each in answer["buckets"]) == len(values)
    for each in answer["buckets"]:
        assert each["count"] == share(values, each["le"]) - share(values, each["gt"]) > 0


async def test_table_lists_the_same(one: Worker, values: Values) -> None:
    lines = list(csv.DictReader(io.StringIO((await ask(one.url, PATH + "?format=csv")).body.decode(), newline="")))

    assert sum(int(each["count"]) for each in lines) == len(values)
    for each in lines:
        below = share(values, float(each["gt"])) if each["gt"] else 0
        assert int(each["count"]) == share(values, float(each["le"])) - below


async def test_otlp_is_read_by_its_own_messages(one: Worker, values: Values) -> None:
    body = (await ask(one.url, PATH + "?format=otlp")).body
    read = json_format.Parse(body, MetricsData())
    metric = read.resource_metrics[0].scope_metrics[0].metrics[0]
    point = metric.exponential_histogram.data_points[0]

    assert read.SerializeToString() == json_format.Parse(body, ExportMetricsServiceRequest()).SerializeToString()
    assert (metric.name, metric.unit, metric.exponential_histogram.aggregation_temporality) == (
        "response_time",
        "ms",
        1,
    )
    assert (point.attributes[0].key, point.attributes[0].value.string_value) == ("key", "checkout")
    assert point.start_time_unix_nano == HOUR * 3600 * 10**9
    assert point.time_unix_nano == END_S * 10**9
    assert (point.count, point.min, point.max) == (len(values), values.min(), values.max())
    assert point.sum == pytest.approx(values.sum())
    assert point.zero_count == share(values, point.zero_threshold)
    assert point.zero_count + sum(point.positive.bucket_counts) == point.count
    base = 2.0 ** (2.0**-point.scale)
    for at, count in enumerate(point.positive.bucket_counts):
        # by the formula of the standard; a value at a bound may fall on either side of it in floating point
        lower, upper = base ** (point.positive.offset + at), base ** (point.positive.offset + at + 1)
        assert share(values, upper * (1 - 1e-9)) - share(values, lower * (1 + 1e-9)) <= count
        assert count <= share(values, upper * (1 + 1e-9)) - share(values, lower * (1 - 1e-9))


async def test_classic_histogram_is_read_by_the_prometheus_client(one: Worker, values: Values) -> None:
    reply = await ask(one.url, PATH + "?format=prometheus")
    (family,) = text_string_to_metric_families(reply.body.decode())
    buckets = [(float(each.labels["le"]), each.value) for each in family.samples if each.name.endswith("_bucket")]
    sums = {each.name.rpartition("_")[2]: each.value for each in family.samples}

    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (family.name, family.type) == ("response_time_ms", "histogram")
    assert {each.labels["key"] for each in family.samples} == {"checkout"}
    assert buckets == sorted(buckets)
    assert all(number == share(values, le) for le, number in buckets)
    assert (buckets[-1], sums["count"]) == ((float("inf"), len(values)), len(values))
    assert sums["sum"] == pytest.approx(values.sum())


async def test_native_histogram_counts_up_to_the_values(one: Worker, values: Values) -> None:
    """Spans and deltas as the comments of client_model's metrics.proto say."""
    family = (await ask(one.url, PATH + "?format=prometheus-native")).json
    (metric,) = family["metric"]
    form = metric["histogram"]
    deltas = iter(form["positiveDelta"])
    index, count, seen = 0, 0, int(form["zeroCount"])
    for span in form["positiveSpan"]:
        index += span["offset"]
        for _ in range(span["length"]):
            count += int(next(deltas))
            upper, lower = 2.0 ** (index / 64), 2.0 ** ((index - 1) / 64)
            assert share(values, upper * (1 - 1e-9)) - share(values, lower * (1 + 1e-9)) <= count
            assert 0 < count <= share(values, upper * (1 + 1e-9)) - share(values, lower * (1 - 1e-9))
            index, seen = index + 1, seen + count

    assert next(deltas, None) is None
    assert (form["schema"], int(form["zeroCount"])) == (6, share(values, form["zeroThreshold"]))
    assert seen == int(form["sampleCount"]) == len(values)
    assert all(span["offset"] > 0 for span in form["positiveSpan"][1:])  # else they were one span
    assert (family["name"], family["type"]) == ("response_time_ms", "HISTOGRAM")
    assert metric["label"] == [{"name": "key", "value": "checkout"}]


@pytest.mark.parametrize("one", ["few", "one", "zeros"], indirect=True)
async def test_native_histogram_is_read_by_the_prometheus_client(one: Worker) -> None:
    """Its parser takes a text form, made here of the same members; it knows no values below 1 (negative offsets)."""
    form = (await ask(one.url, PATH + "?format=prometheus-native")).json["metric"][0]["histogram"]
    spans = ",".join(f"{each['offset']}:{each['length']}" for each in form["positiveSpan"])
    buckets = f",positive_spans:[{spans}],positive_deltas:[{','.join(form['positiveDelta'])}]" if spans else ""
    text = f"""# TYPE response_time_ms histogram
response_time_ms{{key="checkout"}} {{count:{form["sampleCount"]},sum:{form["sampleSum"]},schema:{form["schema"]},\
zero_threshold:{form["zeroThreshold"]!r},zero_count:{form["zeroCount"]}{buckets}}}
# EOF
""".replace("\\\n", "")
    (read,) = open_metrics(text)
    native = read.samples[0].native_histogram

    assert native is not None
    assert (native.count_value, native.schema) == (int(form["sampleCount"]), 6)
    assert [tuple(each) for each in native.pos_spans or ()] == [tuple(each.values()) for each in form["positiveSpan"]]
    assert list(native.pos_deltas or ()) == [int(each) for each in form["positiveDelta"]]


@pytest.mark.parametrize("one", ["many"], indirect=True)
@pytest.mark.parametrize("form", FORMS)
async def test_each_form_has_a_tag_of_its_own_and_is_not_sent_twice(one: Worker, form: str) -> None:
    tags = {(await ask(one.url, f"{PATH}?format={each}")).headers["ETag"] for each in FORMS}
    tag = (await ask(one.url, f"{PATH}?format={form}")).headers["ETag"]

    assert len(tags) == len(FORMS)
    assert (await ask(one.url, f"{PATH}?format={form}", If_None_Match=tag)).status == 304


@pytest.mark.parametrize("one", ["few"], indirect=True)
async def test_days_and_ranges_are_merged(one: Worker) -> None:
    one.reader.rows[b"checkout", HOUR - 1] = row(1.0)
    for path in ("/checkout/histogram/2025-11-23", "/checkout/histogram?from=2025-11-23&to=2025-11-24"):
        assert (await ask(one.url, path)).json["count"] == 6


@pytest.mark.parametrize("one", ["few"], indirect=True)
async def test_interval_of_an_open_hour_ends_where_the_knowledge_does(one: Worker) -> None:
    one.reader.rows[b"checkout", HOUR] = row(as_of=END_S - 60)
    body = json.loads((await ask(one.url, PATH + "?format=otlp")).body)
    point = body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["exponentialHistogram"]["dataPoints"][0]

    assert int(point["timeUnixNano"]) == (END_S - 60) * 10**9


@pytest.mark.parametrize("one", ["few"], indirect=True)
async def test_format_that_there_is_not_is_refused(one: Worker) -> None:
    assert (await ask(one.url, PATH + "?format=protobuf")).json["part"] == "format"
    assert (await ask(one.url, "/checkout/median/2025-11-23/22?format=otlp")).json["part"] == "format"


@pytest.mark.parametrize("key", ['a"b', "a\\b", 'a\\"', "{x}", "é"])
async def test_odd_key_survives_the_text_format(key: str) -> None:
    async with worker() as running:
        running.reader.rows[key.encode(), HOUR] = row()
        path = "".join(f"%{byte:02x}" for byte in key.encode())
        text = (await ask(running.url, f"/{path}/histogram/2025-11-23/22?format=prometheus")).body.decode()
        (family,) = text_string_to_metric_families(text)

    assert {each.labels["key"] for each in family.samples} == {key}


@pytest.mark.parametrize(
    ("unit", "name"),
    [("ms", "response_time_ms"), ("", "response_time"), ("µs/op", "response_time_s_op"), ("%", "response_time")],
)
def test_unit_is_part_of_the_name_as_far_as_it_can_be(unit, name):
    assert name_of(unit) == name
