"""Reads `environments/*.yaml`: where flows run, with which connections and variables. `local` is there by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines import registry
from pipelines.environment import Connection, Environment, Reach, Runner
from pipelines.errors import Invalid, Problem
from pipelines.flowfile import FLOW_NAME, NODE_NAME, VALUE_NAME, named_like, read_text
from pipelines.language import yamltext
from pipelines.language.modelproblems import Place, checked, close

FOLDER = "environments"
LOCAL = "local"
FIELDS = ("environment", "runner", "connections", "variables", "private_addresses")
SUFFIXES = (".yaml", ".yml")


def environment_files(project: Path) -> dict[str, Path]:
    """The files of a project's environments by name, sorted."""
    found = [path for suffix in SUFFIXES for path in (project / FOLDER).glob(f"*{suffix}") if path.is_file()]
    return {path.stem: path for path in sorted(found)}


def environment_names(project: Path) -> tuple[str, ...]:
    """The names of a project's environments, `local` first."""
    return (LOCAL, *(name for name in environment_files(project) if name != LOCAL))


def load_environment(project: Path, name: str = LOCAL) -> Environment:
    """The environment called `name` of a project.

    Raises:
        Invalid: there is none of that name, or its file has problems: every one of them.
    """
    files = environment_files(project)
    if name in files:
        return parse_environment(read_text(files[name]), str(files[name]))
    if name == LOCAL:
        return Environment()
    names = environment_names(project)
    raise Invalid(Problem(str(project / FOLDER), 0, 0, f'no environment is called "{name}"', close(name, names)))


def parse_environment(text: str, path: str = "") -> Environment:
    """The environment of a text; without a name of its own it has that of its file."""
    located = yamltext.parse(text, path)
    place = Place(text=located, path=path)
    tree = located.value if located.value is not None else {}
    if not isinstance(tree, Mapping):
        raise Invalid(place.problem((), "an environment is a mapping", f"its fields are: {', '.join(FIELDS)}"))
    problems = [
        place.problem((key,), f'unknown field "{key}"', close(key, FIELDS), key=True)
        for key in tree
        if key not in FIELDS
    ]
    stem = Path(path).stem or LOCAL
    name = tree.get("environment", stem)
    if not isinstance(name, str) or not FLOW_NAME.fullmatch(name):
        problems.append(
            place.problem(("environment",), f'an environment cannot be called "{name}"', named_like(str(name), "-"))
        )
    elif path and name != stem:
        what = f'the environment is called "{name}", its file "{stem}"'
        problems.append(place.problem(("environment",), what, f'call the file "{name}.yaml"'))
    runner, wrong = checked(Runner, tree.get("runner") or {}, place.inside("runner", who="runner"))
    problems += wrong
    connections = _connections(tree, place, problems)
    variables = _variables(tree, place, problems)
    given = {name: tree[name] for name in Reach.model_fields if name in tree}
    reach, unreachable = checked(Reach, given, place.inside(who="environment"))
    problems += unreachable
    if problems:
        raise Invalid(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return Environment.model_construct(
        name=name,
        runner=runner,
        connections=connections,
        variables=variables,
        private_addresses=reach.private_addresses if reach else False,
        _fields_set=set(tree),
    )


def _section(tree: Mapping[str, Any], key: str, place: Place, problems: list[Problem]) -> Mapping[str, Any]:
    value = tree.get(key)
    if value is None or isinstance(value, Mapping):
        return value or {}
    problems.append(place.problem((key,), f'"{key}" must be a mapping of names'))
    return {}


def _connections(tree: Mapping[str, Any], place: Place, problems: list[Problem]) -> dict[str, Connection]:
    found: dict[str, Connection] = {}
    for name, value in _section(tree, "connections", place, problems).items():
        inner = place.inside("connections", name, who=f'connection "{name}"')
        if not NODE_NAME.fullmatch(name):
            problems.append(inner.problem((), "a connection cannot be called so", named_like(name, "-"), key=True))
        made = _connection(value, inner, problems)
        if made is not None:
            found[name] = made
    return found


def _connection(value: Any, place: Place, problems: list[Problem]) -> Connection | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("adapter"), str):
        fix = f"write its adapter: {', '.join(registry.adapters())}"
        problems.append(place.problem((), 'the field "adapter" is missing', fix))
        return None
    adapter = value["adapter"]
    try:
        kind = registry.connection_type(adapter)
    except Invalid:
        problems.append(
            place.problem(("adapter",), f'no adapter is called "{adapter}"', close(adapter, registry.adapters()))
        )
        return None
    if kind is None:
        what = f"the adapter {adapter} needs no connection"
        problems.append(place.problem(("adapter",), what, f"take it out; {adapter} nodes name their places themselves"))
        return None
    made, wrong = checked(kind, value, place)
    problems += wrong
    return made


def _variables(tree: Mapping[str, Any], place: Place, problems: list[Problem]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in _section(tree, "variables", place, problems).items():
        who = f'variable "{name}"'
        inner = place.inside("variables", name, who=who)
        if not VALUE_NAME.fullmatch(name):
            problems.append(inner.problem((), "not a name", named_like(name, "_"), key=True))
        if isinstance(value, (Mapping, list)):
            problems.append(inner.problem((), "must be text, a number, true, false or null"))
        found[name] = value
    return found
