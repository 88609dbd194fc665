"""One client with a key for each value costs itself its values, not everybody their worker."""

from __future__ import annotations

import json

import pytest

from metrics_app.collector.senders import MOST_CLIENTS, Senders
from metrics_app.wire import bodies
from tests.collector.fakes import FakeSink, collector
from tests.conftest import MakeSettings

HOUR = 500_000
NOW_S = HOUR * 3600.0


def test_rows_that_were_met_are_taken_when_no_new_one_is():
    admits = Senders(2, 10).admission("a", NOW_S)
    assert admits([(key, HOUR) for key in (b"x", b"y", b"z", b"x", b"y", b"z")]) == [2, 5]
    assert admits([(b"x", HOUR - 1)]) == [0], "a row is a key in an hour"


def test_rows_that_come_together_are_counted_as_if_they_came_one_by_one():
    rows = [(b"x", HOUR), (b"y", HOUR), (b"x", HOUR), (b"z", HOUR), (b"w", HOUR)]
    for most in range(7):
        together, apart = Senders(most, 3), Senders(most, 3)
        one_by_one = apart.admission("a", NOW_S)
        assert together.admission("a", NOW_S)(rows) == [at for at, row in enumerate(rows) if one_by_one([row])]
        assert together.top("rows") == apart.top("rows")


def test_each_client_has_a_bound_of_its_own_and_what_others_began_costs_it_nothing():
    senders = Senders(100, 1)
    greedy, modest = senders.admission("greedy", NOW_S), senders.admission("modest", NOW_S)
    assert (greedy([(b"x", HOUR), (b"y", HOUR)]), modest([(b"x", HOUR), (b"z", HOUR)])) == ([1], [])


def test_a_new_hour_has_room_again():
    senders = Senders(1, 1)
    assert not senders.admission("a", NOW_S)([(b"x", HOUR)])
    assert senders.admission("a", NOW_S + 3599)([(b"y", HOUR)])
    assert not senders.admission("a", NOW_S + 3600)([(b"y", HOUR)])


def test_accounts_are_bounded_and_the_client_not_seen_for_longest_is_forgotten():
    senders = Senders(1, 1)
    for number in range(MOST_CLIENTS):
        senders.account(str(number)).requests = 1
    senders.account("0").requests += 1
    senders.account("new")
    assert senders.top("requests")["clients"] == MOST_CLIENTS
    assert senders.account("0").requests == 2
    assert senders.account("1").requests == 0


LIMITS = bodies.BodyLimits(1000, 300, 31 * 86_400, 100)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'[["x",1],["y",2],["x",3],["y",4]]'),
        (
            "application/json",
            b'{"series":[{"key":"x","hour":500000,"values":[1,3]},{"key":"y","hour":500000,"values":[2,4]}]}',
        ),
        ("application/x-ndjson", b'["x",1]\n["y",2]\n["x",3]\n["y",4]'),
    ],
)
def test_every_form_of_a_body_keeps_the_values_of_admitted_rows_and_names_the_others(content_type, body):
    parts = bodies.BodyParts(NOW_S, LIMITS, b"", Senders(1, 1).admission("a", NOW_S))
    for _ in bodies.parsing(body, content_type, parts):
        pass
    parsed = parts.done()
    assert [chunk.key for chunk in parsed.chunks] == [b"x"]
    assert (parsed.accepted, parsed.reasons) == (2, {"keys": 2})
    assert all("too many keys" in rejection.detail for rejection in parsed.rejected)
    assert {rejection.index for rejection in parsed.rejected} <= {1, 3}


async def test_the_worst_senders_are_named(make_settings: MakeSettings):
    settings = make_settings(max_rows_an_hour=2)
    async with collector(settings, FakeSink()) as one:
        for key, status in (("x", 202), ("y", 202), ("z", 400)):
            assert (await one.post(json.dumps([[key, 1.0]]).encode())).status == status
        url = f"http://127.0.0.1:{settings.port}/admin/top-senders"
        async with one.session.get(url) as reply:
            told = json.loads(await reply.read())
        async with one.session.get(f"{url}?by=nonsense") as reply:
            assert (reply.status, "requests or bytes" in await reply.text()) == (400, True)
    assert (told["rows"], told["max_rows"]) == (2, 2)
    (worst,) = told["top"]
    assert worst["client"] == "127.0.0.1"
    assert [worst[name] for name in ("requests", "accepted", "rejected", "refused", "rows")] == [3, 2, 1, 0, 2]
