"""A process that is to end is gone within its grace, with a code and a sentence, whatever goes wrong on the way."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metrics_app.kafka.ports import free_port
from metrics_app.process import EXIT_CRASHED
from tests import certificates
from tests.faults.dying import BLOCKED, DYING, FAULTS
from tests.faults.process import Process

GRACE_S = 2.0
MARGIN_S = 20.0  # for a machine that has other work to do; a process that stays would be there for ever
CRASHES_BY_ITSELF = ("start-raises", "start-exits", "start-and-stop-raise")
# what is in the log, and the exit code
ENDS = {
    "nothing": ("stopped", 0),
    "stop-raises": ("stopped; the stop failed, what was not flushed will be replayed: OSError(24", EXIT_CRASHED),
    "stop-raises-among-tasks-that-swallow-cancellation": ("the stop failed", EXIT_CRASHED),
    "stop-exits": ("the worker cannot go on: SystemExit(5)", EXIT_CRASHED),
    "stop-never-ends": ("not over within 2 s", EXIT_CRASHED),
    "stop-blocks": ("not stopped 3 s after it was to end", EXIT_CRASHED),
    "loop-spins": ("not stopped 3 s after it was to end", EXIT_CRASHED),
    "loop-sleeps": ("not stopped 3 s after it was to end", EXIT_CRASHED),
    "log-blocks": ("", EXIT_CRASHED),
    "thread-stays": ("stopped", 0),
    "hook-stays": ("stopped", 0),
    "start-never-ends": ("stopped", 0),
    "start-raises": ("the worker cannot go on: OSError(24, 'Too many open files')", EXIT_CRASHED),
    "start-exits": ("the worker cannot go on: SystemExit(5)", EXIT_CRASHED),
    "start-and-stop-raise": ("the stop failed", EXIT_CRASHED),
}


def collector(name: str, folder: Path, **settings: str) -> Process:
    """One without a Kafka: it needs none to live and to die."""
    port = free_port()
    arguments = ["collector", "--port", str(port), "--data-dir", str(folder / f"data-{name}")]
    environment = {"METRICS_KAFKA": f"127.0.0.1:{free_port()}", "METRICS_STOP_GRACE_S": str(GRACE_S), **settings}
    process = Process(name, arguments, port, folder, environment)
    process.module = "tests.faults.dying"
    return process


def await_life(process: Process) -> None:
    """Until it listens, or has got to where it never will."""
    until(lambda: not process.is_running or BLOCKED in process.tail() or is_open(process))


SLOW = ("stop-raises", "stop-exits", "stop-blocks", "loop-spins", "thread-stays", "start-raises", "start-exits")
CASES = [pytest.param(fault, marks=[pytest.mark.slow] if fault in SLOW else []) for fault in FAULTS]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a collector in which that goes wrong, and returns once it listens or never will."""
    started: list[Process] = []

    def run(fault: str, **settings: str) -> Process:
        started.append(collector(fault, tmp_path, **{DYING: fault, **settings}))
        started[-1].start()
        await_life(started[-1])
        return started[-1]

    yield run
    for process in started:
        process.end()


@pytest.mark.parametrize("fault", CASES)
def test_the_process_is_gone_within_its_grace(start: Callable[..., Process], fault: str) -> None:
    process = start(fault)
    if fault not in CRASHES_BY_ITSELF:
        process.send_signal(signal.SIGTERM)
    sentence, code = ENDS[fault]
    assert process.wait(GRACE_S + MARGIN_S) == code, process.tail()
    assert sentence in process.said
    assert not is_open(process)


def is_open(process: Process) -> bool:
    """Whether its port takes connections."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", int(process.url.rpartition(":")[2]))) == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_every_signal_that_asks_for_an_end_drains(start: Callable[..., Process], number: signal.Signals) -> None:
    process = start("nothing")
    for harmless in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        process.send_signal(harmless)
    time.sleep(0.2)
    assert process.is_listening()
    process.send_signal(number)
    assert process.wait(MARGIN_S) == 0, process.tail()
    assert f"{number.name}: stopping" in process.said, "among what SIGUSR1 and SIGUSR2 print, which may take a while"


def test_a_second_signal_does_not_cut_the_stop_short(start: Callable[..., Process]) -> None:
    process = start("stop-never-ends")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert process.wait(GRACE_S + MARGIN_S) == EXIT_CRASHED, process.tail()


def test_a_process_that_is_ending_says_so_under_livez(start: Callable[..., Process]) -> None:
    process = start("stop-never-ends", METRICS_STOP_GRACE_S="5")
    process.send_signal(signal.SIGTERM)
    statuses, detail = [], ""
    while process.is_running:
        status, body = livez(process)
        statuses.append(status)
        detail = detail or (json.loads(body)["detail"] if status == 503 else "")
        time.sleep(0.05)
    assert 503 in statuses, statuses
    assert detail == "ending: stopped"
    assert 200 not in statuses[statuses.index(503) :]


def livez(process: Process) -> tuple[int, bytes]:
    """Status and body; 0 when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", int(process.url.rpartition(":")[2]), timeout=2)
    try:
        connection.request("GET", "/livez")
        reply = connection.getresponse()
        return reply.status, reply.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def test_sighup_reads_certificates_again_and_a_bad_one_changes_nothing(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    files = certificates.make(tmp_path)
    process = start("nothing", **{f"METRICS_{name.upper()}": str(path) for name, path in files.items()})
    address = ("127.0.0.1", int(process.url.rpartition(":")[2]))
    before = ssl.get_server_certificate(address)
    held = http.client.HTTPSConnection(*address, context=ssl._create_unverified_context(), timeout=20)
    held.request("GET", "/livez")
    assert held.getresponse().read()

    certificates.make(tmp_path)
    process.send_signal(signal.SIGHUP)
    until(lambda: "read again" in process.tail())
    renewed = ssl.get_server_certificate(address)
    assert renewed == files["tls_cert_file"].read_text() != before

    files["tls_key_file"].write_text("no key")
    process.send_signal(signal.SIGHUP)
    until(lambda: "stay as they were" in process.tail())
    assert ssl.get_server_certificate(address) == renewed
    held.request("GET", "/livez")
    assert held.getresponse().status == 200
    held.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
