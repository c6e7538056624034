"""The mapper's fields: what stands at each target, as one tree of expressions that DuckDB and Arrow compute.

A target is a column or, with dots, a place in a struct (`address.city`). Its value is an expression, a constant, a
`Choice` between values, a `Group` of fields that may be null as a whole, or a `Loop` that builds a list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, Discriminator, Field, Tag

from pipelines.model import Model
from pipelines.sql.expressions import Expression
from pipelines.sql.literals import literal, name_of

Place = tuple[str | int, ...]
Constant = bool | int | float | None


def kind_of(value: Any) -> str:
    """Which kind of value stands at a target, from its looks."""
    if isinstance(value, BaseModel):
        return type(value).__name__.lower()
    if isinstance(value, Mapping):
        return "loop" if "from" in value else "choice" if "when" in value else "group"
    return "expression" if isinstance(value, str) else "constant"


class Choice(Model):
    """The first value whose condition is true."""

    when: dict[Expression, "Value"] = Field(min_length=1)
    """Values by condition, tried in this order."""
    otherwise: "Value" = None
    """The value where no condition is true; without it null."""


class Group(Model):
    """A struct; null as a whole where `where` is not true."""

    fields: dict[str, "Value"] = Field(min_length=1)
    """Its fields, as those of the map."""
    where: Expression | None = None
    """The condition under which it is there at all."""


class Loop(Model):
    """A list with an element for each element of another list."""

    source: Expression = Field(alias="from")
    """The list gone through."""
    each: str = Field(default="item", pattern="^[a-z_][a-z0-9_]*$")
    """What the element is called in the expressions inside; its number, from 1, is called so with `_number` behind.
    The input's columns, and the elements of loops around, are there too."""
    where: Expression | None = None
    """The condition for an element to be taken; numbers count those taken."""
    fields: dict[str, "Value"] | None = None
    """The new element's fields, as those of the map."""
    value: "Value" = None
    """The new element itself, where it is no struct."""


Value = Annotated[
    Annotated[Expression, Tag("expression")]
    | Annotated[Constant, Tag("constant")]
    | Annotated[Choice, Tag("choice")]
    | Annotated[Group, Tag("group")]
    | Annotated[Loop, Tag("loop")],
    Discriminator(kind_of),
]
"""What stands at a target."""

for model in (Choice, Group, Loop):
    model.model_rebuild()


@dataclass(frozen=True)
class Part:
    """An expression as the user wrote it, where it stands, and the loops around it from the outside in."""

    text: str
    at: Place
    loops: tuple[tuple[str, str], ...] = ()
    """Source and element's name of each loop around."""
    gives: Literal["value", "condition", "list"] = "value"
    """What it has to give."""

    @property
    def alone(self) -> str:
        """The part as an expression of its own, so that what is wrong with it is said of it."""
        text = f"({self.text}\n)"
        for source, each in reversed(self.loops):
            text = f"list_transform(({source}\n), lambda {each}, {each}_number: {text})"
        return text if self.loops else self.text


@dataclass(frozen=True)
class Computed:
    """A value that is one expression: as SQL, and the parts it is made of."""

    sql: str
    parts: tuple[Part, ...]


Tree = Computed | dict[str, "Tree"]
"""What stands at a column: a computed value, or a struct built of such by Arrow, so that each fault names its field."""


class Misplaced(Exception):
    """A target that cannot stand where it does: at which place, what is wrong, what would be right."""

    def __init__(self, at: Place, what: str, fix: str) -> None:
        super().__init__(at, what, fix)
        self.at, self.what, self.fix = at, what, fix


def grown(fields: Mapping[str, Any], at: Place, loops: tuple[tuple[str, str], ...] = ()) -> dict[str, Tree]:
    """The fields as a tree by column, dotted targets taken apart.

    Raises:
        Misplaced: where a target is no name, or is taken by another.
    """
    tree: dict[str, Tree] = {}
    for target, value in fields.items():
        here = (*at, target)
        _hang(tree, _path(target, value, here), _value(value, here, loops), here)
    return tree


def _path(target: str, value: Any, at: Place) -> list[str]:
    is_list = target.endswith("[]")
    if is_list and not isinstance(value, Loop):
        raise Misplaced(at, f"target {target!r} is a list, but its value is none", "give it `from` and `fields`")
    if not is_list and isinstance(value, Loop):
        raise Misplaced(at, f"target {target!r} has a loop as its value", f"call it {target + '[]'!r}")
    path = target.removesuffix("[]").split(".")
    if not all(path) or "[]" in target.removesuffix("[]"):
        raise Misplaced(at, f"target {target!r} is no name", "write names joined by dots, [] at the end for a list")
    return path


