"""The node type `notify`: tells people of records, by mail, chat or webhook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from pipelines.environment import Connection
from pipelines.errors import Invalid
from pipelines.messages import Sends
from pipelines.node import Example, Part, Post, Publication, Report, Schemas, Writer
from pipelines.notices import Notices, is_done
from pipelines.records import schema_without_ids
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.relation import as_list, suggestion
from pipelines.tables.spool import SpoolWriter
from pipelines.wording import OF_DIGEST, OF_RECORD, PLACE, Wording, named

DIGEST_BODY = "{count} records of flow {flow} came to {node} (run {run}, environment {environment}):\n\n{table}\n"
RECORD_BODY = "A record of flow {flow} came to {node} (run {run}, environment {environment}):\n\n{record}\n"


class Notify(Post):
    """Tells people of records, by mail, chat or webhook, when everything else of the run is delivered.

    All records of a run make one message with the first of them as a table, or with `digest: false` one each. Nothing is
    sent where nothing comes. A message that cannot be sent is tried again as the connection's `retry` says, and is then a
    warning in the run's report and a line of its transactions: the run does not fail for it, unless `on_error` says so.

    A message is sent once: what was sent is written down, and a run that is taken up again leaves it out. Only one that was
    under way when its process died is sent a second time. Previews and tests send nothing.

    Connections are of the adapter `mail`, or of `apprise` for some hundred chats, webhooks and other services.
    """

    connection: str
    """The connection that sends."""
    to: str | list[str] = Field(default=[], examples=["ops@example.org", ["{email}", "shop@example.org"]])
    """Who gets a mail. `{name}` is a column of the record: with `digest` everybody gets one message about the own records.
    The address of an `apprise` connection says itself who gets it."""
    subject: str = Field(default="{flow}: {count} records at {node}", examples=["{count} orders were refused"])
    """The message's first line. `{name}` stands for a parameter or variable, or for `flow`, `version`, `run`,
    `environment`, `node`, `count`; without `digest` also for a column of the record, or `record`, all of its columns."""
    body: str | None = Field(default=None, examples=["{count} orders were refused:\n\n{table}"])
    """What it says, with the same names; in a digest also `{table}`, the first records."""
    digest: bool = True
    """Whether a run's records are told in one message, or in one each."""
    rows: int = Field(default=20, ge=0, le=1_000)
    """How many records stand in a digest's table."""
    columns: str | list[str] | None = None
    """The columns that `{table}` and `{record}` show; without it all. What must not be mailed is left out here."""
    messages: int = Field(default=20, ge=1)
    """How many messages a run sends at most. Without `digest` the last tells of all records that are left; where `to` names
    columns, records of further people are told nobody, which is a warning."""
    on_error: Literal["warn", "reject", "fail"] = "warn"
    """What becomes of records whose message could not be sent: they are counted as filtered, with a warning; they are
    rejected with the code `not_sent`, and can be replayed; or the run fails."""

    category: ClassVar[str] = "people"
    keeps_ids: ClassVar[bool] = True
    adapters: ClassVar[tuple[str, ...]] = ("mail", "apprise")
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            says="Mails what a shop has refused, in one message with the first three orders.",
            config={
                "connection": "ops-mail",
                "to": "ops@example.org",
                "subject": "{count} orders were refused",
                "columns": ["order_no", "total"],
                "rows": 3,
            },
            records=[{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}],
            gives={"out": [{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}]},
        ),
        Example(
            says="Mails every customer about the own orders.",
            config={
                "connection": "ops-mail",
                "to": "{email}",
                "subject": "Your orders",
                "body": "We have received:\n\n{table}\n",
                "columns": ["order_no"],
                "messages": 1000,
                "on_error": "reject",
            },
            records=[
                {"order_no": "WEB-1", "email": "ada@example.org"},
                {"order_no": "WEB-2", "email": "bo@example.org"},
            ],
            gives={
                "out": [
                    {"order_no": "WEB-1", "email": "ada@example.org"},
                    {"order_no": "WEB-2", "email": "bo@example.org"},
                ]
            },
        ),
        Example(
            says="A message in a chat for each large order.",
            config={
                "connection": "ops-chat",
                "digest": False,
                "subject": "{order_no} is large",
                "body": "{order_no}: {total}",
            },
            records=[{"order_no": "WEB-1", "total": 18500.0}],
            gives={"out": [{"order_no": "WEB-1", "total": 18500.0}]},
        ),
    )

    def may_fail(self) -> bool:
        return self.on_error == "fail"

    def target(self, scope: Scope) -> str:
        return f"notice:{scope.node}"

    def delivery(self) -> tuple[str, str]:
        reason = "a message that was under way when its process died is sent again"
        if self.on_error == "warn":
            reason += "; one that cannot be sent is a warning"
        return "at least once", reason

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = next(iter(inputs.values()), None)
        plain = None if schema is None else schema_without_ids(schema)
        sender = self._sender(scope, report)
        personal = bool(PLACE.search(" ".join(as_list(self.to))))
        if sender is not None and sender.takes_recipients() and not self.to:
            report(("to",), "nobody gets the message", "name who does, such as `to: ops@example.org`")
        if sender is not None and not sender.takes_recipients() and self.to:
            report(("to",), "the connection's own address says who gets the message", "leave `to` out")
        if plain is None:
            return {"out": schema}
        of_run = [*scope.values, *(OF_DIGEST if self.digest else (*OF_RECORD, *plain.names))]
        for place, there in (("to", plain.names), ("subject", of_run), ("body", of_run)):
            for name in {name for text in as_list(getattr(self, place)) for name in named(text)}:
                if name not in there:
                    report((place,), f"{{{name}}} stands for nothing", suggestion(name, there))
        for name in as_list(self.columns):
            if name not in plain.names:
                report(("columns",), f"there is no column {name!r}", suggestion(name, plain.names))
        if personal and self.on_error == "fail":
            report(("on_error",), "one address that is wrong would end the run", "take `reject`", warning=True)
        return {"out": schema}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        return SpoolWriter(scope.staging / "spool")

    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        return Notices(self.connection, self._sends(scope), self._wording(), self.on_error, parts, scope)

    def is_published(self, scope: Scope, token: str) -> bool:
        return is_done(scope)

    def _wording(self) -> Wording:
        body = self.body if self.body is not None else DIGEST_BODY if self.digest else RECORD_BODY
        columns = None if self.columns is None else tuple(as_list(self.columns))
        rows = self.rows if self.digest else max(self.rows, 1)
        return Wording(tuple(as_list(self.to)), self.subject, body, self.digest, rows, self.messages, columns)

    def _sender(self, scope: Scope, report: Report) -> Sends | None:
        try:
            return self._sends(scope)
        except Invalid as fault:
            report(("connection",), str(fault), "")
        return None

    def _sends(self, scope: Scope) -> Sends:
        found = scope.connection(self.connection, Connection)
        if not isinstance(found, Sends):
            raise Invalid(f"connection {self.connection!r} is of adapter {found.adapter!r}, which sends no messages")
        return found
