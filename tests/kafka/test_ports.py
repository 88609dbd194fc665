from __future__ import annotations

import contextlib
import socket
import struct
import threading

import pytest

from metrics_app.kafka.ports import PORTS_TRIED, broker_at, free_from, free_port, free_ports, is_free


def test_a_port_is_free_unless_somebody_listens_there_or_there_is_no_such_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)
    assert not is_free(70_000)


def test_the_lowest_free_port_is_none_of_those_taken_or_to_be_avoided() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = free_from(port, avoid=[port + 1])
    assert found is not None
    assert found >= port + 2


def test_ports_in_a_row_do_not_span_a_taken_one() -> None:
    first = free_from(21_000, 3)
    assert first is not None
    with socket.create_server(("127.0.0.1", first + 2)):
        found = free_from(first, 3)
    assert found is not None
    assert found >= first + 3


def test_free_ports_are_all_different_and_none_that_a_client_may_be_given() -> None:
    found = free_ports(50)
    assert len({*found}) == 50
    assert all(is_free(port) and 10_000 <= port < 32_768 for port in found)


def test_there_may_be_none() -> None:
    assert free_from(21_000, avoid=range(21_000, 21_000 + PORTS_TRIED)) is None


@pytest.mark.parametrize(
    "reply",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", struct.pack(">i", 8) + b"SSH-2.0-", struct.pack(">i", -1), b"\0\0"],
)
def test_what_is_no_kafka_is_none_whatever_it_answers(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with contextlib.suppress(OSError), connection:
                connection.recv(1024)
                connection.sendall(reply)

        answering = threading.Thread(target=answer)
        answering.start()
        assert broker_at(server.getsockname()[1]) is None
        answering.join()


def test_no_broker_is_where_nobody_listens() -> None:
    assert broker_at(free_port()) is None
