from __future__ import annotations

import pytest

from metrics_app.collector.views import KnownRequests
from metrics_app.errors import KeyReuseError, OverloadedError


def keep(repeats: KnownRequests, request_id: bytes, body: bytes, failure: Exception | None = None) -> None:
    with repeats.under(request_id, body):
        if failure is not None:
            raise failure


def test_the_same_body_may_come_under_its_key_again():
    repeats = KnownRequests(limit=10)
    for _ in range(2):
        keep(repeats, b"a", b"[1]")


def test_another_body_under_the_same_key_is_refused():
    repeats = KnownRequests(limit=10)
    keep(repeats, b"a", b"[1]")
    with pytest.raises(KeyReuseError, match="another body"):
        keep(repeats, b"a", b"[2]")
    keep(repeats, b"a", b"[1]")


def test_a_body_of_which_nothing_was_kept_is_not_remembered():
    repeats = KnownRequests(limit=10)
    with pytest.raises(OverloadedError):
        keep(repeats, b"a", b"[1]", OverloadedError("no memory", nothing_kept=True))
    keep(repeats, b"a", b"[2]")


@pytest.mark.parametrize("failure", [OverloadedError("no ack"), ValueError("a bug")])
def test_a_body_of_which_something_may_have_been_kept_is_remembered(failure):
    repeats = KnownRequests(limit=10)
    with pytest.raises(type(failure)):
        keep(repeats, b"a", b"[1]", failure)
    with pytest.raises(KeyReuseError):
        keep(repeats, b"a", b"[2]")


def test_a_body_that_was_kept_once_stays_remembered_when_its_repetition_is_refused():
    repeats = KnownRequests(limit=10)
    keep(repeats, b"a", b"[1]")
    with pytest.raises(OverloadedError):
        keep(repeats, b"a", b"[1]", OverloadedError("no memory", nothing_kept=True))
    with pytest.raises(KeyReuseError):
        keep(repeats, b"a", b"[2]")


def test_without_a_key_nothing_is_remembered():
    repeats = KnownRequests(limit=1)
    keep(repeats, b"", b"[1]")
    keep(repeats, b"", b"[2]")


def test_the_key_seen_longest_ago_is_forgotten_first():
    repeats = KnownRequests(limit=2)
    for key in (b"a", b"b", b"a", b"c"):
        keep(repeats, key, b"[1]")
    keep(repeats, b"b", b"[2]")
    with pytest.raises(KeyReuseError):
        keep(repeats, b"c", b"[2]")
