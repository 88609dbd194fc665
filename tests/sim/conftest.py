from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.machine import Machine


@pytest.fixture(scope="package", autouse=True)
def no_disks_left() -> Iterator[None]:
    """Closes and deletes the databases of the workers."""
    yield
    Machine.disks.drop()
