"""Copies that are ahead of their changelog, on which Faust's recovery would fail for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.row import Place

PLACE_ROW = (rows.PLACE_KEY, rows.encode_place(Place(0, 7, 1.0)))


def with_ends(table: Any, monkeypatch: pytest.MonkeyPatch, end: int | Exception) -> list[str]:
    """Reasons of rebuilds of a table whose partitions 1 and 2 lead to offset 9, on a changelog with that end."""
    reasons: list[str] = []
    table.store.on_rebuild = reasons.append
    for partition in (1, 2):
        table.store.write(table.changelog_tp(partition), [PLACE_ROW], 9)

    async def highwaters(*tps: Any) -> dict[Any, int]:
        if isinstance(end, Exception):
            raise end
        return {tp: end if tp.partition == 1 else 100 for tp in tps}

    monkeypatch.setattr(type(table.app), "consumer", SimpleNamespace(highwaters=highwaters))
    return reasons


async def rebuild(table: Any) -> tuple[int | None, int | None]:
    tps = [table.changelog_tp(partition) for partition in range(3)]
    await table.rebuild_ahead(set(tps))
    return table.store.persisted_offset(tps[1]), table.store.persisted_offset(tps[2])


@pytest.mark.parametrize("end", [0, 9])
async def test_a_copy_ahead_of_the_changelog_is_rebuilt_alone(table, monkeypatch, end):
    reasons = with_ends(table, monkeypatch, end)
    assert await rebuild(table) == (None, 9)
    assert reasons == ["ahead"]


async def test_a_copy_that_has_all_of_the_changelog_is_not_ahead(table, monkeypatch):
    reasons = with_ends(table, monkeypatch, 10)
    assert await rebuild(table) == (9, 9)
    assert reasons == []


async def test_when_kafka_does_not_say_nothing_is_given_up(table, monkeypatch):
    reasons = with_ends(table, monkeypatch, KafkaConnectionError())
    assert await rebuild(table) == (9, 9)
    assert reasons == []
