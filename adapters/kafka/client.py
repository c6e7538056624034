"""Speaks to brokers through librdkafka: makes clients, and turns what they say into what the reader must do.

librdkafka asks again by itself and for ever. What went wrong meanwhile comes by a callback: `Faults` keeps it, so that a
wrong password or host is told at once and not as a time-out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.kafka.connection import Connection, Tls
from pipelines.errors import FlowError, Invalid, Unavailable
from pipelines.scope import Scope

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient

T = TypeVar("T")
QUIET = logging.getLogger("adapters.kafka")
"""What librdkafka writes of its own: of no use to people, as every fault that matters becomes an error here."""
QUIET.addHandler(logging.NullHandler())
QUIET.setLevel(logging.CRITICAL + 1)
LISTEN_SECONDS = 0.05


class Faults:
    """What a client heard of its brokers since they last answered."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last: KafkaError | None = None
        self._final: KafkaError | None = None
        self._all_down = False

    def __call__(self, error: KafkaError) -> None:
        from confluent_kafka import KafkaError

        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE):
            self._final = self._final or error
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._all_down = True
        elif not error.fatal():
            self._last = error

    def answered(self) -> None:
        """A broker answers: what was heard before is over."""
        self._last = self._final = None
        self._all_down = False

    def heed(self, *, patiently: bool = False) -> None:
        """Raises what was heard; `patiently`: only what will not pass by waiting.

        Raises:
            Invalid: the brokers refuse the password or certificate, or theirs cannot be checked.
            Unavailable: no broker can be reached.
        """
        from confluent_kafka import KafkaError

        if self._final is not None and (not patiently or self._final.code() != KafkaError._RESOLVE):
            raise self._told(self._final)
        if self._all_down and not patiently:
            raise self.away()

    def away(self) -> FlowError:
        """What to say when nothing was answered for too long."""
        if self._final is not None:
            return self._told(self._final)
        place = self._connection.address
        if self._last is not None:
            return Unavailable(f"Kafka at {place}: {_plain(self._last)}{_hint(self._last.str())}")
        hint = (
            "was it the right port? a listener that wants TLS or a password needs `security`"
            if self._all_down
            else "check that the brokers run, and that the addresses that they advertise can be reached from here"
        )
        return Unavailable(f"Kafka at {place}: no broker answers; {hint}")

    def _told(self, error: KafkaError) -> FlowError:
        from confluent_kafka import KafkaError

        place = f"Kafka at {self._connection.address}"
        if error.code() == KafkaError._AUTHENTICATION:
            user = self._connection.security.user
            return Invalid(
                f"{place}: {_plain(error)}; check user {user!r}, its password and `mechanism` in the connection's `security`"
            )
        if error.code() == KafkaError._SSL:
            return Invalid(f"{place}: {_plain(error)}; check `tls` in the connection's `security`, such as its `ca`")
        return Unavailable(f"{place}: {_plain(error)}; check the connection's `servers`")


def _plain(error: KafkaError) -> str:
    """A client's words without its own names for lines and states."""
    text = error.str().partition(" (after ")[0]
    return text.split("/bootstrap: ", 1)[-1].rstrip(": ")


def _hint(text: str) -> str:
    if "PLAINTEXT broker listener" in text:
        return "; this listener speaks no TLS: take `tls` out of `security`, or use the port that does"
    if "certificate" in text:
        return "; the broker wants another client certificate: check `certificate` and `key` in `security: {tls: …}`"
    return "; check the connection's `servers`, and that the brokers run"


def settings(connection: Connection, scope: Scope, faults: Faults) -> dict[str, Any]:
    """What every client of a connection is made with; it holds the password, so it is never shown."""
    security = connection.security
    found: dict[str, Any] = {
        "bootstrap.servers": connection.address,
        "client.id": f"processflow {scope.flow}".strip().replace(" ", "-"),
        "error_cb": faults,
        "socket.connection.setup.timeout.ms": int(min(connection.timeout_seconds, 10) * 1000),
        "reconnect.backoff.max.ms": 2000,
        "security.protocol": ("SASL_" if security.user else "") + ("SSL" if security.tls else "PLAINTEXT"),
    }
    if security.user is not None and security.password is not None:
        found["sasl.mechanism"] = security.mechanism
        found["sasl.username"] = security.user
        found["sasl.password"] = security.password.reveal(scope.project)
    if isinstance(security.tls, Tls):
        found |= _certificates(security.tls, scope)
    return found