def _hang(tree: dict[str, Tree], path: list[str], value: Tree, at: Place) -> None:
    for place, name in enumerate(path[:-1]):
        _alike(tree, name, at)
        below = tree.setdefault(name, {})
        if not isinstance(below, dict):
            taken = ".".join(path[: place + 1])
            raise Misplaced(at, f"{'.'.join(path)!r} lies inside {taken!r}, which has a value of its own", "drop one")
        tree = below
    if path[-1] in tree:
        raise Misplaced(at, f"{'.'.join(path)!r} has a value already", "drop one")
    _alike(tree, path[-1], at)
    tree[path[-1]] = value


def _alike(tree: Mapping[str, Tree], name: str, at: Place) -> None:
    """DuckDB takes names for one another that differ only in case."""
    twin = next((other for other in tree if other.lower() == name.lower() and other != name), None)
    if twin is not None:
        raise Misplaced(at, f"{name!r} differs from {twin!r} only in case", f"write it as {twin!r}, or name it anew")


def _value(value: Any, at: Place, loops: tuple[tuple[str, str], ...]) -> Tree:
    if isinstance(value, str):
        return Computed(value, (Part(value, at, loops),))
    if isinstance(value, Choice):
        return _choice(value, at, loops)
    if isinstance(value, Group):
        inside = grown(value.fields, (*at, "fields"), loops)
        if value.where is None:
            return inside
        held = _one(inside)
        where = Part(value.where, (*at, "where"), loops, "condition")
        return Computed(f"CASE WHEN ({where.text}\n) THEN {held.sql} END", (where, *held.parts))
    if isinstance(value, Loop):
        return _loop(value, at, loops)
    return Computed(literal(value), ())


def _choice(value: Choice, at: Place, loops: tuple[tuple[str, str], ...]) -> Computed:
    sql, parts = "CASE", []
    for condition, then in value.when.items():
        when = Part(condition, (*at, "when", condition), loops, "condition")
        held = _one(_value(then, (*at, "when", condition), loops))
        sql += f" WHEN ({condition}\n) THEN {held.sql}"
        parts += [when, *held.parts]
    held = _one(_value(value.otherwise, (*at, "otherwise"), loops))
    return Computed(f"{sql} ELSE {held.sql} END", (*parts, *held.parts))


def _loop(value: Loop, at: Place, loops: tuple[tuple[str, str], ...]) -> Computed:
    if (value.fields is None) == ("value" not in value.model_fields_set):
        raise Misplaced(at, "a loop gives either `fields` or a `value`", "give it one of the two")
    source = Part(value.source, (*at, "from"), loops, "list")
    inside = (*loops, (value.source, value.each))
    if value.fields is not None:
        held = _one(grown(value.fields, (*at, "fields"), inside))
    else:
        held = _one(_value(value.value, (*at, "value"), inside))
    items, parts = f"({value.source}\n)", [source]
    if value.where is not None:
        items = f"list_filter({items}, lambda {value.each}: ({value.where}\n))"
        parts.append(Part(value.where, (*at, "where"), inside, "condition"))
    sql = f"list_transform({items}, lambda {value.each}, {value.each}_number: {held.sql})"
    return Computed(sql, (*parts, *held.parts))


def _one(tree: Tree) -> Computed:
    """A tree as one expression."""
    if isinstance(tree, Computed):
        return Computed(f"({tree.sql}\n)", tree.parts)
    held = {name: _one(below) for name, below in tree.items()}
    sql = ", ".join(f"{name_of(name)} := {each.sql}" for name, each in held.items())
    return Computed(f"struct_pack({sql})", tuple(part for each in held.values() for part in each.parts))


def leaves(tree: Mapping[str, Tree], above: str = "") -> Iterator[tuple[str, Computed]]:
    """The computed values with their dotted targets, in order."""
    for name, below in tree.items():
        if isinstance(below, Computed):
            yield above + name, below
        else:
            yield from leaves(below, f"{above}{name}.")


def assembled(name: str, tree: Tree, columns: pa.RecordBatch, above: str = "") -> pa.Array:
    """The column of a tree, from the columns of its leaves."""
    if isinstance(tree, Computed):
        return columns.column(above + name)
    below = [assembled(each, branch, columns, f"{above}{name}.") for each, branch in tree.items()]
    return pa.StructArray.from_arrays(below, names=list(tree))


def type_of(name: str, tree: Tree, schema: pa.Schema, above: str = "") -> pa.DataType | None:
    """The Arrow type of that column; None where a leaf is wrong."""
    if isinstance(tree, Computed):
        index = schema.get_field_index(above + name)
        return None if index < 0 else schema.field(index).type
    held = {each: type_of(each, branch, schema, f"{above}{name}.") for each, branch in tree.items()}
    return pa.struct([pa.field(each, kind) for each, kind in held.items()]) if None not in held.values() else None
