"""Messages to people: what a connection must offer that sends them, and what a post is that only tells of records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pipelines.node import Node

if TYPE_CHECKING:
    from pipelines.scope import Scope


@dataclass(frozen=True)
class Message:
    """One message."""

    subject: str
    body: str
    to: tuple[str, ...] = ()
    """Who gets it; nobody: whom the connection's own address names."""


@runtime_checkable
class Sends(Protocol):
    """A connection that sends messages."""

    def takes_recipients(self) -> bool:
        """Whether a message names who gets it; else its own address does."""

    def send(self, message: Message, scope: Scope) -> None:
        """Sends one message, to all or to nobody as far as the system allows.

        Raises:
            Unavailable: it could not be sent now; the same may be sent later.
            Invalid: it will not be taken, or the connection's settings are wrong. Neither names a secret.
        """

    def limits(self) -> Limit:
        """How many messages may be sent in a while."""

    def patience(self) -> Patience:
        """How often a message is sent that was not taken."""


@dataclass(frozen=True)
class Limit:
    """So many messages in so many seconds."""

    messages: int
    seconds: float


@dataclass(frozen=True)
class Patience:
    """So many attempts, with a pause before the second that doubles."""

    attempts: int
    first_seconds: float


@runtime_checkable
class Tells(Protocol):
    """A post that tells people of records, and keeps none: it publishes behind all others, and what the flow promises of
    the records that it delivers does not hang on it."""

    def may_fail(self) -> bool:
        """Whether a message that cannot be sent ends the run."""


def is_told_last(config: Node) -> bool:
    """Whether a node is such a post."""
    return isinstance(config, Tells)