def _certificates(tls: Tls, scope: Scope) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, option in (("ca", "ca"), ("certificate", "certificate"), ("key", "key")):
        given = getattr(tls, name)
        if given is None:
            continue
        path = scope.path(given)
        if not path.is_file():
            raise Invalid(f"`{name}` of the connection's `tls`: there is no file {path}")
        found[f"ssl.{option}.location"] = str(path)
    if tls.key_password is not None:
        found["ssl.key.password"] = tls.key_password.reveal(scope.project)
    return found


@contextmanager
def making(connection: Connection) -> Iterator[None]:
    """Says what is wrong where a client cannot be made."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as fault:
        text = fault.args[0].str()
        raise Invalid(f"Kafka at {connection.address}: {text}; check the connection's `security`") from None


class Admin:
    """Asks brokers about topics, offsets and settings."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        from confluent_kafka.admin import AdminClient

        self.connection = connection
        self.faults = Faults(connection)
        with making(connection):
            self.client: AdminClient = AdminClient(settings(connection, scope, self.faults), logger=QUIET)

    @property
    def timeout_seconds(self) -> float:
        return self.connection.timeout_seconds

    def asked(self, future: Future[T], what: Callable[[KafkaError], FlowError | None] | None = None) -> T:
        """The answer to what was asked; `what` may know more of an error than `meant` does.

        Raises:
            Invalid: the brokers refuse it.
            Unavailable: nobody answers.
        """
        from confluent_kafka import KafkaException

        until = time.monotonic() + self.timeout_seconds
        while not future.done():
            self.client.poll(LISTEN_SECONDS)
            if not future.done():
                self.faults.heed()
            if time.monotonic() > until:
                raise self.faults.away()
        try:
            found = future.result()
        except KafkaException as fault:
            error = fault.args[0]
            raise (what and what(error)) or meant(error, self.connection, self.faults) from None
        self.faults.answered()
        return found


def passing() -> frozenset[int]:
    """Errors of brokers that are about to begin, or to hand over to another."""
    from confluent_kafka import KafkaError

    return frozenset(
        {
            KafkaError.NOT_COORDINATOR,
            KafkaError.COORDINATOR_NOT_AVAILABLE,
            KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
            KafkaError.NOT_CONTROLLER,
            KafkaError.LEADER_NOT_AVAILABLE,
            KafkaError.CONCURRENT_TRANSACTIONS,
            KafkaError.REQUEST_TIMED_OUT,
        }
    )


def meant(
    error: KafkaError, connection: Connection, faults: Faults | None = None, *, topic: str = "…", group: str = "…"
) -> FlowError:
    """What an error means to the reader: `Invalid` where waiting is of no use, else `Unavailable`.

    Args:
        topic: The topic that it is about.
        group: The consumer group, or the transactions' name.
    """
    from confluent_kafka import KafkaError

    place, user = f"Kafka at {connection.address}", connection.security.user or "ANONYMOUS"
    allow = f"kafka-acls --add --allow-principal User:{user}"
    code = error.code()
    rights = {
        KafkaError.TOPIC_AUTHORIZATION_FAILED: ("use this topic", f"Read --topic {topic} (to post: --operation Write)"),
        KafkaError.GROUP_AUTHORIZATION_FAILED: ("use this consumer group", f"Read --group {group}"),
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
            "write in transactions of this name",
            f"Write --transactional-id {group}",
        ),
        KafkaError.CLUSTER_AUTHORIZATION_FAILED: ("do this to the cluster", "All --cluster"),
    }
    if code in rights:
        what, words = rights[code]
        return Invalid(f"{place}: the user {user!r} may not {what}; allow it with {allow} --operation {words}")
    if code in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN) and faults is not None:
        return faults.away()
    if code < 0 or error.retriable() or code in passing():
        return Unavailable(f"{place}: {_plain(error)}")
    return Invalid(f"{place}: {_plain(error)}")
