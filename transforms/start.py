"""The node type `start`: the one entry of a flow."""

from pydantic import Field

from pipelines.node import Example, Start
from pipelines.triggers import Trigger


class Entry(Start):
    """The one entry of a flow: the nodes that take from it begin when it is started.

    Somebody can always start a flow by hand; `on` says what else does.
    """

    on: list[Trigger] = Field(
        default_factory=list, examples=[[{"schedule": "*/15 * * * *", "timezone": "Europe/Berlin"}]]
    )
    """What starts the flow, each known by its first word: `schedule`, `every`, `webhook`, `kafka`, `file`, `flow`.
    Nothing: only by hand."""

    columns: dict[str, str] | None = Field(
        default=None, min_length=1, examples=[{"item": "VARCHAR", "quantity": "INTEGER"}]
    )
    """The columns that come in where the flow is used as a node of another, with their DuckDB types. Such a flow does not run
    by itself; its tests give records to its start."""

    category = "flow"
    examples = (
        Example(says="By hand.", config={}),
        Example(
            says="Every quarter of an hour in Berlin, and whenever the shop calls.",
            config={"on": [{"schedule": "*/15 * * * *", "timezone": "Europe/Berlin"}, {"webhook": "orders"}]},
        ),
        Example(
            says="Once an hour, and after the flow that brings the stock.",
            config={"on": [{"every": "1 hour"}, {"flow": "stock"}]},
        ),
        Example(
            says="Of a flow that others use as a node: what they send must have these columns.",
            config={"columns": {"item": "VARCHAR", "quantity": "INTEGER"}},
        ),
        Example(
            says="For files that arrive and messages of a topic.",
            config={"on": [{"file": "inbox/*.csv"}, {"kafka": "orders", "connection": "events"}]},
        ),
    )
