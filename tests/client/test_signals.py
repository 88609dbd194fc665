"""Processes that a signal ends, and servers that end by the signal they got: what was recorded is sent first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

from metrics_app.client import signals
from metrics_app.kafka.ports import free_port
from tests.faults.pace import stretched

from .collector import Collector
from .conftest import Connect
from .test_processes import PRELUDE, ask

PATIENT = "exit_timeout_s=20, connect_timeout_s=10"  # a crowded machine is no reason to lose values
WAITS = """
import signal, threading
def handler(number, frame):
    global ends
    ends = True
ends = False
def wait(seconds=60):
    print("waits", flush=True)
    until = time.monotonic() + seconds
    while not ends and time.monotonic() < until: time.sleep(0.02)
"""


@contextmanager
def started(code: str, collector: Collector, options: str = PATIENT) -> Iterator[subprocess.Popen[str]]:
    """A process that has recorded and waits to be ended."""
    made = (PRELUDE + WAITS + code).replace("interval_s=60", f"interval_s=60, {options}")
    command = [sys.executable, "-c", made, collector.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waits\n"
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int) -> int:
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said, said
    return process.returncode


RECORD = "for _ in range(100): client.record('a', 1.0)\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_process_that_a_signal_ends_sends_what_it_has_and_ends_by_the_signal(
    collector: Collector, number: signal.Signals
) -> None:
    with started(RECORD + "wait()", collector) as process:
        assert ended(process, number) == -number
    assert (collector.counted("a"), collector.missing("a")) == (100, 0)


def test_a_client_made_in_a_thread_has_its_signals_heeded_with_the_first_value_of_the_main_thread(
    collector: Collector,
) -> None:
    made = "signal.signal(15, signal.SIG_DFL)\nholder = []\n"
    made += "make = lambda: holder.append(MetricsClient(sys.argv[1], Options(interval_s=60)))\n"
    made += "thread = threading.Thread(target=make); thread.start(); thread.join(); client = holder[0]\n"
    with started(made + RECORD + "wait()", collector) as process:
        assert ended(process, signal.SIGTERM) == -signal.SIGTERM
    assert collector.counted("a") == 100


def test_a_handler_that_was_set_before_is_called_after_what_waits_was_sent(collector: Collector) -> None:
    before = "signal.signal(15, handler)\nclient = MetricsClient(sys.argv[1], Options(interval_s=60))\n"
    with started(before + RECORD + "wait()\nos._exit(7)", collector) as process:
        assert ended(process, signal.SIGTERM) == 7
    assert collector.counted("a") == 100


def test_what_is_recorded_after_the_signal_goes_out_at_once(collector: Collector) -> None:
    before = "signal.signal(15, handler)\nclient = MetricsClient(sys.argv[1], Options(interval_s=60))\n"
    after = "wait()\n" + RECORD + "time.sleep(1.0); os._exit(7)"
    with started(before + after, collector) as process:
        assert ended(process, signal.SIGTERM) == 7
    assert collector.counted("a") == 100


def test_a_handler_that_is_set_later_decides_and_ours_has_its_turn_when_it_is_put_back(collector: Collector) -> None:
    """What uvicorn does from 0.29 on."""
    later = "before = signal.signal(15, handler)\n" + RECORD + "wait(); client.record('a', 1.0)\n"
    with started(later + "signal.signal(15, before); signal.raise_signal(15)", collector) as process:
        assert ended(process, signal.SIGTERM) == -signal.SIGTERM
    assert collector.counted("a") == 101


@pytest.mark.parametrize(("before", "options"), [("SIG_IGN", ""), ("SIG_DFL", "signals=False")])
def test_a_signal_that_is_ignored_stays_so_and_all_are_left_alone_where_that_is_wanted(
    collector: Collector, before: str, options: str
) -> None:
    code = "import signal, sys\nfrom metrics_app import MetricsClient, Options\n"
    code += f"signal.signal(15, signal.{before})\nclient = MetricsClient(sys.argv[1], Options({options}))\n"
    code += f"print(signal.getsignal(15) is signal.{before}, signal.getsignal(2) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code, collector.url], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_a_service_that_is_away_holds_a_signal_up_for_no_longer_than_an_end(collector: Collector) -> None:
    collector.mode = "hole"
    with started(RECORD + "wait()", collector, "exit_timeout_s=2") as process:
        began = time.monotonic()
        assert ended(process, signal.SIGTERM) == -signal.SIGTERM
    assert time.monotonic() - began < stretched(2.0) + 2.0


def test_a_signal_in_the_midst_of_the_client_s_work_waits_for_its_end(connect: Connect, collector: Collector) -> None:
    """Else the handler would wait for a lock that the thread holds which it interrupts."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        assert signals.guard(lambda: came.append(0))
        with signals.undisturbed():
            signal.raise_signal(signal.SIGTERM)
            assert came == []
        assert came == [0, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


APP = """
import asyncio, os
from metrics_app import MetricsClient, Options
from metrics_app.client.asgi import TimingMiddleware

client = MetricsClient(os.environ["URL"], Options(interval_s=60, exit_timeout_s=20, connect_timeout_s=10))

async def plain(scope, receive, send):
    assert scope["type"] == "http"
    await asyncio.sleep(float(scope["query_string"] or 0))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    client.record("mine", 1.0)
    await send({"type": "http.response.body", "body": b"ok"})

timed = TimingMiddleware(plain, client)

if __name__ == "__main__":
    import sys, uvicorn
    uvicorn.run(timed if sys.argv[1] == "timed" else plain, port=int(sys.argv[2]))
"""

SERVERS = {
    "uvicorn": ["-m", "uvicorn", "shop:{app}", "--port", "{port}"],
    "script": ["shop.py", "{app}", "{port}"],
    "gunicorn": ["-m", "gunicorn", "-k", "uvicorn.workers.UvicornWorker", "-b", "127.0.0.1:{port}", "shop:{app}"],
    "preload": [
        "-m",
        "gunicorn",
        "--preload",
        "-k",
        "uvicorn.workers.UvicornWorker",
        "-b",
        "127.0.0.1:{port}",
        "shop:{app}",
    ],
}


@contextmanager
def served(
    server: str, app: str, collector: Collector, folder: Path, python: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    (folder / "shop.py").write_text(APP)
    port = free_port()
    command = [python, *(part.format(app=app, port=port) for part in SERVERS[server])]
    with (folder / "log").open("w") as log:
        environment = {**os.environ, "URL": collector.url}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield port, process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def end_a_server(collector: Collector, folder: Path, server: str, app: str, python: str) -> str:
    """Asks 21 times, ends it while it answers the last one, and returns its log."""
    with served(server, app, collector, folder, python) as (port, process):
        for _ in range(20):
            ask(port)
        slow = threading.Thread(target=ask, args=(port, 20.0, "?0.5"))
        slow.start()
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        slow.join()
        process.wait(60)
    said = (folder / "log").read_text()
    assert "Traceback" not in said, said
    return said


@pytest.mark.parametrize("app", ["plain", "timed"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_is_ended_by_sigterm_has_sent_every_request(
    collector: Collector, tmp_path: Path, server: str, app: str
) -> None:
    said = end_a_server(collector, tmp_path, server, app, sys.executable)
    assert (collector.counted("mine"), collector.missing("mine")) == (21, 0), said
    assert collector.counted("GET *") == (21 if app == "timed" else 0), said


@pytest.mark.slow
@pytest.mark.parametrize("version", ["uvicorn==0.28.1", "uvicorn==0.29.0", "uvicorn"])
def test_so_have_servers_of_the_oldest_and_the_newest_uvicorn(
    collector: Collector, tmp_path: Path, version: str
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    needed = [version, "gunicorn", "msgspec", "urllib3"]
    subprocess.run([python, "-m", "pip", "-q", "install", "--disable-pip-version-check", *needed], check=True)
    (lib,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (lib / "ours.pth").write_text(str(Path(__file__).parents[2]))
    for number, (server, app) in enumerate(product(SERVERS, ("plain", "timed")), 1):
        end_a_server(collector, tmp_path, server, app, str(python))
        assert (collector.counted("mine"), collector.missing("mine")) == (21 * number, 0), (server, app)
