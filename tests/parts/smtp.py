"""A server that takes mail for the tests: aiosmtpd, in a process of its own; it keeps each mail as a file.

One port takes mail from everybody; the other wants STARTTLS, then the user's password. Both refuse for good what is sent to
`refused@…`, and for now what is sent to `later@…`.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, ClassVar

from tests.parts import certificates, sharing

USER = "tester"
PASSWORD = "its' secret"
SECRET = "PROCESSFLOW_TESTS_SMTP"
REFUSED, LATER = "refused", "later"
os.environ[SECRET] = PASSWORD


@dataclass(frozen=True)
class Mail:
    """A mail that was taken, with the addresses it was really sent by and to."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage


@dataclass
class Server:
    """A server on 127.0.0.1 (`localhost` in its certificate)."""

    NAME: ClassVar[str] = "aiosmtpd"
    ENDS_BY: ClassVar[signal.Signals] = signal.SIGKILL
    folder: Path
    port: int
    secure_port: int
    pid: int = 0

    @classmethod
    def made(cls, folder: Path) -> Server:
        """A new server, not yet started."""
        certificates.make(folder)
        (folder / "mails").mkdir()
        return cls(folder, sharing.free_port(), sharing.free_port())

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        words = [sys.executable, "-m", "tests.parts.smtp", self.folder, str(self.port), str(self.secure_port)]
        sharing.spawn(words, self, lambda: sharing.listens(self.port) and sharing.listens(self.secure_port))

    def end(self, how: signal.Signals = ENDS_BY) -> None:
        """Ends it; the mails stay."""
        sharing.end(self, how)

    def mails(self, recipient: str) -> list[Mail]:
        """What came for an address, in order."""
        found = []
        for path in sorted((self.folder / "mails").glob("*.json")):
            kept = json.loads(path.read_text())
            if recipient in kept["recipients"]:
                message = message_from_bytes(kept["content"].encode("latin-1"), policy=policy.default)
                found.append(Mail(kept["sender"], tuple(kept["recipients"]), message))
        return found


def serve(folder: Path, port: int, secure_port: int) -> None:
    """Takes mail until it is killed."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult, LoginPassword

    class Keeper:
        count = 0

        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
            name = address.partition("@")[0]
            if name == REFUSED:
                return "550 5.1.1 nobody of this name is here"
            if name == LATER:
                return "451 4.2.1 the mailbox is busy"
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            kept = {"sender": envelope.mail_from, "recipients": envelope.rcpt_tos}
            path = folder / "mails" / f"{os.getpid():08}-{self.count:08}.json"
            self.count += 1
            path.with_suffix(".new").write_text(json.dumps({**kept, "content": envelope.content.decode("latin-1")}))
            path.with_suffix(".new").rename(path)
            return "250 2.0.0 kept"

    def knows(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        known = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=False)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    keeper = Keeper()
    secure = {"tls_context": context, "require_starttls": True, "authenticator": knows, "auth_required": True}
    Controller(keeper, hostname="127.0.0.1", port=port).start()
    Controller(keeper, hostname="127.0.0.1", port=secure_port, **secure).start()
    signal.pause()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
