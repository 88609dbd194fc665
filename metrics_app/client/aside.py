"""Runs what blocks outside of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


async def aside(function: Callable[[], R]) -> R:
    """The function's result, from another thread.

    From this one where none can be had: as the interpreter ends, or in a loop that is not asyncio's.
    """
    try:
        future = asyncio.get_running_loop().run_in_executor(None, function)
    except RuntimeError:
        return function()
    return await future
