"""`metrics-app archive` on a real Kafka: a changelog written for it, and one that a real worker writes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from metrics_app.archive.folder import Folder
from metrics_app.archive.following import Follower
from metrics_app.archive.keeping import Archive
from metrics_app.cli.main import app
from metrics_app.settings import PREFIX, Settings
from tests.archive.changelogs import HOUR, append, row_of, written
from tests.archive.test_keeping import contents
from tests.conftest import MakeSettings
from tests.faults.installation import Installation

pytestmark = pytest.mark.kafka
KEYS = [f"key-{number}" for number in range(20)]
NAMES = ("kafka", "name", "samples_topic", "dead_letter_topic", "partitions")
runner = CliRunner()


def environment_of(here: Settings) -> dict[str, str]:
    return {f"{PREFIX}{name.upper()}": str(getattr(here, name)) for name in NAMES}


def archived(here: Settings, to: Path) -> dict[str, int]:
    result = runner.invoke(app, ["archive", "--to", str(to), "--once", "--json"], env=environment_of(here))
    assert result.exit_code == 0, result.output
    found: dict[str, int] = json.loads(result.stdout)
    return found


def test_hours_are_archived_once_and_a_correction_is_a_newer_version(settings: MakeSettings, tmp_path: Path) -> None:
    here, to = settings(partitions=2), tmp_path / "archive"
    states = {(key, HOUR + age): row_of([age, 1.5]) for key in KEYS for age in range(3)}
    asyncio.run(append(here, written(states), upto=HOUR + 2))
    assert archived(here, to) == {"hours": 4, "corrected": 0, "rows": 40, "values": 80}  # the third hour is open
    before = contents(to)
    assert archived(here, to) == {"hours": 0, "corrected": 0, "rows": 0, "values": 0}
    assert contents(to) == before

    late = {("key-0", HOUR): row_of([0, 1.5, 9], stamp=2, late=1)}
    asyncio.run(append(here, written(late), upto=HOUR + 3, offset=101))
    done = archived(here, to)
    assert (done["hours"], done["corrected"]) == (2, 1)


def test_a_pass_that_finds_nothing_new_ends_at_once(settings: MakeSettings, tmp_path: Path) -> None:
    """A consumer that is stopped as soon as it has begun (`faust_runtime.ending`)."""
    here = settings(partitions=8)
    asyncio.run(append(here, [], upto=HOUR))

    async def passes() -> None:
        for _ in range(20):
            await asyncio.wait_for(Follower(here, Archive(Folder(tmp_path)), print).once(), 20)

    asyncio.run(passes())


def test_killed_at_random_moments_and_run_again_it_holds_the_same_as_one_that_never_was(
    settings: MakeSettings, tmp_path: Path
) -> None:
    here = settings(partitions=2)
    states = {(key, HOUR + age): row_of([age] * 20) for key in KEYS for age in range(16)}
    asyncio.run(append(here, written(states), upto=HOUR + 16))
    archived(here, tmp_path / "whole")
    command = [sys.executable, "-m", "metrics_app", "archive", "--to", str(tmp_path / "torn"), "--once"]
    environment = {**os.environ, **environment_of(here)}
    for seen in (1, 9, 25):
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and len(list((tmp_path / "torn").glob("date=*/hour=*/*.parquet"))) < seen:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
    archived(here, tmp_path / "torn")
    ours, whole = contents(tmp_path / "torn"), contents(tmp_path / "whole")
    assert {name: each for name, each in ours.items() if not name.endswith(".unfinished")} == whole


def test_a_missing_topic_another_number_of_partitions_and_an_address_are_refused(
    settings: MakeSettings, tmp_path: Path
) -> None:
    here, to = settings(partitions=2), str(tmp_path)
    result = runner.invoke(app, ["archive", "--to", to, "--once"], env=environment_of(here))
    assert result.exit_code == 3
    assert "there is no topic" in result.output
    asyncio.run(append(here, []))
    other = environment_of(here) | {"METRICS_PARTITIONS": "3"}
    result = runner.invoke(app, ["archive", "--to", to, "--once"], env=other)
    assert "has 2 partitions, METRICS_PARTITIONS says 3" in result.output
    result = runner.invoke(app, ["archive", "--to", "s3://bucket"], env=environment_of(here))
    assert result.exit_code == 2
    assert "expected a folder" in result.output


def post(url: str, samples: list[dict[str, Any]]) -> None:
    body = json.dumps(samples).encode()
    request = urllib.request.Request(f"{url}/samples", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert json.load(reply) == {"accepted": len(samples), "rejected": []}


def summary(url: str, key: str, at: datetime) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/{key}/summary/{at:%Y-%m-%d}/{at:%H}", timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def newest(folder: Path) -> dict[tuple[str, datetime], dict[str, Any]]:
    """The rows of the files that manifests name."""
    names = [
        hour["file"]
        for manifest in folder.glob("date=*/*.json")
        for hour in json.loads(manifest.read_text())["hours"].values()
    ]
    tables = [pyarrow.parquet.read_table(folder / name, partitioning=None) for name in names]
    return {(line["key"], line["start"]): line for table in tables for line in table.to_pylist()}


def test_what_a_real_worker_answers_is_what_is_archived_also_after_late_values(tmp_path: Path) -> None:
    chance, to = random.Random(7), tmp_path / "archive"
    now = int(time.time()) // 3600
    hours = [datetime.fromtimestamp((now - age) * 3600, UTC) for age in (30, 3)]
    with Installation(tmp_path, {"a": "all"}) as installation:
        worker = installation.workers["a"]
        environment = {**os.environ, **installation.settings, "METRICS_KAFKA": installation.kafka.bootstrap}

        def archive_until(keys: int, values: int) -> dict[tuple[str, datetime], dict[str, Any]]:
            command = [sys.executable, "-m", "metrics_app", "archive", "--to", str(to), "--once"]
            for _ in range(200):
                subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)
                found = newest(to)
                if (len(found), sum(line["count"] for line in found.values())) == (keys, values):
                    return found
            raise AssertionError(f"{len(found)} rows")

        def sent(each: int) -> None:
            post(
                worker.url,
                [
                    {"key": key, "value": chance.random() * 1000, "timestamp": at.timestamp() + 5}
                    for key in KEYS for at in hours for _ in range(each)
                ],
            )  # fmt: skip

        for each, total in ((5, 5), (2, 7)):
            sent(each)
            found = archive_until(len(KEYS) * len(hours), len(KEYS) * len(hours) * total)
            for (key, at), line in found.items():
                answer = summary(worker.url, key, at)
                values = answer["values"]
                assert [line[name] for name in ("sum", "min", "max", "p50", "p90", "p99")] == [
                    values[name] for name in ("sum", "min", "max", "median", "p90", "p99")
                ]
                assert [line[name] for name in ("count", "late", "duplicates")] == [
                    answer[name] for name in ("count", "late", "duplicates")
                ]
        assert {line["version"] for line in found.values()} >= {2}
