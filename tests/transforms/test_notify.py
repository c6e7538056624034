"""Notices: held to the contract of posts, mailed by a real server, once, and never at the cost of the run."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pyarrow as pa
import pytest

from adapters import apprise, mail
from agent.dry import preview
from agent.prepare import Request, check_flow
from agent.replaying import Replay, replay
from pipelines.conformance import PostConformance
from pipelines.conformance.examples import Records
from pipelines.conformance.nodes import Reported
from pipelines.drive import drive
from pipelines.environment import Environment
from pipelines.errors import Invalid
from pipelines.messages import Limit, Sends
from pipelines.node import Example
from pipelines.notices import History
from pipelines.scope import Scope
from pipelines.wording import Wording
from repository.query import rows as query
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, project, run_here
from tests.parts.smtp import Mail, Server
from transforms.notify import Notify


def sender_of(folder: Path) -> str:
    """An address that only the mails of this folder's project come from."""
    return f"p{abs(hash(str(folder)))}@example.org"


def settings(smtp: Server, folder: Path, **more: Any) -> dict[str, Any]:
    retry = {"attempts": 2, "first_seconds": 0.0}
    return {
        "adapter": "mail",
        "host": "127.0.0.1",
        "port": smtp.port,
        "tls": "none",
        "sender": sender_of(folder),
        "retry": retry,
        **more,
    }


def mailed(smtp: Server, folder: Path, to: str) -> list[Mail]:
    return [one for one in smtp.mails(to) if one.sender == sender_of(folder)]


def said(mail: Mail) -> str:
    text: str = mail.message.get_content()
    return text.replace("\r\n", "\n")


class TestNotify(PostConformance):
    node = Notify
    smtp: ClassVar[Server]

    @pytest.fixture(autouse=True)
    def _server(self, smtp: Server) -> None:
        type(self).smtp = smtp

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = replace(super().prepare(project, example), node="told")
        sender = quote(sender_of(project))
        chat = f"mailto://127.0.0.1:{self.smtp.port}/?smtp=127.0.0.1&from={sender}&to=chat@example.org&mode=insecure"
        connections = {
            "ops-mail": mail.Connection.model_validate(settings(self.smtp, project)),
            "ops-chat": apprise.Connection(adapter="apprise", url=chat),
        }
        return replace(scope, environment=Environment(connections=connections))

    def delivered(self, scope: Scope, example: Example) -> Records:
        people = ("ops@example.org", "ada@example.org", "bo@example.org", "chat@example.org")
        texts = [said(one) for who in people for one in mailed(self.smtp, scope.project, who)]
        assert isinstance(example.records, (list, tuple))
        return [record for record in example.records for text in texts if record["order_no"] in text]


FLOW = """flow: refusals
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, split_bytes: 2000, once: true, columns: {n: bigint, email: varchar, total: "decimal(9,2)"}}
  large: {type: decide, from: orders, when: {large: total > 90}, otherwise: small}
  kept: {type: sqlite.post, from: large.small, connection: kept, table: orders, mode: append, key: [n]}
  told: {type: notify, from: large.large, connection: ops, to: TO, subject: "{count} large orders", columns: [n, total], rows: 2, ON}
"""


def world(smtp: Server, folder: Path, to: str = "boss@example.org", on: str = "on_error: warn", **more: Any) -> Any:
    lines = [f'{n},p{n % 3}@example.org,"{n % 100}.50"' for n in range(1_000)]
    text = json.dumps(
        {
            "environment": "local",
            "connections": {
                "ops": settings(smtp, folder, **more),
                "kept": {"adapter": "sqlite", "path": "kept.sqlite"},
            },
        }
    )
    flow = FLOW.replace("TO", json.dumps(to)).replace("ON", on)
    orders = "\n".join(["n,email,total", *lines]) + "\n"
    return project(folder, flow, {"environments/local.yaml": text, "orders.csv": orders})


def kept(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "kept.sqlite")) as connection:
        return int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])


