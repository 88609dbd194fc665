"""A node that takes connections and says nothing gets half a second, then twice as long, and none of it is for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from metrics_app.faust_runtime import connecting

HERE = object()


class Client:
    """The part of an aiokafka client that is bounded: node "dead" never answers."""

    def __init__(self) -> None:
        self.updates = 0
        self.mute = True

    async def _get_conn(self, _node_id: Any, **_options: Any) -> Any:
        if self.mute:
            await asyncio.Event().wait()
        return HERE

    def force_metadata_update(self) -> None:
        self.updates += 1

    async def ready(self, node_id: str) -> tuple[bool, float]:
        """As aiokafka asks; and how long it took."""
        began_s = time.monotonic()
        return await self._get_conn(node_id) is HERE, time.monotonic() - began_s


async def test_a_mute_node_is_left_for_new_metadata_and_gets_more_time_at_each_attempt(monkeypatch: Any) -> None:
    monkeypatch.setattr(connecting, "FIRST_S", 0.05)
    monkeypatch.setattr(connecting, "LAST_S", 0.2)
    client = Client()
    connecting.bounded(client)
    took = [await client.ready("one") for _ in range(4)]
    assert [ok for ok, _ in took] == [False] * 4
    assert client.updates == 4
    assert all(took_s >= least_s for (_, took_s), least_s in zip(took, (0.05, 0.1, 0.2, 0.2), strict=True))
    assert (await client.ready("two"))[1] < took[3][1], "another node has its own count"


async def test_a_node_that_answers_again_begins_anew(monkeypatch: Any) -> None:
    monkeypatch.setattr(connecting, "FIRST_S", 0.05)
    client = Client()
    connecting.bounded(client)
    for _ in range(3):
        await client.ready("one")
    client.mute = False
    assert (await client.ready("one"))[0]
    client.mute = True
    ok, took_s = await client.ready("one")
    assert not ok
    assert took_s < 0.4, "the fourth in a row would have had that"
