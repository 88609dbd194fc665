from __future__ import annotations

import pytest

from benchmarks.single_post import Turn, section
from benchmarks.wrk import Driven, parsed

SAID = """  1 threads and 256 connections
  Latency Distribution
     50%   37.82ms
     99%  1.19s
  27389 requests in 4.02s, 8.12MB read
Requests/sec:   6813.31
"""


def test_what_wrk_says_is_read():
    assert parsed(SAID) == Driven(6813, 27389, 1190.0)


@pytest.mark.parametrize("more", ["  Non-2xx or 3xx responses: 3\n", "  Socket errors: connect 0, read 2, write 0\n"])
def test_a_run_in_which_a_request_failed_is_no_run(more: str):
    with pytest.raises(RuntimeError):
        parsed(SAID + more)


def test_the_best_turn_counts():
    found = {"bare": [Turn(100, 9.0), Turn(200, 8.0)], "ours": [Turn(300, 7.0), Turn(100, 5.0)]}
    made = section({**found, "without_lane": [Turn(50, 20.0)]})
    assert (made["ours"], made["share"], made["cpu_us"]["ours"]) == (300, 1.5, 5.0)
