"""The same flow in Python: nodes are added one by one, and give the `Flow`, or the text a person would have typed.

    flow = FlowBuilder("paid-orders")
    orders = flow.start().then("orders", "file.get", path="orders.csv")
    paid = orders.then("paid", "filter", where="status = 'paid'")
    paid.then("sent", "file.post", path="paid.parquet")
    flow.text()

Fields are those of the flow file. A trailing `_` is for names that Python keeps to itself: `from_`, `in_`, `all_`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from keyword import iskeyword
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipelines.errors import Invalid
from pipelines.flow import Flow
from pipelines.flowfile import as_tree, drafted, render_tree
from pipelines.language.modelproblems import Place


@dataclass(frozen=True)
class Port:
    """A named output of a node, from which others take."""

    builder: FlowBuilder
    node: str
    name: str = "out"

    def then(self, name: str, type: str, /, **fields: Any) -> NodeRef:  # noqa: A002 - the word of the language
        """Adds a node that takes from here."""
        return self.builder.node(name, type, from_=self, **fields)

    def __str__(self) -> str:
        return self.node if self.name == "out" else f"{self.node}.{self.name}"


@dataclass(frozen=True)
class NodeRef(Port):
    """A node of a flow being built; itself its port `out`, its other ports by name: `large["review"]`."""

    def __getitem__(self, port: str) -> Port:
        return Port(self.builder, self.node, port)

    @property
    def rejected(self) -> Port:
        """The records it sets aside."""
        return self["rejected"]


Source = Port | str | Sequence["Port | str"] | Mapping[str, "Port | str"]
"""What a node takes from: a node, one of its ports, a list of them, or names of inputs to them."""


class FlowBuilder:
    """A flow being built."""

    def __init__(self, name: str, *, description: str = "") -> None:
        self._tree: dict[str, Any] = {"flow": name}
        if description:
            self._tree["description"] = description

    def parameter(self, name: str, type: str = "string", **fields: Any) -> str:  # noqa: A002 - the word of the language
        """Adds a parameter and gives what it is called in expressions: `$name`."""
        self._section("parameters", name, "parameter")[name] = _fields({"type": type, **fields})
        return f"${name}"

    def settings(self, **fields: Any) -> None:
        """Sets what holds for the whole flow."""
        self._tree.setdefault("settings", {}).update(_fields(fields))

    def start(self, name: str = "start", /, **fields: Any) -> NodeRef:
        """Adds the start."""
        return self.node(name, "start", **fields)

    def node(self, name: str, type: str, /, *, from_: Source | None = None, **fields: Any) -> NodeRef:  # noqa: A002
        """Adds a node of a type, with its fields as in a flow file."""
        given = {"type": type} if from_ is None else {"type": type, "from": from_}
        self._section("nodes", name, "node")[name] = _fields({**given, **fields})
        return NodeRef(self, name)

    def test(
        self,
        name: str,
        *,
        given: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        then: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        **fields: Any,
    ) -> None:
        """Adds a test: given these records at these nodes, those come out there."""
        whole = {"name": name, "given": given, "then": then, **fields}
        tests = self._tree.setdefault("tests", [])
        tests.append(_fields({key: value for key, value in whole.items() if value is not None}))

    def build(self) -> Flow:
        """The flow.

        Raises:
            Invalid: with every problem.
        """
        made = drafted(self._ordered(), Place())
        if made.problems:
            raise Invalid(made.problems)
        flow = made.flow
        return replace(flow, version=sha256(render_tree(as_tree(flow)).encode()).hexdigest()[:12])

    def text(self) -> str:
        """The flow as the text of its file."""
        return render_tree(as_tree(self.build()))

    def _section(self, section: str, name: str, what: str) -> dict[str, Any]:
        held: dict[str, Any] = self._tree.setdefault(section, {})
        if name in held:
            raise Invalid(
                f'flow "{self._tree["flow"]}": there is a {what} called "{name}" already; give each its own name'
            )
        return held

    def _ordered(self) -> dict[str, Any]:
        keys = ("flow", "description", "parameters", "settings", "nodes", "tests")
        return {key: self._tree[key] for key in keys if key in self._tree}


def _fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {_name(key): plain(value) for key, value in fields.items()}


def _name(keyword: str) -> str:
    """A field's name as the flow file has it."""
    bare = keyword.removesuffix("_")
    return bare if bare and not bare.endswith("_") else keyword


def python_name(field: str) -> str:
    """A field's name as a Python keyword argument."""
    return f"{field}_" if iskeyword(field) else field


def plain(value: Any) -> Any:
    """A Python value as a flow file would hold it."""
    if isinstance(value, Port):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, (Decimal, Path)):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise Invalid(
        f"{type(value).__name__} {value!r} cannot be written in a flow file; give text, a number, a list or a mapping"
    )
