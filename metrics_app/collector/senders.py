"""Who sends what: an account of each client, and a bound on the rows that they may begin.

Called by `views`.

A row is a key in an hour. Each costs memory, disk and time on a worker for as long as hours are kept, and a client that
makes keys of request ids begins one with every value. So a collector counts the rows that it has not met in this hour,
of each client and of all, and rejects values that would begin one more. Values of rows it has met are taken as ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

HOUR_S = 3600
MOST_CLIENTS = 4096  # the one that was not seen for longest is forgotten
SHOWN = 20

Admits = Callable[[Sequence[tuple[bytes, int]]], list[int]]


class SenderAccount(msgspec.Struct):
    """What one client has sent since this process began, or since it was met.

    Attributes:
        requests: POSTs whose bodies were read.
        bytes: of their bodies, as sent.
        accepted: values.
        rejected: values that were not kept for good.
        refused: values that were not kept for now.
        rows: keys and hours that it was the first to bring, in the hour that runs.
    """

    requests: int = 0
    bytes: int = 0
    accepted: int = 0
    rejected: int = 0
    refused: int = 0
    rows: int = 0

    def read(self, size: int, rejected: int) -> None:
        """Counts a request in, of so many bytes and with so many values that are rejected."""
        self.requests += 1
        self.bytes += size
        self.rejected += rejected


class Senders:
    """The accounts of all clients.

    Args:
        max_rows: new rows in an hour, of all clients.
        max_rows_of_one: of each.
    """

    def __init__(self, max_rows: int, max_rows_of_one: int) -> None:
        self._max_rows = max_rows
        self._max_rows_of_one = max_rows_of_one
        self._accounts: OrderedDict[str, SenderAccount] = OrderedDict()
        self._hour = 0
        self._met: set[int] = set()

    def account(self, client: str) -> SenderAccount:
        """That of a client, by its address."""
        account = self._accounts.get(client)
        if account is None:
            account = self._accounts[client] = SenderAccount()
            if len(self._accounts) > MOST_CLIENTS:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(client)
        return account

    def admission(self, client: str, now_s: float) -> Admits:
        """Tells which of some rows, counted from 0, the client may not send values for."""
        if (hour := int(now_s // HOUR_S)) != self._hour:
            self._begin_hour(hour)
        account, met = self.account(client), self._met

        def admits(rows: Sequence[tuple[bytes, int]]) -> list[int]:
            names = list(map(hash, rows))
            room = min(self._max_rows - len(met), self._max_rows_of_one - account.rows)
            if room < len(names):  # there may be too many: they are looked at one by one
                return [at for at, name in enumerate(names) if not self._admits(name, account)]
            before = len(met)
            met.update(names)
            account.rows += len(met) - before
            return []

        return admits

    def _admits(self, name: int, account: SenderAccount) -> bool:
        if name in self._met:
            return True
        if len(self._met) >= self._max_rows or account.rows >= self._max_rows_of_one:
            return False
        self._met.add(name)
        account.rows += 1
        return True

    def _begin_hour(self, hour: int) -> None:
        self._hour = hour
        self._met = set()
        for account in self._accounts.values():
            account.rows = 0

    def top(self, by: str) -> dict[str, Any]:
        """The clients with most of one figure of their accounts, and how many rows have been begun by all."""
        ordered = sorted(self._accounts.items(), key=lambda item: getattr(item[1], by), reverse=True)
        listed = [{"client": client, **msgspec.structs.asdict(account)} for client, account in ordered[:SHOWN]]
        return {"by": by, "clients": len(ordered), "rows": len(self._met), "max_rows": self._max_rows, "top": listed}
