"""The recipe for a serverless platform: its command, on the port it is given, and gone within 10 s of SIGTERM."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from metrics_app.kafka import connections, topics
from metrics_app.kafka.ports import free_port
from metrics_app.settings import Settings
from metrics_app.wire import record
from tests.collector.fakes import until
from tests.conftest import MakeSettings
from tests.deploy.manifests import KUBERNETES, documents, understood
from tests.faults import pace
from tests.faults.pace import stretched

(SERVICE,) = documents(KUBERNETES / "serverless" / "collector.yaml")
SPEC: dict[str, Any] = SERVICE["spec"]["template"]["spec"]
(CONTAINER,) = SPEC["containers"]
VARIABLES = {one["name"]: one["value"] for one in CONTAINER["env"]}
PLATFORM_KILLS_AFTER_S = 10.0
COLD_START_S = 5.0


def test_its_settings_are_settings_and_leave_the_platform_a_second() -> None:
    settings = understood(VARIABLES)
    assert settings.stop_delay_s + settings.stop_grace_s < PLATFORM_KILLS_AFTER_S - 1
    assert SPEC["timeoutSeconds"] > settings.body_timeout_s + settings.request_deadline_s
    mounted = {mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert mounted == {volume["name"] for volume in SPEC["volumes"]}


@contextmanager
def instance(here: Settings, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command of the recipe with the variables of the recipe, but for where Kafka is and who may come in."""
    ours = {
        "METRICS_KAFKA": here.kafka,
        "METRICS_REPLICATION": "1",
        "METRICS_SAMPLES_TOPIC": here.samples_topic,
        "METRICS_DEAD_LETTER_TOPIC": here.dead_letter_topic,
        "METRICS_NAME": here.name,
        "METRICS_DATA_DIR": str(folder / "data"),
    }
    kept = {name: value for name, value in VARIABLES.items() if name != "METRICS_TOKENS_FILE"} | ours
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PORT": str(here.port), "HOME": str(folder)} | kept
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen([*CONTAINER["command"], *CONTAINER["args"]], env=environment, stdout=log, stderr=log)
    try:
        yield started, f"http://127.0.0.1:{here.port}"
    finally:
        started.kill()
        started.wait()


def accepted(url: str, value: float) -> bool | None:
    """Whether a value was taken; None: nobody said."""
    try:
        reply = urllib3.request("POST", f"{url}/samples", json=["a", value], retries=False, timeout=stretched(5.0))
    except urllib3.exceptions.HTTPError:
        return None
    return reply.status == 202


@pytest.mark.kafka
async def test_it_starts_cold_and_is_gone_in_time_with_all_that_it_has_acknowledged(
    settings: MakeSettings, tmp_path: Path
) -> None:
    pace.begin()
    here = settings(port=free_port())
    await topics.ensure(here)
    began_s = time.monotonic()
    with instance(here, tmp_path) as (started, url):
        await until(lambda: bool(accepted(url, 0.0)), 30)
        cold_s = time.monotonic() - began_s
        outcomes = until_nobody_answers(url, lambda: os.kill(started.pid, signal.SIGTERM))
        code = started.wait(stretched(PLATFORM_KILLS_AFTER_S))
        print(f"first value taken {cold_s:.2f} s after the start; gone {outcomes.pop('gone'):.2f} s after SIGTERM")
    assert code == 0
    assert cold_s < stretched(COLD_START_S)
    kept = await values(here)
    taken = {value for value, outcome in outcomes.items() if outcome}
    assert len(taken) > 10
    assert taken <= set(kept)
    assert len(kept) == len(set(kept))
    assert not {value for value, outcome in outcomes.items() if outcome is False} & set(kept)


def until_nobody_answers(url: str, stop: Any) -> dict[Any, Any]:
    """What became of each value of four clients that go on sending while it stops; `gone`: seconds until the end."""
    outcomes: dict[Any, Any] = {}
    lock = threading.Lock()

    def client(first: int) -> None:
        value = float(first)
        while True:
            outcome = accepted(url, value)
            with lock:
                outcomes[value] = outcome
            if outcome is None:
                return
            value += 4

    clients = [threading.Thread(target=client, args=(number,)) for number in range(1, 5)]
    for each in clients:
        each.start()
    time.sleep(1.0)  # under load
    told_s = time.monotonic()
    stop()
    for each in clients:
        each.join()
    outcomes["gone"] = time.monotonic() - told_s
    return outcomes


async def values(here: Settings) -> list[float]:
    found: list[float] = []
    for message in await connections.everything(here, here.samples_topic, range(here.partitions)):
        for chunk in record.decode(message.value):
            found += struct.unpack(f"<{chunk.count}d", chunk.values)
    return [value for value in found if value]
