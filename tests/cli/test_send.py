"""`send` says how much is in, and the same input sent again under its batch counts once."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner, Result

from metrics_app.cli.main import app


class Service:
    """Counts each id once, refuses values below 0, and answers 503 from one request on."""

    def __init__(self, ends_after: int = 1000) -> None:
        self.counted: dict[str, tuple[str, float]] = {}
        self.bodies: list[list[dict[str, Any]]] = []
        self.texts: list[str] = []
        self.ends_after = ends_after

    async def take(self, request: web.Request) -> web.Response:
        items = await request.json()
        self.texts.append(await request.text())
        if len(self.bodies) >= self.ends_after:
            return web.json_response({"status": 503, "detail": "Kafka is away"}, status=503)
        self.bodies.append(items)
        rejected = [
            {"index": index, "reason": "value", "detail": "negative"}
            for index, item in enumerate(items)
            if item["value"] < 0
        ]
        self.counted |= {item["id"]: (item["key"], item["value"]) for item in items if item["value"] >= 0}
        return web.json_response({"accepted": len(items) - len(rejected), "rejected": rejected}, status=202)

    async def send(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        server = web.Application()
        server.router.add_post("/samples", self.take)
        async with TestServer(server) as running:
            command = ["send", *arguments, "--url", str(running.make_url("")).rstrip("/")]
            return await asyncio.to_thread(CliRunner().invoke, app, command, input=stdin)


def lines(count: int) -> list[str]:
    return [f"checkout {number}" for number in range(count)]


@pytest.mark.parametrize(
    ("timestamp", "sent"),
    [
        ("1795647599.99999989", "1795647599.99999989"),  # as a float64 it would be of the next hour
        ("1795647599.9999999999999999999", "1795647599.9999999999999999999"),
        ("2026-11-25T22:59:59.9999999Z", '"2026-11-25T22:59:59.9999999Z"'),
        ("nan", '"nan"'),  # and not null, the time of arrival
        ("1_795", '"1_795"'),
    ],
)
async def test_a_timestamp_is_sent_as_it_is_written(timestamp: str, sent: str) -> None:
    service = Service()
    await service.send("checkout", "1", "--timestamp", timestamp)

    assert f'"timestamp":{sent},' in service.texts[0]


async def test_a_sample_is_sent_and_its_acceptance_printed() -> None:
    service = Service()
    result = await service.send(" check out", "12.5", "--timestamp", "1795464000.5", "--batch", "b")
    assert (result.exit_code, result.stdout) == (0, "accepted 1\n")
    [[item]] = service.bodies
    assert item == {"key": " check out", "value": 12.5, "timestamp": 1795464000.5, "id": item["id"]}


async def test_lines_of_stdin_are_sent_with_everything_before_the_number_as_the_key() -> None:
    service = Service()
    result = await service.send(stdin="check out 1\n\nb\t2.5\n")
    assert result.exit_code == 0
    assert list(service.counted.values()) == [("check out", 1.0), ("b", 2.5)]


async def test_equal_lines_count_each_and_two_runs_are_two_batches() -> None:
    service = Service()
    for _ in range(2):
        await service.send(stdin="a 1\na 1\n")
    assert len(service.counted) == 4


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"checkout", "expected `key value`, got 'checkout'"),
        (b"checkout fast", "expected `key value`, got 'checkout fast'"),
        (b"12.5", "expected `key value`, got '12.5'"),
        (b"checkout nan", "expected `key value`, got 'checkout nan'"),
        (b"checkout 1e999", "expected `key value`, got 'checkout 1e999'"),
        (b"checkout 1_0", "expected `key value`, got 'checkout 1_0'"),
        (b"caf\xe9 1", r"expected UTF-8, got 'caf\\xe9 1'"),
        (b"checkout -1", "negative"),
    ],
)
async def test_a_bad_line_is_named_and_stops_none_of_the_others(bad: bytes, problem: str) -> None:
    service = Service()
    result = await service.send(stdin=b"a 1\n" + bad + b"\nb 2\n")
    assert (result.exit_code, result.stdout) == (1, "accepted 2\n")
    assert f"rejected line 2: {problem}\n" in result.stderr
    assert list(service.counted.values()) == [("a", 1.0), ("b", 2.0)]


async def test_the_corrected_input_sent_again_under_the_batch_counts_once() -> None:
    service, bad = Service(), lines(1500)
    bad[700] = "checkout fast"
    first = await service.send(stdin="\n".join(bad))
    batch = re.search(r"--batch (\S+):", first.stderr)
    assert (first.exit_code, first.stdout) == (1, "accepted 1499\n")
    assert batch is not None
    corrected = await service.send("--batch", batch[1], stdin="\n".join(lines(1500)))
    assert (corrected.exit_code, corrected.stdout) == (0, "accepted 1500\n")
    assert sorted(value for _, value in service.counted.values()) == list(range(1500))


async def test_a_service_that_fails_in_the_middle_is_told_with_how_much_is_in_and_how_to_go_on() -> None:
    service = Service(ends_after=1)
    first = await service.send("--batch", "nightly 1", stdin="\n".join(lines(1500)))
    assert (first.exit_code, first.stdout) == (1, "accepted 1000\n")
    assert "send the same again with --batch 'nightly 1': what is in counts once" in first.stderr
    assert "error: not accepted: Kafka is away" in first.stderr
    service.ends_after = 1000
    await service.send("--batch", "nightly 1", stdin="\n".join(lines(1500)))
    assert len(service.counted) == 1500


async def test_json_has_the_batch_and_every_rejected_line() -> None:
    result = await Service().send("--batch", "b", "--json", stdin="a 1\n" + "a -1\n" * 50)
    document = json.loads(result.stdout)
    assert (document["batch"], document["accepted"], len(document["rejected"])) == ("b", 1, 50)
    assert document["rejected"][49] == {"line": 51, "reason": "value", "detail": "negative"}


async def test_many_rejected_lines_are_not_all_printed() -> None:
    result = await Service().send(stdin="a -1\n" * 1000)
    assert result.stderr.count("rejected line") == 20
    assert "and 980 more: --json lists all of them" in result.stderr


async def test_a_byte_order_mark_is_no_part_of_a_key() -> None:
    service = Service()
    await service.send(stdin="\ufeffcheckout 1\r\ncheckout 2\r\n")
    assert list(service.counted.values()) == [("checkout", 1.0), ("checkout", 2.0)]


@pytest.mark.parametrize("environment", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_an_argument_that_is_no_utf8_is_a_sentence_in_every_locale(environment: dict[str, str]) -> None:
    command = [sys.executable.encode(), b"-m", b"metrics_app", b"send", b"caf\xe9", b"1"]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 1
    assert b"rejected line 1: expected a key in UTF-8, got 'caf" in done.stderr
    assert b"Traceback" not in done.stderr


def catches_sigint(pid: int) -> bool:
    """Whether that process has a handler for SIGINT, as Python has unless it was told otherwise."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) & 1 << (signal.SIGINT - 1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads in /proc which signals a process handles")
@pytest.mark.parametrize("moment", ["while the commands are imported", "after that"])
def test_an_interrupt_in_the_first_second_is_no_traceback(moment: str) -> None:
    command = [sys.executable, "-m", "metrics_app", "send"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for caught in (True, False) if moment.startswith("while") else (True, False, True):
            while catches_sigint(process.pid) is not caught:
                time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in stderr
