"""Mail: sends messages through an SMTP server, by Apprise."""

from __future__ import annotations

import re
import smtplib
import ssl
from typing import Literal
from urllib.parse import quote

from pydantic import Field

from adapters.apprise import Sender, deliver
from pipelines.errors import Invalid, Unavailable
from pipelines.messages import Message
from pipelines.scope import Scope
from pipelines.secrets import Secret

Tls = Literal["starttls", "ssl", "none"]
PORTS: dict[str, int] = {"starttls": 587, "ssl": 465, "none": 25}
CONNECT_SECONDS = 15.0
_FOR_GOOD = re.compile(r"\(5\d\d, |\b5\d\d b['\"]|CERTIFICATE_VERIFY_FAILED|\(535")
"""How a server says that it will never take it (RFC 5321, 4.2.1)."""


class Connection(Sender):
    """A server that takes mail, and who sends."""

    adapter: Literal["mail"]
    """`mail`."""
    host: str = Field(min_length=1, examples=["smtp.example.org"])
    """The server's name or address."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Its port; without it 587, 465 with `tls: ssl`, 25 with `tls: none`."""
    tls: Tls = "starttls"
    """How the connection is encrypted: `starttls`, `ssl` from the start, or `none`."""
    user: str | None = None
    """Who logs in; without it nobody does."""
    password: Secret | None = None
    """The password, by the name of a secret."""
    sender: str = Field(pattern=r"^[^\s@<>,;]+@[^\s@<>,;]+$", examples=["processflow@example.org"])
    """The address that mails come from."""

    def takes_recipients(self) -> bool:
        return True

    def send(self, message: Message, scope: Scope) -> None:
        password = self._password(scope)
        for to in message.to:
            address = self._address(to, password)
            deliver(address, message, _FOR_GOOD, {address, password, quote(password, safe="")})

    def test(self, scope: Scope) -> str:
        """Connects and logs in; no mail is sent."""
        place = f"{self.host}:{self._port}"
        try:
            with self._connected() as server:
                if self.tls == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if self.user is not None:
                    server.login(self.user, self._password(scope))
                code, words = server.noop()
        except smtplib.SMTPAuthenticationError as fault:
            raise Invalid(f"{place}: {_said(fault.smtp_error)}; check `user` and `password`") from fault
        except ssl.SSLError as fault:
            raise Invalid(f"{place}: {fault.reason or fault}; check `tls`") from fault
        except (OSError, smtplib.SMTPException) as fault:
            raise Unavailable(f"{place}: {fault}") from fault
        return f"a mail server at {place} that answers {code} {_said(words)}; no mail was sent"

    @property
    def _port(self) -> int:
        return self.port or PORTS[self.tls]

    def _password(self, scope: Scope) -> str:
        return self.password.reveal(scope.project) if self.password else ""

    def _connected(self) -> smtplib.SMTP:
        if self.tls == "ssl":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(self.host, self._port, timeout=CONNECT_SECONDS, context=context)
        return smtplib.SMTP(self.host, self._port, timeout=CONNECT_SECONDS)

    def _address(self, to: str, password: str) -> str:
        """The Apprise address of one recipient."""
        who = f"{quote(self.user, safe='')}:{quote(password, safe='')}@" if self.user is not None else ""
        mode = {"starttls": "starttls", "ssl": "ssl", "none": "insecure"}[self.tls]
        scheme = "mailto" if self.tls == "none" else "mailtos"
        given = {"smtp": self.host, "from": self.sender, "to": to, "mode": mode, "format": "text"}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items())
        return f"{scheme}://{who}{self.host}:{self._port}/?{query}"


def _said(words: bytes | str) -> str:
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else words
