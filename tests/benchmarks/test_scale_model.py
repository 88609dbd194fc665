"""The model of docs/scale.md: what it makes of measurements, and what it says of those it was not made of."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import results
from benchmarks.scale_brief import Managed, bill
from benchmarks.scale_model import Load, costs, explained, is_near, planned, points, predicted, taken, unseen
from benchmarks.scale_plan import Assumptions, fleet

COSTS = [0.02, 1e-4, 1e-6]
RATES = np.array([Load(*load, 10, "pairs").rates() for load in ((1_000, 10), (100_000, 1_000), (20_000, 20), (500, 1))])


def test_costs_that_made_the_measurements_are_found_again():
    assert explained(RATES, RATES @ COSTS) == pytest.approx(COSTS, rel=1e-6)


def test_no_cost_is_negative_though_measurements_are_off():
    assert min(explained(RATES, np.array([0.5, 0.1, 0.4, 0.01]))) >= 0


def test_what_it_is_checked_against_is_no_part_of_what_it_is_made_of():
    document = results.load()
    assert unseen(document)
    assert not {point.load for point in unseen(document)} & {point.load for point in points(document)}
    said = [predicted(point.load, document) for point in unseen(document)]
    for row in document["end_to_end"]:
        row["cpu_ns"] = {name: 7 * ns for name, ns in row["cpu_ns"].items()}
    assert [predicted(point.load, document) for point in unseen(document)] == said


def test_a_single_key_is_one_row_and_a_key_a_value_is_a_row_a_value():
    assert Load(1_000, 10, 1, "pairs").changed_rows() == 1
    assert Load(1_000, 10, 10**9, "pairs").changed_rows() == pytest.approx(1_000, rel=0.01)


def test_more_keys_take_more_of_aggregators_and_of_the_changelog():
    document = results.load()
    few, many = (taken(document, Load(10_000, 100, keys, "pairs")) for keys in (10, 100_000))
    assert many["aggregator"] > few["aggregator"]
    assert many["changelog_bytes"] > few["changelog_bytes"]


@pytest.mark.parametrize("said", [0.74, 1.26])
def test_a_quarter_off_is_the_limit(said):
    assert not is_near(1.0, said)
    assert is_near(1.0, 1.25)


TAKEN = {
    "collector": 1.4,
    "aggregator": 0.2,
    "kafka": 0.1,
    "samples_bytes": 1e6,
    "changelog_bytes": 1e4,
    "row_bytes": 1e3,
}


def test_processes_are_planned_half_busy_and_never_alone():
    found = fleet(TAKEN, 10, Assumptions())
    assert (found.collectors, found.aggregators, found.partitions, found.brokers) == (3, 2, 8, 3)
    assert fleet(TAKEN, 10, Assumptions(busy=1.0)).collectors == 2


@pytest.mark.parametrize("short", [{"kafka": 20.0}, {"samples_bytes": 2e8}])
def test_brokers_come_by_what_is_short_first(short):
    assert fleet(TAKEN | short, 10, Assumptions()).brokers > 3


def test_money_follows_the_prices_that_are_given():
    cheap = fleet(TAKEN, 10, Assumptions())
    dear = fleet(TAKEN, 10, Assumptions(core_hour=0.08, disk_month=0.16, zone_gb=0.04))
    assert dear.month == pytest.approx(2 * cheap.month)


def test_the_disk_holds_raw_records_for_their_hours_and_rows_for_theirs_in_every_copy():
    found = fleet(TAKEN, 10, Assumptions(samples_hours=1, row_hours=2, replication=1))
    assert found.disk_bytes == 1e6 * 3600 + 2 * 10 * 1e3


@pytest.mark.parametrize("form", ["pairs", "msgpack", "one"])
def test_more_load_never_takes_less(form):
    document = results.load()
    fleets = [
        planned(document, Load(10_000 * times, 1 if form == "one" else 1_000, 10, form), Assumptions())
        for times in (1, 10, 100, 1000)
    ]
    assert [each.month for each in fleets] == sorted(each.month for each in fleets)


def test_a_form_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="expected one of pairs, msgpack, one"):
        costs(results.load(), "xml")


@pytest.mark.parametrize(("wrong", "expected"), [("0", "expected 1 or more"), ("many", "invalid")])
def test_the_command_says_what_it_expected(wrong, expected):
    command = [sys.executable, "-m", "benchmarks.scale_model", "--machines", wrong]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert expected in done.stderr


def test_of_the_sketch_requests_cost_most_where_each_has_one_message():
    packed, single = (bill(Load(10_000, batch, 10, "pairs"), Managed()) for batch in (1_000, 1))
    assert single["gateway"] == pytest.approx(1_000 * packed["gateway"])
    assert single["Spark"] == packed["Spark"]
