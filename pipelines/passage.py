"""The way of a get's records into a post of the same kind of system, without anybody looking at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol


class NotForwarded(Exception):
    """Records have to be looked at on their way from a get to a post, with the reason; nothing of them is in the target."""


class Passage(Protocol):
    """The way of a get's records into a post without anybody looking at them; like a publication, nothing shows before
    `commit`.
    """

    def forward(self, splits: Sequence[Any], heed: Callable[[], None]) -> Iterator[int]:
        """Sends on what each split reads, in order, and gives the number of its records; both systems count them.

        `heed` is called often: it raises where the run is to stop.

        Raises:
            NotForwarded: a record is refused, or the two sides do not fit.
        """

    def commit(self) -> None:
        """Makes all of it visible in one step, together with the publication's token."""

    def abandon(self) -> None:
        """Leaves the target as it was."""
