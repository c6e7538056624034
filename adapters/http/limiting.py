"""How many requests of one connection are under way, and how many begin in a second. Lives on the loop."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Limiter:
    """Lets requests begin: enter it for as long as one is under way."""

    def __init__(self, concurrent: int, per_second: float | None) -> None:
        self._places = asyncio.Semaphore(concurrent)
        self._gap_seconds = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._held_until = 0.0

    def hold(self, seconds: float) -> None:
        """Nothing begins for so long: the server has asked to wait."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)

    async def __aenter__(self) -> None:
        await self._places.acquire()
        try:
            await self._turn()
        except BaseException:
            self._places.release()
            raise

    async def _turn(self) -> None:
        clock = asyncio.get_running_loop().time
        while (wait := self._held_until - clock()) > 0:  # noqa: ASYNC110 - it may be held again meanwhile
            await asyncio.sleep(wait)
        if self._gap_seconds:
            at = max(self._next, clock())
            self._next = at + self._gap_seconds
            if (wait := at - clock()) > 0:
                await asyncio.sleep(wait)

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._places.release()
