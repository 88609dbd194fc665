from __future__ import annotations

import pytest

from metrics_app.collector.repeats import Repeats
from metrics_app.errors import KeyReuseError


def test_the_same_body_may_come_under_its_key_again():
    repeats = Repeats(limit=10)
    for _ in range(2):
        repeats.check(b"a", "application/json", b"[1]")


@pytest.mark.parametrize(("content_type", "body"), [("application/json", b"[2]"), ("text/plain", b"[1]")])
def test_another_request_under_the_same_key_is_refused(content_type, body):
    repeats = Repeats(limit=10)
    repeats.check(b"a", "application/json", b"[1]")
    with pytest.raises(KeyReuseError, match="another body"):
        repeats.check(b"a", content_type, body)
    repeats.check(b"a", "application/json", b"[1]")


def test_without_a_key_nothing_is_remembered():
    repeats = Repeats(limit=1)
    repeats.check(b"", "", b"[1]")
    repeats.check(b"", "", b"[2]")


def test_the_key_seen_longest_ago_is_forgotten_first():
    repeats = Repeats(limit=2)
    for key in (b"a", b"b", b"a", b"c"):
        repeats.check(key, "", b"[1]")
    repeats.check(b"b", "", b"[2]")
    with pytest.raises(KeyReuseError):
        repeats.check(b"c", "", b"[2]")
