"""Numbers, ids and idempotency keys belong to whoever sent them."""

from __future__ import annotations

import json
import uuid

import pytest

from metrics_app.wire.bodies import BodyLimits, BodyParts, parse, parsing
from metrics_app.wire.chunk import Chunk
from metrics_app.wire.ownership import NO_OWNER, Owner

NOW_S = 1_764_000_000.0
HOUR = int(NOW_S // 3600)
LIMITS = BodyLimits(1000, 300, 86_400, 100)
COLUMNS = json.dumps({"sender": str(uuid.UUID(int=7)), "series": [{"key": "k", "hour": HOUR, "values": [1, 2]}]})
IDS = json.dumps([{"key": "k", "value": 1, "id": "x"}, {"key": "k", "value": 2, "id": "y"}])
PLAIN = json.dumps([["k", 1], ["k", 2]])


def chunks(body: str, owner: Owner, request_id: bytes = b"") -> list[Chunk]:
    parts = BodyParts(NOW_S, LIMITS, owner.request_id(request_id), owner=owner)
    for _ in parsing(body.encode(), "", parts):
        pass
    return parts.done().chunks


@pytest.mark.parametrize("body", [COLUMNS, IDS, PLAIN])
def test_what_identifies_values_is_that_of_its_owner_and_stays_the_same(body):
    found = {
        owner: [(chunk.sender, chunk.ids) for chunk in chunks(body, owner, b"request")]
        for owner in (NO_OWNER, Owner("a"), Owner("b"))
    }
    assert len({str(each) for each in found.values()}) == 3
    assert found[Owner("a")] == [(chunk.sender, chunk.ids) for chunk in chunks(body, Owner("a", ("k",)), b"request")]
    sizes = {tuple((len(sender), len(ids)) for sender, ids in each) for each in found.values()}
    assert len(sizes) == 1


@pytest.mark.parametrize("body", [COLUMNS, IDS, PLAIN])
def test_without_an_owner_nothing_changes(body):
    assert chunks(body, NO_OWNER, b"request") == parse(body.encode(), "", NOW_S, LIMITS, b"request").chunks
    if body is COLUMNS:
        assert chunks(body, NO_OWNER)[0].sender == uuid.UUID(int=7).bytes


def test_what_was_not_sent_is_not_made():
    assert (Owner("a").sender(b""), Owner("a").request_id(b"")) == (b"", b"")


def test_an_id_of_an_owner_is_none_that_can_be_sent_without_one():
    assert Owner("a").sample_id(b"k", "x") != NO_OWNER.sample_id(b"a", "k\0x")
