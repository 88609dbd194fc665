"""The arithmetic between what was observed and what is published."""

from __future__ import annotations

import pytest

from benchmarks import flame, ladder, results
from benchmarks.backlog import Way
from benchmarks.meter import Drain, Point, drain
from benchmarks.peers.compare import costs, json_bodies, mismatches
from benchmarks.samples import Samples, Total

TOTALS = {"a": Total(3, 6.0, 1.0, 3.0), "b": Total(1, 9.0, 9.0, 9.0)}


def test_a_drain_is_timed_from_the_end_of_the_warm_up_to_the_last_sample():
    points = [
        Point(0.0, 0, 0.0, 0.0),
        Point(5.0, 10, 3.0, 1.0),  # slow: starting, compiling
        Point(5.5, 333, 3.5, 1.5),
        Point(6.0, 334, 4.0, 2.0),  # a third is in
        Point(8.0, 1000, 5.0, 2.4),
        Point(9.0, 1000, 7.0, 9.0),  # idle: not part of it
    ]
    found = drain(points, rss_mb=77)
    assert (found.samples, found.seconds, found.per_s, found.rss_mb) == (1000, 2.0, 333, 77)
    assert found.cpu_ns == round(1e9 * 1.0 / 666)
    assert found.broker_cpu_ns == round(1e9 * 0.4 / 666)


def test_a_backlog_too_small_to_time_gives_no_figure():
    with pytest.raises(ValueError, match="too small"):
        drain([Point(0.0, 0, 0.0, 0.0), Point(1.0, 100, 1.0, 1.0)], rss_mb=1)


def test_a_ratio_is_ours_divided_by_theirs():
    assert results.ratios({"ours": 5_000_000.0, "slow": 1_000.0, "fast": 200_000.0}) == {"slow": 5000.0, "fast": 25.0}


def test_cpu_ratios_count_our_collector_and_not_their_producer():
    def of(cpu_ns):
        return Drain(1, 1.0, 1, cpu_ns, 1, 1)

    ways = {"collector": Way(50, 1, 1), "collector_json": Way(450, 1, 1), "producer": Way(2000, 1, 1)}
    found = costs({"ours": of(150), "kafka_streams": of(4000)}, ways)
    assert found["kafka_streams"] == {"way_in_ns": 2000, "worker_ns": 4000, "ratio": 20.0}
    assert found["ours_json"] == {"way_in_ns": 450, "worker_ns": 150}


def test_the_same_totals_are_no_mismatch_and_neither_is_rounding():
    assert mismatches(TOTALS, dict(TOTALS)) == []
    assert mismatches(TOTALS, TOTALS | {"a": Total(3, 6.0 + 1e-12, 1.0, 3.0)}) == []


@pytest.mark.parametrize(
    "found",
    [
        {"a": TOTALS["a"]},
        TOTALS | {"c": Total(1, 1.0, 1.0, 1.0)},
        TOTALS | {"a": Total(2, 6.0, 1.0, 3.0)},
        TOTALS | {"a": Total(3, 6.1, 1.0, 3.0)},
        TOTALS | {"a": Total(3, 6.0, 1.5, 3.0)},
        TOTALS | {"a": Total(3, 6.0, 1.0, 3.5)},
    ],
    ids=["missing", "foreign", "count", "sum", "min", "max"],
)
def test_whatever_differs_is_a_mismatch(found):
    assert len(mismatches(TOTALS, found)) == 1


def test_json_bodies_hold_every_sample_once():
    assert sum(count for _, count in json_bodies(Samples(10, 2_500), 1_000)) == 2_500


def rung(times, worker, kafka):
    return {"times": times, "cpu_ns_per_value": {"worker": worker, "kafka": kafka}}


@pytest.mark.parametrize(
    ("costs_ns", "linear"), [((100, 50, 20), True), ((100, 105, 105), True), ((100, 50, 60), False)]
)
def test_cost_is_linear_when_no_rung_is_dearer_than_the_one_before(costs_ns, linear):
    rows = [rung(times, cost, cost) for times, cost in zip((1, 10, 100), costs_ns, strict=True)]
    assert ladder.is_linear([*rows, rung(1000, 10**6, 10**6)]) is linear


STACKS = """\
run (asyncio/runners.py:190);take (metrics_app/aggregator/agent.py:66);decode (metrics_app/wire/record.py:70) 3
run (asyncio/runners.py:190);take (metrics_app/aggregator/agent.py:67);add (metrics_app/stats/summary.py:1);f (x.py:9) 6
run (asyncio/runners.py:190);BaseEventLoop._run_once (asyncio/base_events.py:1922);_read (asyncio/sockets.py:3) 1
run (asyncio/runners.py:190);select (selectors.py:468) 99
"""


def test_a_sample_belongs_to_the_innermost_frame_that_is_known():
    assert flame.shares(flame.parse(STACKS)) == {
        "statistics: buckets, exact sums, encoding": 0.6,
        "records: checksum, chunks": 0.3,
        "event loop, sockets, threads": 0.1,
    }


def test_the_lines_of_a_function_are_one_frame_of_the_flame_graph_and_what_called_the_loop_none():
    root = flame.tree(flame.parse(STACKS))
    assert {frame: node.count for frame, node in root.called.items()} == {
        "run (asyncio/runners.py)": 9,
        "BaseEventLoop._run_once (asyncio/base_events.py)": 1,
    }
    drawn = flame.svg(flame.parse(STACKS), "a <worker>")
    assert drawn == flame.svg(flame.parse(STACKS), "a <worker>")
    assert drawn.count("<rect") == 1 + 7
    assert "a &lt;worker&gt;" in drawn
