from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.sim.machine import PARTITIONS, Machine
from tests.sim.world import World


@pytest.fixture(scope="package", autouse=True)
def quiet_and_tidy() -> Iterator[None]:
    """No log lines, and no databases left behind."""
    logging.disable()  # the workers report every fault, by the thousand
    yield
    logging.disable(logging.NOTSET)
    Machine.disks.drop()


@pytest.fixture
def world() -> Iterator[World]:
    """Workers and logs as every story finds them."""
    world = World(Machine.disks.take(), PARTITIONS)
    yield world
    world.close()
