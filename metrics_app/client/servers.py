"""Servers that put back the signal handlers they found, and end by the signal they got: uvicorn, from 0.29 on.

A client that is made while such a server runs finds the server's handler, and not the one that will be there at the
end. So what waits is sent at the end of the server's own shutdown, its last step before that signal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from metrics_app.client.aside import aside


def follow(handler: object, last_words: Callable[[], None]) -> None:
    """Has it called when the server to which a handler belongs has shut down; nothing, if it is no such server's."""
    server: Any = getattr(handler, "__self__", None)
    module: Any = sys.modules.get("uvicorn.server")
    if module is None or not isinstance(server, module.Server):
        return
    shutdown = server.shutdown

    async def shut_down(*arguments: Any, **named: Any) -> None:
        try:
            await shutdown(*arguments, **named)
        finally:
            await aside(last_words)

    server.shutdown = shut_down
