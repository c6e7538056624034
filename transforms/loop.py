"""The node type `loop`: records go through nodes again and again."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from pipelines.nested import Nested, Turns
from pipelines.node import Example
from pipelines.sql.expressions import Expression

HALVED = {
    "half": {"type": "map", "from": "start", "keep": "all", "fields": {"amount": "amount / 2", "times": "times + 1"}},
    "end": {"type": "end", "from": "half"},
}
YEAR = {
    "year": {"type": "map", "from": "start", "keep": "all", "fields": {"amount": "round(amount * 1.1, 2)"}},
    "end": {"type": "end", "from": "year"},
}
CHAIN = {
    "boss": {
        "type": "lookup",
        "from": "start",
        "table": "tables/staff.csv",
        "on": {"person": "name"},
        "take": ["boss"],
    },
    "found": {"type": "filter", "from": "boss", "where": "boss IS NOT NULL"},
    "above": {"type": "end", "from": "found"},
    "next": {"type": "map", "from": "found", "fields": {"of": "of", "person": "boss"}},
    "again": {"type": "end", "from": "next"},
}
STAFF = "name,boss\nEve,\nBob,Eve\nKim,Bob\n"


class Loop(Nested):
    """Passes records through nodes again and again: through those of another flow, or through its own.

    What leaves the nodes' end goes out by `out` where `until` is true, and else goes round again; what the nodes filter
    or reject does not. The loop ends when nothing goes round any more. The nodes must give back the columns that go in,
    of the same types; columns that they add are there for `until` and in `out`, not in the next round.

    - Without `until`, `at_most: 3` passes each record three times and then out.
    - With `until`, a record that is not done after `at_most` rounds (10,000, if nothing is said) is rejected with the code
      `rounds`, one that is not done in `timeout_seconds` with the code `timeout`.
    - Nodes with several ends: from the one called `again` records go round, the others are ports of the loop. So it can
      run until there are no more data, with no `until`.

    Records go round as they came in, a batch at a time. In a loop stand nodes that take records one by one: no `join`,
    `sort` or `aggregate`, no get that reads by itself, no post that delivers all at once. A loop may be in a loop.
    """

    flow: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", examples=["next-page"])
    """The flow whose nodes records go through: `flows/NAME.yaml`. Its `start` declares with `columns` what must come in."""
    nodes: dict[str, Any] | None = Field(default=None, examples=[HALVED], json_schema_extra={"format": "flow-nodes"})
    """The nodes themselves, as in a flow, in place of `flow`. The first takes `from: start`, which is what comes in."""
    until: Expression | None = Field(default=None, examples=["status = 'done'"])
    """Condition over what leaves the nodes (DuckDB SQL): a record for which it is true goes out."""
    at_most: int | None = Field(default=None, ge=1, le=1_000_000, examples=[10])
    """So many times a record goes through the nodes."""
    timeout_seconds: float | None = Field(default=None, gt=0, examples=[600])
    """After so many seconds in the loop no record goes round again."""
    inputs: dict[str, Expression] = Field(default_factory=dict, examples=[{"tries": "0"}])
    """Columns that are made of what comes in, once, before the first round."""
    parameters: dict[str, Any] = Field(default_factory=dict, examples=[{"country": "$country"}])
    """Values for the parameters of `flow`; `$name` is a parameter or variable of the flow around it."""

    category = "flow"
    examples = (
        Example(
            says="Halved until it is below 100; what is not after four rounds is set aside.",
            config={"nodes": HALVED, "until": "amount < 100", "at_most": 4, "inputs": {"times": "0"}},
            records=[{"id": 1, "amount": 350.0}, {"id": 2, "amount": 90.0}, {"id": 3, "amount": 9000.0}],
            gives={
                "out": [{"id": 2, "amount": 45.0, "times": 1}, {"id": 1, "amount": 87.5, "times": 2}],
                "rejected": [{"id": 3, "amount": 562.5, "times": 4, "reject_code": "rounds"}],
            },
        ),
        Example(
            says="Three years of interest.",
            config={"nodes": YEAR, "at_most": 3},
            records=[{"id": 1, "amount": 100.0}],
            gives={"out": [{"id": 1, "amount": 133.1}]},
        ),
        Example(
            says="A record for everybody above a person, until there is nobody.",
            config={"nodes": CHAIN},
            records=[{"of": "Kim", "person": "Kim"}, {"of": "Bob", "person": "Bob"}],
            files={"tables/staff.csv": STAFF},
            gives={
                "above": [
                    {"of": "Kim", "person": "Kim", "boss": "Bob"},
                    {"of": "Bob", "person": "Bob", "boss": "Eve"},
                    {"of": "Kim", "person": "Bob", "boss": "Eve"},
                ]
            },
        ),
    )

    def body(self) -> str | Mapping[str, Any]:
        return self.flow if self.flow is not None else self.nodes or {}

    def given(self) -> Mapping[str, Any]:
        return self.parameters

    def made(self) -> Mapping[str, str]:
        return self.inputs

    def turns(self) -> Turns:
        return Turns(self.until, self.at_most, self.timeout_seconds)

    def faults(self) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
        if (self.flow is None) == (self.nodes is None):
            what = "both `flow` and `nodes` are given" if self.flow is not None else "no nodes are given to go through"
            yield (), what, "write `flow`, the name of one, or `nodes`"
        if self.nodes is not None and self.parameters:
            yield ("parameters",), "its own nodes have no parameters", "take `parameters` out: `$name` is known in them"
