"""How a peer tells the benchmark how far it is: lines on standard output, written by a thread ten times a second.

    progress 12345
    rows {"key-0000001": [count, sum, min, max], ...}

Imports nothing but the standard library: peers run in an environment of their own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence

INTERVAL_S = 0.1


class Progress:
    """Counts the samples done; `done` is all that the hot path touches."""

    def __init__(self) -> None:
        self.done = 0
        threading.Thread(target=self._say, daemon=True).start()

    def _say(self) -> None:
        said = 0
        while True:
            if (done := self.done) != said:
                print("progress", done, flush=True)
                said = done
            time.sleep(INTERVAL_S)

    def end(self, rows: Mapping[str, Sequence[float]]) -> None:
        """Says what was counted of each key, and waits to be ended: what it used is read after it has said so."""
        print("progress", self.done, flush=True)
        print("rows", json.dumps(rows), flush=True)
        threading.Event().wait()
