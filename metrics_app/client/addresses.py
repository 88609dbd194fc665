"""The collectors' addresses, and which of them may be tried now."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Address:
    """A collector.

    Attributes:
        url: where batches go.
        failures: in a row.
        not_before: moment of the monotonic clock before which it is left alone.
        problem: what the last failure was.
    """

    url: str
    failures: int = 0
    not_before: float = 0.0
    problem: str = ""


class Addresses:
    """Takes them in turn, so that load is spread, and leaves those alone that have failed, for a while.

    How long is a random part of a time that doubles with each failure ("full jitter"), so that many clients do not come
    back at one moment; or what the collector said in Retry-After.
    """

    def __init__(self, urls: Sequence[str], first_s: float, greatest_s: float) -> None:
        self.all = [Address(f"{url.rstrip('/')}/samples") for url in urls]
        self._first_s = first_s
        self._greatest_s = greatest_s
        self._turn = random.randrange(len(self.all))

    def pick(self, now: float) -> Address | None:
        """The next address that may be tried; None when all are to be left alone."""
        for _ in self.all:
            self._turn = (self._turn + 1) % len(self.all)
            address = self.all[self._turn]
            if address.not_before <= now:
                return address
        return None

    def wait_s(self, now: float) -> float:
        """Seconds until there is one that may be tried."""
        return max(0.0, min(address.not_before for address in self.all) - now)

    def worked(self, address: Address) -> None:
        """Forgets its failures."""
        address.failures, address.not_before, address.problem = 0, 0.0, ""

    def failed(
        self, address: Address, now: float, problem: str, retry_after_s: float = 0.0, patient: bool = False
    ) -> None:
        """Leaves it alone for a while.

        Args:
            retry_after_s: what it asked for; it gets up to a fifth more, at random.
            patient: whether retries are so many already that only the greatest backoff is left.
        """
        address.failures += 1
        address.problem = problem
        ceiling = min(self._greatest_s, self._first_s * 2.0 ** min(address.failures - 1, 30))
        least, most = (self._greatest_s / 2, self._greatest_s) if patient else (0.0, ceiling)
        pause_s = random.uniform(least, most)
        address.not_before = now + max(pause_s, retry_after_s * random.uniform(1.0, 1.2))


class RetryBudget:
    """How many retries are left: each batch sent earns a share of one, so that retries cannot multiply load.

    Args:
        share: retries a batch.
        reserve: what there is to begin with, and at most.
    """

    def __init__(self, share: float, reserve: float = 10.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """A batch was sent."""
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Whether there is one left, which is then used up."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
