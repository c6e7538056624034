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
            says="For files that arrive and messages of a topic.",
            config={"on": [{"file": "inbox/*.csv"}, {"kafka": "orders", "connection": "events"}]},
        ),
    )
