"""`status` and `capacity`, of a system that is told here."""

from __future__ import annotations

import json
import time

import msgspec
import pytest

from metrics_app.system.condition import SystemState, joined
from tests.system.test_capacity import busy, worker

from .test_send_query import Service

WELL = joined(
    [
        worker("http://a", busy(1000, 1e-4), roles={0: "active"}, lags={0: 4}, totals={"folded_values": 1234.0}),
        worker("http://b[red]", busy(1000, 2e-4), roles={1: "active", 0: "standby"}, lags={1: 0}),
    ],
    [],
    2,
    time.time(),
)
ILL = joined(
    [
        worker("http://a", checks={"kafka": "it does not answer"}, warnings={"clock": "off"}, roles={0: "active"},
               totals={"lost_records": 3.0}, by={"rejected_values": {"value": 5.0, "key": 0.0}}),
    ],
    ["http://b"], 2, time.time(),
)  # fmt: skip


def served(system: SystemState) -> Service:
    return Service(200, msgspec.to_builtins(system, str_keys=True))


async def test_a_system_that_is_well_is_shown_and_is_no_failure() -> None:
    service = served(WELL)
    result = await service.run("status")
    assert (result.exit_code, service.asked) == (0, [("/system", "")])
    for text in ("nothing is wrong", "http://b[red]", "1,234", "1,000", "10%", "20%"):
        assert text in result.stdout


async def test_what_is_wrong_is_said_first_and_is_the_exit_code() -> None:
    result = await served(ILL).run("status")
    assert result.exit_code == 1
    assert ILL.wrong == [
        "http://b does not answer",
        "http://a is not ready: kafka: it does not answer",
        "http://a warns: clock: off",
        "nobody folds partitions 1",
        "3 records were deleted by Kafka before they were folded",
    ]
    lines = result.stdout.splitlines()
    assert [line.strip() for line in lines[1:6]] == ILL.wrong
    assert "rejected values (value)" in result.stdout
    assert "(key)" not in result.stdout


async def test_json_is_the_document_of_all_workers_asked() -> None:
    result = await served(WELL).run("status", "--json")
    document = json.loads(result.stdout)
    assert msgspec.convert(document, SystemState, strict=False).workers == WELL.workers


@pytest.mark.parametrize("document", [{}, {"at": 1}, {"at": "x", "workers": [{}]}])
async def test_an_answer_of_something_else_is_named_and_not_shown(document: dict[str, object]) -> None:
    result = await Service(200, document).run("status")
    assert result.exit_code != 0
    assert result.stdout == ""


async def test_the_forecast_is_shown_with_what_it_rests_on() -> None:
    result = await served(WELL).run("capacity")
    assert result.exit_code == 0
    assert "first to break: the event loop of all http://b[red], at 5.0 times today's rate" in result.stdout
    assert "200.00 µs" in result.stdout
    assert "5,000/s (5.0x)" in result.stdout
    document = json.loads((await served(WELL).run("capacity", "--json")).stdout)
    assert (document["first"], document["times"]) == ("http://b[red]", pytest.approx(5.0))
