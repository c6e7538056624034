"""The systems that tests talk to are real: what is written into each comes out again."""

from __future__ import annotations

import logging
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from contextlib import closing
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.parts import mariadb as mariadb_parts
from tests.parts import s3 as s3_parts
from tests.parts import sftp as sftp_parts
from tests.parts import smtp as smtp_parts
from tests.parts.kafka import STRANGER, USER, Broker
from tests.parts.mariadb import database_of
from tests.parts.postgres import Server as Postgres
from tests.parts.postgres import schema_of
from tests.parts.sharing import alone, program


def test_postgres_keeps_what_it_is_given(postgres: Postgres, tmp_path: Path) -> None:
    schema = schema_of(tmp_path / "db")
    with closing(postgres.connect()) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"CREATE TABLE {schema}.kept AS SELECT 'ä' AS name")

    with closing(postgres.connect()) as connection:
        assert connection.execute(f"SELECT name FROM {schema}.kept").fetchall() == [("ä",)]


@pytest.mark.parametrize("encrypted", [False, True])
def test_mariadb_keeps_what_it_is_given(encrypted: bool, mariadb: mariadb_parts.Server, tmp_path: Path) -> None:
    database = database_of(tmp_path / "db")
    with closing(mariadb.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {database}")
        cursor.execute(f"CREATE TABLE {database}.kept AS SELECT '😀' AS name")
    words = {"ssl_ca": str(mariadb.folder / "ca.pem"), "ssl_verify_cert": True, "ssl_verify_identity": True}

    with closing(mariadb.connect(**(words if encrypted else {"ssl_disabled": True}))) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT name FROM {database}.kept")
        kept = cursor.fetchall()
        cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
        ((_, version),) = cursor.fetchall()

    assert kept == (("😀",),)
    assert bool(version) == encrypted


def test_mariadb_comes_back_after_a_crash_with_what_was_committed() -> None:
    settings = {"innodb-flush-log-at-trx-commit": "1", "innodb-flush-method": "fsync"}
    with alone(partial(mariadb_parts.Server.made, settings=settings)) as server:
        with closing(server.connect()) as connection:
            connection.cursor().execute("CREATE DATABASE shop")
            connection.cursor().execute("CREATE TABLE shop.kept AS SELECT 1 AS id")

        server.end(signal.SIGKILL)
        with pytest.raises(pymysql.err.OperationalError):
            server.connect()
        server.start()

        with closing(server.connect()) as connection:
            assert connection.cursor().execute("SELECT * FROM shop.kept") == 1


def messages(settings: dict[str, Any], topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """The first two messages of a topic."""
    consumer = Consumer({**settings, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found = consumer.consume(2, timeout=60)
    consumer.close()
    return [(message.key(), message.value()) for message in found]


def send(settings: dict[str, Any], topic: str) -> list[str]:
    """Sends two messages, and gives the names of what went wrong."""
    producer = Producer(settings)
    faults: list[str] = []

    def settled(error: Any, message: Any) -> None:
        if error is not None:
            faults.append(error.name())

    for value in (b"one", None):
        producer.produce(topic, key=b"key", value=value, on_delivery=settled)
    producer.flush(60)
    return faults


def make_topic(settings: dict[str, Any], topic: str) -> None:
    client = AdminClient(settings)
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)


def test_kafka_keeps_what_it_is_given(kafka: Broker, tmp_path: Path) -> None:
    make_topic(kafka.client(), tmp_path.name)

    faults = send(kafka.client(), tmp_path.name)

    assert faults == []
    assert messages(kafka.client(), tmp_path.name) == [(b"key", b"one"), (b"key", None)]


@pytest.mark.parametrize("listener", ["SCRAM", "TLS", "MUTUAL"])
def test_a_secured_kafka_does_for_its_users_what_its_rules_allow(
    listener: str, secured_kafka: Broker, tmp_path: Path
) -> None:
    topic = f"{listener}-{tmp_path.name}"
    make_topic(secured_kafka.client(), topic)
    rule = AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{USER}", "*",
                      AclOperation.ALL, AclPermissionType.ALLOW)  # fmt: skip
    client = AdminClient(secured_kafka.client())
    client.create_acls([rule])[rule].result(60)

    faults = send(secured_kafka.client(USER, listener=listener), topic)

    assert faults == []
    assert messages(secured_kafka.client(listener="TLS"), topic) == [(b"key", b"one"), (b"key", None)]
    assert send(secured_kafka.client(STRANGER), topic) == ["TOPIC_AUTHORIZATION_FAILED"] * 2


@pytest.mark.parametrize("listener", ["SCRAM", "TLS"])
def test_a_secured_kafka_takes_no_wrong_password(listener: str, secured_kafka: Broker) -> None:
    faults: list[KafkaError] = []
    settings = secured_kafka.client(USER, password="wrong", listener=listener)
    client = Producer({**settings, "error_cb": faults.append}, logger=logging.getLogger("kafka"))

    while not faults:  # ended by the test's time-out
        client.poll(1)

    assert faults[0].code() == KafkaError._AUTHENTICATION


def test_s3_keeps_what_it_is_given(s3: s3_parts.Server, tmp_path: Path) -> None:
    bucket = s3.bucket(tmp_path)

    s3.client().put_object(Bucket=bucket, Key="in/ä b.csv", Body=b"id\n1\n")

    assert s3.client().get_object(Bucket=bucket, Key="in/ä b.csv")["Body"].read() == b"id\n1\n"


def uploaded(
    server: sftp_parts.Server, file: Path, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """OpenSSH's own client, which puts a file into the user's home."""
    known = f"UserKnownHostsFile={server.known_hosts}"
    return subprocess.run(
        [program("sftp"), "-F", "none", "-o", known, "-o", "StrictHostKeyChecking=yes", "-P", str(server.port), *words,
         f"{server.user}@127.0.0.1"],
        input=f"put {file}\n", capture_output=True, text=True, env={**os.environ, **environment}, check=False,
        start_new_session=True,
    )  # fmt: skip


def test_sftp_takes_files_of_who_has_the_key(sftp: sftp_parts.Server, tmp_path: Path) -> None:
    file = tmp_path / f"{tmp_path.name}.csv"
    file.write_text("id\n1\n")

    done = uploaded(sftp, file, "-i", str(sftp.key), "-o", "IdentitiesOnly=yes", "-b", "-")

    assert done.returncode == 0, done.stderr
    assert (sftp.home / file.name).read_text() == "id\n1\n"


@pytest.mark.parametrize("right", [True, False])
def test_sftp_takes_files_of_who_has_the_password(right: bool, sftp: sftp_parts.Server, tmp_path: Path) -> None:
    file = tmp_path / f"{tmp_path.name}.csv"
    file.write_text("id\n2\n")
    asked = tmp_path / "ask"
    asked.write_text('#!/bin/sh\nprintf "%s\\n" "$PASSWORD"\n')
    asked.chmod(0o755)

    done = uploaded(
        sftp, file, "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1",
        SSH_ASKPASS=str(asked), SSH_ASKPASS_REQUIRE="force", PASSWORD=sftp.password if right else "wrong",
    )  # fmt: skip

    assert (sftp.home / file.name).exists() == right, done.stderr
    assert ("Permission denied" in done.stderr) != right


def mail(recipient: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "flows@test", recipient, "Ein Gruß"
    made.set_content("Grüße")
    return made


def test_smtp_keeps_mails(smtp: smtp_parts.Server, tmp_path: Path) -> None:
    recipient = f"{tmp_path.name}@test"
    context = ssl.create_default_context(cafile=smtp.folder / "ca.pem")

    with smtplib.SMTP("127.0.0.1", smtp.port) as client:
        client.send_message(mail(recipient))
    with smtplib.SMTP("localhost", smtp.secure_port) as client:
        client.starttls(context=context)
        client.login(smtp_parts.USER, smtp_parts.PASSWORD)
        client.send_message(mail(recipient))

    kept = smtp.mails(recipient)
    assert [(each.sender, each.recipients) for each in kept] == [("flows@test", (recipient,))] * 2
    assert [(each.message["Subject"], each.message.get_content()) for each in kept] == [("Ein Gruß", "Grüße\r\n")] * 2


def test_smtp_refuses_whom_it_does_not_know(smtp: smtp_parts.Server) -> None:
    with smtplib.SMTP("127.0.0.1", smtp.port) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="nobody of this name"):
            client.send_message(mail("refused@test"))
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="busy"):
            client.send_message(mail("later@test"))
    with smtplib.SMTP("localhost", smtp.secure_port) as client:
        with pytest.raises(smtplib.SMTPResponseException, match="STARTTLS"):
            client.send_message(mail("anybody@test"))
        client.starttls(context=ssl.create_default_context(cafile=smtp.folder / "ca.pem"))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(smtp_parts.USER, "wrong")


SESSION = """
import sys
from pathlib import Path
from tests.parts.sharing import shared
from tests.parts.smtp import Server
with shared(Server.made, Path(sys.argv[1])) as server:
    print(server.pid, server.folder, flush=True)
    sys.stdin.read()
"""


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_share_a_system_that_ends_when_the_last_of_them_is_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SESSION, str(tmp_path)]
    users = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [user.stdout.readline().split() for user in users if user.stdout]
    pid, folder = int(said[0][0]), Path(said[0][1])

    for user in users:
        assert lives(pid)
        user.kill()
        user.communicate()

    assert said[0] == said[1]
    until = time.monotonic() + 60
    while lives(pid) or folder.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
