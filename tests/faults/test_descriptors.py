"""More clients than there are file descriptors: the worker keeps some for itself, and who asks is answered."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_app.kafka.ports import free_port
from tests import certificates
from tests.faults.installation import Installation
from tests.faults.limited import OPEN_FILES
from tests.faults.process import Process

LIMIT = 256
CLIENTS = 400


def collector(folder: Path, open_files: str, **settings: str) -> Process:
    port = free_port()
    environment = {"METRICS_KAFKA": f"127.0.0.1:{free_port()}", OPEN_FILES: open_files, **settings}
    process = Process(
        "a", ["collector", "--port", str(port), "--data-dir", str(folder / "a")], port, folder, environment
    )
    process.module = "tests.faults.limited"
    return process


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    process.start()
    try:
        deadline = time.monotonic() + 60
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port_of(process))) != 0:
                assert time.monotonic() < deadline, process.tail()
                time.sleep(0.1)
        yield process
    finally:
        process.end()


def port_of(process: Process) -> int:
    return int(process.url.rpartition(":")[2])


@contextlib.contextmanager
def silent_clients(process: Process, count: int) -> Iterator[list[socket.socket]]:
    """Clients that connect and say nothing."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(process)), timeout=20))
            for _ in range(count)
        ]


def ask(process: Process, method: str, path: str, body: bytes | None = None, files: object = None) -> tuple[int, bytes]:
    """Status and body."""
    if files is None:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(process), timeout=20)
    else:
        context = ssl.create_default_context(cafile=str(files))
        connection = http.client.HTTPSConnection("127.0.0.1", port_of(process), timeout=20, context=context)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, reply.read()


def is_closed(client: socket.socket) -> bool:
    """Whether the server has closed it."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    with running(collector(tmp_path, "128 4096")) as process, silent_clients(process, CLIENTS) as clients:
        assert ask(process, "GET", "/livez")[0] == 200
        assert not any(is_closed(client) for client in clients)


@pytest.mark.parametrize("over_tls", [False, True])
def test_silent_clients_and_handshakes_leave_room_for_who_asks(tmp_path: Path, over_tls: bool) -> None:
    files = certificates.make(tmp_path) if over_tls else {}
    settings = {f"METRICS_{name.upper()}": str(path) for name, path in files.items()}
    with running(collector(tmp_path, f"{LIMIT} {LIMIT}", **settings)) as process:
        with silent_clients(process, CLIENTS) as clients:
            for _ in range(5):
                assert ask(process, "GET", "/livez", files=files.get("tls_ca_file"))[0] == 200
            assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) <= LIMIT - 60
            assert sum(is_closed(client) for client in clients) > CLIENTS - LIMIT
        assert "leaves room for fewer than" in process.said
        assert process.stop() == 0, process.tail()


@pytest.mark.kafka
def test_a_worker_with_more_clients_than_descriptors_goes_on_counting(tmp_path: Path) -> None:
    settings = {OPEN_FILES: f"{LIMIT} {LIMIT}", "METRICS_PARTITIONS": "8", "METRICS_FLUSH_INTERVAL_S": "0.3"}
    installation = Installation(tmp_path, {"a": "all"}, settings)
    worker = installation.workers["a"]
    worker.module = "tests.faults.limited"
    with installation, silent_clients(worker, CLIENTS):
        for _ in range(10):
            assert ask(worker, "POST", "/samples", b'[["a",1],["b",2],["c",3]]')[0] == 202
            time.sleep(0.3)
        hour = time.strftime("%Y-%m-%d/%H", time.gmtime())
        status, body = ask(worker, "GET", f"/a/count/{hour}")
        assert status == 200
        assert json.loads(body)["count"] in range(1, 11)
        assert worker.starts == 1
        assert worker.is_running
        assert worker.stop() == 0, worker.tail()
