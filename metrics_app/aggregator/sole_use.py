"""Keeps two workers out of one data folder."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

import mode

from metrics_app.last_resort import EXIT_UNUSABLE, leave

WAIT_S = 5.0  # a predecessor may be on its way out
POLL_S = 0.1


class SoleUse(mode.Service):
    """Holds a data folder from its start to the end of the process; the kernel frees it, however that ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._held: IO[str] | None = None

    async def on_start(self) -> None:
        """Returns when the folder is ours; ends the process when it does not become so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._held = (self.folder / "aggregator.lock").open("w")
        waited_s = 0.0
        while not self._lock(self._held):
            if waited_s >= WAIT_S:
                leave(
                    EXIT_UNUSABLE, f"another worker uses {self.folder}; give each its own --data-dir (METRICS_DATA_DIR)"
                )
            await self.sleep(POLL_S)
            waited_s += POLL_S

    def _lock(self, file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
