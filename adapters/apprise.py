"""Apprise: sends messages to some hundred chats, webhooks and other services, each by an address of its own."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Collection, Sequence, Set
from functools import cache
from types import ModuleType
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field

from pipelines import environment
from pipelines.errors import FlowError, Invalid, Unavailable
from pipelines.messages import Limit, Message, Patience
from pipelines.model import Model
from pipelines.scope import Scope
from pipelines.secrets import Secret

HIDDEN = "***"
SECRET_CHARACTERS = 4
"""Parts of an address that are as long may be secret."""
SAID_CHARACTERS = 300
_FOR_GOOD = re.compile(r"error=4(?!08|25|29)\d\d")
"""How Apprise tells of an answer that will be the same tomorrow."""
_REASON = re.compile(
    r"^(?!(Loaded|Notifying|\S+ (POST|Payload|send\(\)))\b).*(exception|fail|error|refused|invalid|not )", re.IGNORECASE
)


class RetryOf(Model):
    """How often a message is sent that was not taken."""

    attempts: int = Field(default=3, ge=1, le=10)
    """So often at most."""
    first_seconds: float = Field(default=1.0, ge=0)
    """The pause before the second attempt; it doubles."""


class LimitOf(Model):
    """How many messages are sent in a while, by all runs of the project together."""

    messages: int = Field(default=100, ge=1)
    """So many at most; what would be sent beyond is a message that cannot be sent."""
    seconds: float = Field(default=3600.0, gt=0)
    """In so many seconds."""


class Sender(environment.Connection):
    """What all connections that send messages have in common."""

    retry: RetryOf = RetryOf()
    """How often a message is sent that was not taken."""
    limit: LimitOf = LimitOf()
    """How many messages are sent in a while."""

    def limits(self) -> Limit:
        return Limit(self.limit.messages, self.limit.seconds)

    def patience(self) -> Patience:
        return Patience(self.retry.attempts, self.retry.first_seconds)


class Connection(Sender):
    """A chat, webhook or other service, by its Apprise address (https://appriseit.com/services/)."""

    adapter: Literal["apprise"]
    """`apprise`."""
    url: Secret | str = Field(examples=[{"secret": "OPS_CHAT"}, "jsons://hooks.example.org/orders"])
    """The address. Where it holds a token or password, name a secret; its parts are kept out of all messages."""

    def takes_recipients(self) -> bool:
        return False

    def send(self, message: Message, scope: Scope) -> None:
        address = self._address(scope)
        deliver(address, message, _FOR_GOOD, secrets_of(address))

    def test(self, scope: Scope) -> str:
        """Reads the address; whether the service takes a message only a message tells."""
        found = _apprise().Apprise.instantiate(self._address(scope))
        if found is None:
            raise Invalid("`url` is no address that Apprise knows; see https://appriseit.com/services/")
        return f"an address of {found.service_name}; nothing was sent"

    def _address(self, scope: Scope) -> str:
        return self.url.reveal(scope.project) if isinstance(self.url, Secret) else self.url


def deliver(address: str, message: Message, for_good: re.Pattern[str], secrets: Set[str]) -> None:
    """Sends a message to an Apprise address; no fault names one of the `secrets`.

    Raises:
        Unavailable: it was not taken.
        Invalid: it will never be: the address is none, or what was answered matches `for_good`.
    """
    apprise = _apprise()
    _blotter.secrets |= secrets
    sender = apprise.Apprise()
    if not sender.add(address):
        raise Invalid("its address is none that Apprise knows")
    form, level = apprise.NotifyFormat.TEXT, logging.DEBUG  # only there it says why
    try:
        result = sender.notify(message.body, message.subject, body_format=form, log_level=level)
    except Exception as fault:  # noqa: BLE001 - a service's module may raise anything, and may name the address in it
        done, said = False, [f"exception: {fault}"]
    else:
        done, said = bool(result), [entry.message for entry in result.logs()]
    if not done:
        words = _told(said, secrets)
        kind: type[FlowError] = Invalid if for_good.search(words) else Unavailable
        raise kind(words)


@cache
def _apprise() -> ModuleType:
    """Apprise with all its services, some of which lean on modules that Python is about to drop."""
    import apprise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        apprise.Apprise.instantiate("json://localhost")
    heard = logging.getLogger("apprise")
    heard.setLevel(logging.DEBUG)  # else it tells nobody why something was not taken
    heard.propagate = False  # at this level it tells what is sent, which no log of this process may have
    for name in ("apprise", "urllib3.connectionpool"):
        logging.getLogger(name).addFilter(_blotter)
    return apprise


class _Blotter(logging.Filter):
    """Blots the secrets of all addresses that this process has used out of what is logged, whoever listens."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: frozenset[str] = frozenset()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without(self.secrets, record.getMessage()), ()
        return True


_blotter = _Blotter()


def _told(said: Sequence[str], secrets: Collection[str]) -> str:
    """The reasons among what Apprise has logged, in one line."""
    lines = [line for line in said if _REASON.search(line)]
    text = " ".join("; ".join(dict.fromkeys(lines)).split())
    return without(secrets, text)[:SAID_CHARACTERS] or "it was not taken, and nobody says why"


def without(secrets: Collection[str], text: str) -> str:
    """A text with the secrets blotted out, the longest first."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def secrets_of(address: str) -> set[str]:
    """The parts of an address that may be secret, as they stand there and decoded: all but scheme, host and short ones."""
    place = urlsplit(address)
    rest = address.split("://", 1)[-1]
    parts = {part for cut in (rest, unquote(rest)) for part in re.split(r"[/?&=:@#,]+", cut)} | {rest, unquote(rest)}
    return {part for part in parts if len(part) >= SECRET_CHARACTERS} - {place.hostname, place.scheme, *_WORDS}


_WORDS = frozenset(("from", "mode", "smtp", "format", "name", "starttls", "timeout", "verify"))
