"""What `$name` stands for in a run: variables of the environment, and over them the flow's parameters, each of its type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import duckdb

from pipelines.environment import Environment
from pipelines.errors import Invalid, Problem
from pipelines.flow import Flow, Parameter, Use
from pipelines.language.modelproblems import close
from pipelines.sql.sandbox import Sandbox


def values(flow: Flow, environment: Environment, given: Mapping[str, object], sandbox: Sandbox) -> dict[str, object]:
    """The value of each variable and parameter; `given` are those that whoever starts the flow sets.

    Raises:
        Invalid: an unknown name, a value not of the parameter's type, a required parameter without a value.
    """
    problems = list(_unknown(flow, given))
    found: dict[str, object] = dict(environment.variables)
    for name, parameter in flow.parameters.items():
        value = given.get(name, parameter.default)
        if value is None and parameter.required and name not in given:
            problems.append(Problem("", 0, 0, f"parameter {name!r} must be given", f"--set {name}=…", _at(name)))
        try:
            found[name] = cast(value, parameter, sandbox)
        except Invalid as fault:
            problems.append(Problem("", 0, 0, f"parameter {name!r}: {fault}", at=_at(name)))
    if problems:
        raise Invalid(problems)
    return found


Fault = tuple[tuple[str, ...], str, str]
"""Where in a node that stands for a flow, what is wrong, what would be right."""


def used_values(use: Use, around: Mapping[str, object], sandbox: Sandbox) -> tuple[dict[str, object], list[Fault]]:
    """The parameters of a flow that is used as a node, each as its type, and what is wrong with those it is given."""
    wrong: list[Fault] = []
    found: dict[str, object] = {}
    parameters = use.parameters or {}
    for name, value in use.given.items():
        if name not in parameters:
            wrong.append((_at(name), f'the flow has no parameter "{name}"', close(name, tuple(parameters))))
        elif (other := _named(value)) is not None and other not in around:
            wrong.append((_at(name), f'"${other}" is no parameter or variable here', close(other, tuple(around))))
    for name, parameter in parameters.items():
        value = use.given.get(name, parameter.default)
        if parameter.required and name not in use.given:
            wrong.append((("parameters",), f'the flow\'s parameter "{name}" must be given', f"such as {name}: …"))
        try:
            other = _named(value) if name in use.given else None
            found[name] = cast(value if other is None else around.get(other), parameter, sandbox)
        except Invalid as fault:
            found[name] = None
            wrong.append((_at(name), str(fault), ""))
    return found, wrong


def _named(value: object) -> str | None:
    """The name that a given value says: `$name`."""
    return value[1:] if isinstance(value, str) and value.startswith("$") else None


def _at(name: str) -> tuple[str, str]:
    return "parameters", name


def cast(value: object, parameter: Parameter, sandbox: Sandbox) -> object:
    """The value as the parameter's DuckDB type; None stays None."""
    try:
        return sandbox.fetch(f"SELECT CAST($1 AS {parameter.type})", [value])[0][0]
    except (duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException) as fault:
        raise Invalid(f"{parameter.type!r} is no DuckDB type, such as integer, decimal(18,2) or timestamp") from fault
    except duckdb.Error as fault:
        raise Invalid(f"{value!r} is no {parameter.type}") from fault


def _unknown(flow: Flow, given: Mapping[str, object]) -> Iterator[Problem]:
    for name in given:
        if name not in flow.parameters:
            close = get_close_matches(name, flow.parameters, 1)
            there = ", ".join(flow.parameters) or "none"
            fix = f"did you mean {close[0]!r}?" if close else f"there are: {there}"
            yield Problem("", 0, 0, f"flow {flow.name!r} has no parameter {name!r}", fix)
