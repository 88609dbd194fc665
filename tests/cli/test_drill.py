from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from metrics_app.cli import drill
from metrics_app.cli.main import app
from metrics_app.verify import course
from tests.cli.fake_service import FakeService
from tests.cli.test_load import doubles_one, loses_one, swaps_one
from tests.verify.stage import installation, kafka_command, running, worker_command

runner = CliRunner()


async def drilled(folder: Path, service: FakeService, *arguments: str, workers: int = 1) -> tuple[Result, list[str]]:
    """What the command came to, and what the supervisor of the installation said."""
    async with installation(folder, service, workers) as said:
        command = ["drill", "--data-dir", str(folder), "--seed", "1", *arguments]
        return await asyncio.to_thread(lambda: runner.invoke(app, command)), said


def last_line(result: Result) -> str:
    lines: list[str] = result.stdout.rstrip("\n").split("\n")
    return lines[-1]


async def test_workers_and_kafka_are_killed_in_turn_and_an_exact_service_passes(tmp_path: Path) -> None:
    result, said = await drilled(tmp_path, FakeService(), workers=2)
    assert result.exit_code == 0, result.output
    sent = int(last_line(result).split()[1])
    assert sent > 1000
    assert last_line(result) == f"sent {sent} counted {sent} lost 0 double 0"
    deaths = [line.split()[0] for line in said if "was killed by SIGKILL" in line]
    assert sorted(deaths[:2]) == ["worker-0", "worker-1"]
    assert deaths[2:] == ["kafka"]


@pytest.mark.parametrize(
    ("fault", "ending"),
    [(loses_one, "lost 1 double 0"), (doubles_one, "lost 0 double 1"), (swaps_one, "lost 0 double 0")],
)
async def test_a_service_that_loses_doubles_or_changes_a_value_fails_the_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault, ending: str
) -> None:
    monkeypatch.setattr(course, "WHOLE_S", 6.0)  # what is lost is waited for
    monkeypatch.setattr(drill, "PATIENCE_S", 1.0)
    result, _ = await drilled(tmp_path, FakeService(fault), "--faults", "kafka")
    assert result.exit_code == 1
    assert last_line(result).endswith(ending)


async def test_a_service_that_forgets_idempotency_keys_is_found_double(tmp_path: Path) -> None:
    result, _ = await drilled(tmp_path, FakeService(statuses=(202, 202, 0), forgets=True), "--faults", "worker")
    assert result.exit_code == 1
    assert last_line(result).endswith("lost 0 double 100")


async def test_a_program_gets_json_with_every_kill(tmp_path: Path) -> None:
    result, _ = await drilled(tmp_path, FakeService(), "--json", "--faults", "worker", "--kills", "2", "--rate", "500")
    facts = json.loads(result.stdout)
    assert (facts["ok"], facts["lost"], facts["double"], facts["wrong"]) == (True, 0, 0, [])
    assert facts["sent"] == facts["counted"]
    assert [kill["name"] for kill in facts["kills"]] == ["worker-0"] * 2
    assert all(0 < kill["ready_s"] <= kill["whole_s"] for kill in facts["kills"])
    assert facts["queries"]["availability"] == 1.0
    assert f"sent {facts['sent']} counted {facts['sent']} lost 0 double 0" in result.stderr


def test_without_an_up_nothing_is_killed_unless_it_is_said_that_it_may(tmp_path: Path) -> None:
    with running(tmp_path, "worker-0", worker_command(tmp_path, "worker-0")) as process:
        result = runner.invoke(app, ["drill", "--data-dir", str(tmp_path)])
        assert process.is_running()
    assert result.exit_code == 1
    assert (
        "error: not all of this is kept alive by a `metrics-app up`: say --yes when it may be killed" in result.stderr
    )


async def test_an_address_that_is_none_of_the_workers_is_asked_about(tmp_path: Path) -> None:
    result, said = await drilled(tmp_path, FakeService(), "--url", "http://front.example")
    assert "say --yes" in result.stderr
    assert not any("killed" in line for line in said)


def test_a_stranger_behind_a_pid_file_is_said_and_spared(tmp_path: Path) -> None:
    with running(tmp_path, "worker-0", [sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        result = runner.invoke(app, ["drill", "--data-dir", str(tmp_path), "--yes"])
        assert stranger.is_running()
    assert result.exit_code == 1
    assert f"error: worker-0: process {stranger.pid}, named by" in result.stderr


def test_a_kafka_asked_for_must_be_there(tmp_path: Path) -> None:
    with running(tmp_path, "worker-0", worker_command(tmp_path, "worker-0")):
        result = runner.invoke(app, ["drill", "--data-dir", str(tmp_path), "--yes", "--faults", "worker,kafka"])
    assert f"error: no kafka runs in {tmp_path}" in result.stderr


def test_workers_of_one_role_each_need_an_address_in_front(tmp_path: Path) -> None:
    with running(tmp_path, "one", worker_command(tmp_path, "one", role="collector")):
        result = runner.invoke(app, ["drill", "--data-dir", str(tmp_path), "--yes"])
    assert "give the address in front, --url" in result.stderr


def test_kafka_alone_is_no_installation_to_send_to(tmp_path: Path) -> None:
    with running(tmp_path, "kafka", kafka_command(tmp_path)) as jvm:
        (tmp_path / "kafka" / "kafka.pid").write_text(str(jvm.pid))
        result = runner.invoke(app, ["drill", "--data-dir", str(tmp_path), "--yes"])
        assert jvm.is_running()
    assert "give the address in front, --url" in result.stderr


def test_nothing_that_runs_is_said(tmp_path: Path) -> None:
    result = runner.invoke(app, ["drill", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert f"error: nothing runs in {tmp_path}: start it with `metrics-app up`" in result.stderr


def test_an_unknown_fault_names_those_there_are(tmp_path: Path) -> None:
    result = runner.invoke(app, ["drill", "--faults", "disk"])
    assert result.exit_code == 2
    assert "worker, kafka" in result.stderr


@pytest.mark.kafka
def test_a_real_installation_comes_through_the_death_of_each_of_its_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "metrics_app", "drill", "--fresh", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["lost"], facts["double"], facts["wrong"]) == (0, 0, [])
    assert facts["sent"] == facts["accepted"] == facts["counted"] > 20_000
    assert sorted(kill["name"] for kill in facts["kills"]) == ["kafka", "worker-0", "worker-1"]
    assert done.stderr.rstrip().endswith(f"sent {facts['sent']} counted {facts['sent']} lost 0 double 0")