def test_a_run_tells_all_its_records_in_one_mail_when_they_are_delivered(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path)

    done = run_here(made, "refusals")
    again = run_here(made, "refusals")

    (one,) = mailed(smtp, tmp_path, "boss@example.org")
    assert one.message["Subject"] == "100 large orders"
    assert "n   total\n90  90.50\n91  91.50\n… and 98 more" in said(one)
    assert f"run {done['run']}" in said(one)
    assert (done["status"], done["balanced"], done["warnings"]) == ("done", True, [])
    assert done["nodes"]["told"]["delivered"] == 100
    assert again["nodes"]["told"]["in"] == 0
    assert done["delivery"]["label"] == "effectively once"
    assert done["delivery"]["posts"]["told"]["label"] == "at least once"
    assert query(made.lake, "SELECT count(DISTINCT rid) AS n FROM deliveries WHERE node = 'told'") == [{"n": 100}]


def test_everybody_gets_one_mail_about_the_own_records(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path, "{email}")

    run_here(made, "refusals")

    people = [f"p{n}@example.org" for n in range(3)]
    found = [mailed(smtp, tmp_path, who) for who in people]
    assert [len(mails) for mails in found] == [1, 1, 1]
    assert [mails[0].message["Subject"] for mails in found] == ["34 large orders", "33 large orders", "33 large orders"]


def test_a_message_for_each_record_ends_with_one_for_the_rest(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path, on='digest: false, messages: 4, subject: "{n} costs {total}", body: "{record}"')
    flow = tmp_path / "flows" / "refusals.yaml"
    flow.write_text(flow.read_text().replace('subject: "{count} large orders", ', ""))

    run_here(made, "refusals")

    found = mailed(smtp, tmp_path, "boss@example.org")
    assert [one.message["Subject"] for one in found] == [
        "90 costs 90.50",
        "91 costs 91.50",
        "92 costs 92.50",
        "refusals: 97 more records at told",
    ]
    assert said(found[0]).strip() == "n: 90\ntotal: 90.50"


def test_a_mail_that_is_refused_is_a_warning_and_the_run_is_done(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path, "refused@example.org")

    done = run_here(made, "refusals")

    assert (done["status"], done["balanced"], done["nodes"]["told"]["filtered"]) == ("done", True, 100)
    (warning,) = done["warnings"]
    assert warning["node"] == "told"
    assert "a message about 100 records was not sent: refused@example.org: " in warning["message"]
    assert "nobody of this name is here" in warning["message"]
    logged = query(made.lake, "SELECT details FROM transactions WHERE node = 'told' AND what = 'warning'")
    assert len(logged) == 1
    assert kept(tmp_path) == 900


def test_records_whose_mail_is_not_sent_can_be_rejected(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path, "later@example.org", "on_error: reject")

    done = run_here(made, "refusals")

    assert (done["status"], done["nodes"]["told"]["rejected"]) == ("done_with_rejects", 100)
    (first,) = query(made.lake, "SELECT DISTINCT code, message FROM rejects WHERE node = 'told'")
    assert first["code"] == "not_sent"
    assert "the mailbox is busy" in first["message"]


def test_a_run_fails_for_a_mail_only_where_it_is_told_to(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path, "refused@example.org", "on_error: fail")

    done = run_here(made, "refusals")

    assert (done["status"], done["exit_code"]) == ("failed", 1)
    assert "a message could not be sent: " in done["error"]
    assert "kept" in done["error"]
    assert done["delivery"]["label"] == "at least once"
    assert any("publishes before told" in reason for reason in done["delivery"]["reasons"])


