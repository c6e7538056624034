"""A real Apache Kafka for the tests: one broker that is its own controller, on the jars that `make parts` fetches.

`Broker.made` gives one with a plain listener. `Broker.secured` gives one that asks for SCRAM passwords, one listener with TLS
and one without, and does for its users only what access rules allow. `python -m tests.parts.kafka` makes the archive of
classes that lets a broker start in half the time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tests.parts import certificates, sharing

JARS = Path(sys.prefix) / "parts" / "kafka"
CLASSES = JARS / "classes.jsa"
JAVA = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:disable")
STARTED = b"Kafka Server started"

ADMIN = "admin"
USER = "tester"
STRANGER = "stranger"
PASSWORD = "its' secret"
SECRET = "PROCESSFLOW_TESTS_KAFKA"
os.environ[SECRET] = PASSWORD

LOGGING = """status=error
appenders=out
appender.out.type=Console
appender.out.name=Out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c %m%n
rootLogger.level=WARN
rootLogger.appenderRefs=out
rootLogger.appenderRef.out.ref=Out
loggers=server
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=INFO
"""
SMALL = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "message.max.bytes": "16777216",
    "replica.fetch.max.bytes": "16777216",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.cleaner.threads": "1",
    "log.cleaner.backoff.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    # a broker that was killed may come back only when its old session has ended
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


@dataclass
class Broker:
    """A broker in a folder of its own; it keeps its ports and its data when it is ended and started again."""

    NAME: ClassVar[str] = "Kafka"
    ENDS_BY: ClassVar[signal.Signals] = signal.SIGKILL  # nobody reads what it would put in order
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    secure: bool = False
    pid: int = 0

    @classmethod
    def made(cls, folder: Path) -> Broker:
        """A new broker that takes everybody, not yet started."""
        return cls(folder, {"PLAIN": sharing.free_port(), "CONTROLLER": sharing.free_port()})._laid_out({})

    @classmethod
    def behind(cls, folder: Path, port: int, seen_port: int) -> Broker:
        """A new broker with a second listener at `port`, of which it says that it is at `seen_port`: a proxy's."""
        ports = {"PLAIN": sharing.free_port(), "PROXIED": port, "CONTROLLER": sharing.free_port()}
        seen = f"PLAIN://127.0.0.1:{ports['PLAIN']},PROXIED://127.0.0.1:{seen_port}"
        return cls(folder, ports)._laid_out({"advertised.listeners": seen})

    @classmethod
    def secured(cls, folder: Path) -> Broker:
        """A new broker that asks for passwords, not yet started; TLS clients may also come with `tester.pem`."""
        certificates.make(folder, USER)
        # Kafka wants the key and its certificate in one file
        (folder / "keystore.pem").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())
        ports = {name: sharing.free_port() for name in ("SCRAM", "TLS", "MUTUAL", "CONTROLLER")}
        return cls(folder, ports, secure=True)._laid_out(_rules(folder))

    def _laid_out(self, rules: dict[str, str]) -> Broker:
        protocols = {"PLAIN": "PLAINTEXT", "PROXIED": "PLAINTEXT", "SCRAM": "SASL_PLAINTEXT", "TLS": "SASL_SSL", "MUTUAL": "SSL",
                     "CONTROLLER": "PLAINTEXT"}  # fmt: skip
        settings = {
            **SMALL,
            "log.dirs": str(self.folder / "data"),
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.ports['CONTROLLER']}",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{protocols[name]}" for name in self.ports),
            "inter.broker.listener.name": next(iter(self.ports)),
            **rules,
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.folder / "server.properties").write_text(text)
        (self.folder / "log4j2.properties").write_text(LOGGING)
        # a name that begins with a hyphen would be taken for an option
        name = "A" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[:21]
        words = ["format", "--standalone", "--cluster-id", name, "--config", str(self.folder / "server.properties")]
        for user in (ADMIN, USER, STRANGER) if self.secure else ():
            words += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={PASSWORD}]"]
        done = subprocess.run([*self.java(), "kafka.tools.StorageTool", *words], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return self

    def start(self, *words: str) -> None:
        """Starts it, and waits until it answers; `words` are more options of Java."""
        log = self.folder / "log"
        seen = log.stat().st_size if log.exists() else 0

        def answers() -> bool:
            with log.open("rb") as said:
                said.seek(seen)
                return STARTED in said.read()

        sharing.spawn([*self.java(*words), "kafka.Kafka", self.folder / "server.properties"], self, answers)

    def java(self, *words: str) -> list[str]:
        jars = sorted(str(path) for path in JARS.glob("*.jar"))  # an archive of classes is for one order of jars
        if not jars:
            raise RuntimeError("the jars of Kafka are not here; `make parts` fetches them")
        archive = [f"-XX:SharedArchiveFile={CLASSES}"] if CLASSES.exists() else []
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return [sharing.program("java"), *JAVA, *archive, *words, logging, "-cp", ":".join(jars)]

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it: `SIGKILL` as a crash would."""
        sharing.end(self, how)

    @property
    def address(self) -> str:
        """Where clients begin."""
        return f"127.0.0.1:{next(iter(self.ports.values()))}"

    def client(self, user: str = ADMIN, *, password: str = PASSWORD, listener: str = "SCRAM") -> dict[str, Any]:
        """A client's settings, by librdkafka's names."""
        if not self.secure:
            return {"bootstrap.servers": self.address}
        settings: dict[str, Any] = {"bootstrap.servers": f"localhost:{self.ports[listener]}"}
        if listener in {"TLS", "MUTUAL"}:
            settings["ssl.ca.location"] = str(self.folder / "ca.pem")
        if listener == "MUTUAL":
            settings["ssl.certificate.location"] = str(self.folder / f"{user}.pem")
            settings["ssl.key.location"] = str(self.folder / f"{user}.key")
            return {**settings, "security.protocol": "SSL"}
        return {
            **settings, "security.protocol": "SASL_SSL" if listener == "TLS" else "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user, "sasl.password": password,
        }  # fmt: skip


def _rules(folder: Path) -> dict[str, str]:
    """How a secured broker knows its users, and that it does nothing for them but what a rule allows."""
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    jaas = f'{login} username="{ADMIN}" password="{PASSWORD}";'
    return {
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": jaas,
        "listener.name.tls.scram-sha-512.sasl.jaas.config": jaas,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "keystore.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # the controller's listener is plain: only this broker speaks to it
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }


def archive_classes() -> None:
    """Keeps the classes that a broker loads, as Java maps them into memory."""
    new = CLASSES.with_suffix(".new")
    with sharing.alone(Broker.made) as broker:
        broker.end()
        broker.start(f"-XX:ArchiveClassesAtExit={new}")
        broker.end()
    new.replace(CLASSES)


if __name__ == "__main__":
    archive_classes()
