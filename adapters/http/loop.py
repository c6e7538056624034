"""The event loop on which all HTTP of this process runs, in a thread of its own; everything else stays synchronous."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def loop() -> asyncio.AbstractEventLoop:
    """The process's loop, started at its first use; a forked child has its own."""
    with _lock:
        found = _loops.get(os.getpid())
        if found is None:
            found = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=found.run_forever, name="http", daemon=True).start()
        return found


def run(work: Coroutine[Any, Any, T]) -> T:
    """What the coroutine gives, or the fault it raises; ended where the caller is interrupted."""
    future = asyncio.run_coroutine_threadsafe(work, loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