@pytest.mark.parametrize("place", ["pipelines.notices:History.add", "pipelines.journal:save_settled"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_killed_sends_no_mail_again_that_it_knows_of(
    place: str, when: str, smtp: Server, tmp_path: Path
) -> None:
    made = world(smtp, tmp_path, "{email}")

    assert killed_at(tmp_path, "refusals", place, when, 2)
    again = run_here(made, "refusals")
    last = query(made.lake, "SELECT flow, status, balanced FROM runs")

    assert [len(mailed(smtp, tmp_path, f"p{n}@example.org")) for n in range(3)] == [1, 1, 1]
    assert again["nodes"]["orders"]["in"] == 0
    assert {(one["status"], one["balanced"]) for one in last} == {("done", True)}
    assert kept(tmp_path) == 900
    assert leftovers(made) == []


def test_a_preview_mails_nobody(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path)

    found = preview(Request(made, "refusals"), "told", 3)

    assert found.num_rows == 3
    assert mailed(smtp, tmp_path, "boss@example.org") == []


def test_no_more_is_sent_in_a_while_than_the_connection_allows(tmp_path: Path) -> None:
    now = [1_000.0]
    history, other = (History(tmp_path / "n.db", name, lambda: now[0]) for name in ("ops", "chat"))
    limit = Limit(2, 60.0)

    for _ in range(2):
        history.refuse_more(limit)
        history.add()

    other.refuse_more(limit)
    with pytest.raises(Invalid, match="'ops' has sent 2 messages in the last 60 seconds"):
        history.refuse_more(limit)
    now[0] += 61
    history.refuse_more(limit)


def test_the_limit_holds_from_run_to_run_and_is_a_warning(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path, "{email}", limit={"messages": 2, "seconds": 3600})

    done = run_here(made, "refusals")

    assert sum(len(mailed(smtp, tmp_path, f"p{n}@example.org")) for n in range(3)) == 2
    assert done["status"] == "done"
    assert "'ops' has sent 2 messages in the last 3,600 seconds" in done["warnings"][0]["message"]


def test_people_beyond_the_most_messages_are_told_of_in_one_warning(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path, "{email}", "messages: 1")

    done = run_here(made, "refusals")

    assert len(mailed(smtp, tmp_path, "p0@example.org")) == 1
    (warning,) = done["warnings"]
    assert "a message about 66 records was not sent: 1 messages were sent" in warning["message"]


def test_an_address_from_a_record_names_one_person_only() -> None:
    wording = Wording(("{email}",), "s {n}", "b", digest=True, rows=1, messages=9)
    rows = [{"email": "a@x", "n": 1}, {"email": "a@x, b@y", "n": 2}, {"email": None, "n": 3}]

    keys = wording.keys(pa.RecordBatch.from_pylist(rows), 0)

    assert [wording.recipients(key) for key in keys] == [("a@x",), ("a@x, b@y",), ("",)]


def test_a_subject_is_one_line_whatever_a_record_holds() -> None:
    wording = Wording(("o@x",), "{n}", "{n} {unknown}", digest=False, rows=1, messages=9)

    subject, body = wording.message([{"n": "a\r\nBcc: evil@x {flow}"}], 1, Scope(Path(), flow="f"))

    assert subject == "a Bcc: evil@x {flow}"
    assert body == "a\r\nBcc: evil@x {flow} {unknown}"


def test_what_is_wrong_with_a_notice_is_told_at_its_field(tmp_path: Path) -> None:
    connections = {
        "ops": mail.Connection(adapter="mail", host="h", sender="a@b.c"),
        "chat": apprise.Connection(adapter="apprise", url="json://h"),
    }
    scope = Scope(tmp_path, Environment(connections=connections))

    def problems(**config: Any) -> list[str]:
        report = Reported()
        Notify(**config).check({"": pa.schema([("n", pa.int64())])}, scope, report)
        return list(report)

    assert all(isinstance(connection, Sends) for connection in connections.values())
    assert problems(connection="ops") == ["to: nobody gets the message; name who does, such as `to: ops@example.org`"]
    assert problems(connection="chat", to="a@b.c")[0].startswith("to: the connection's own address says who")
    assert problems(connection="chat", subject="{m} and {n}")[0].startswith(
        "subject: {n} stands for nothing"
    ) or problems(connection="chat", subject="{m} and {n}")[0].startswith("subject: {m} stands for nothing")
    assert problems(connection="chat", columns=["m"]) == ["columns: there is no column 'm'; there are: n"]
    assert problems(connection="chat", digest=False, body="{n} {record}") == []


def test_a_connection_that_sends_nothing_is_a_problem(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path)
    flow = tmp_path / "flows" / "refusals.yaml"
    flow.write_text(flow.read_text().replace("connection: ops", "connection: kept"))

    faults = check_flow(Request(made, "refusals")).checked.faults

    assert any("'kept' is of adapter 'sqlite', which sends no messages" in problem.what for problem in faults)


def test_a_replay_sends_what_could_not_be_sent(smtp: Server, tmp_path: Path) -> None:
    made = world(smtp, tmp_path, "later@example.org", "on_error: reject")
    run_here(made, "refusals")
    flow = tmp_path / "flows" / "refusals.yaml"
    flow.write_text(flow.read_text().replace("later@example.org", "boss@example.org"))

    done = replay(Replay(made, "last"), drive)

    assert (done["status"], done["nodes"]["told"]["delivered"]) == ("done", 100)
    assert [one.message["Subject"] for one in mailed(smtp, tmp_path, "boss@example.org")] == ["100 large orders"]
    assert kept(tmp_path) == 900
