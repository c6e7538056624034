"""Environments are read from their files; connections are those of their adapters, secrets only names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import registry
from pipelines.environmentfile import environment_names, load_environment, parse_environment
from pipelines.errors import Invalid


def problems(text: str, path: str = "environments/local.yaml") -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse_environment(text, path)
    return [str(problem) for problem in caught.value.problems]


def test_local_is_there_without_a_file(tmp_path: Path) -> None:
    environment = load_environment(tmp_path)

    assert (environment.name, environment.runner.name, dict(environment.connections)) == ("local", "direct", {})
    assert environment_names(tmp_path) == ("local",)


def test_an_environment_has_its_runner_connections_and_variables(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "plant-1.yaml").write_text(
        "environment: plant-1\nrunner: {workers: 4}\n"
        "connections:\n  shop: {adapter: sqlite, path: shop.db}\nvariables: {country: NO, since: 2026-01-01, most: 1.5}\n"
    )

    environment = load_environment(tmp_path, "plant-1")

    assert (environment.name, environment.runner.workers) == ("plant-1", 4)
    assert environment.connections["shop"].adapter == "sqlite"
    assert environment.variables == {"country": "NO", "since": "2026-01-01", "most": 1.5}
    assert environment_names(tmp_path) == ("local", "plant-1")


def test_an_empty_file_is_an_environment_called_as_its_file() -> None:
    assert parse_environment("", "environments/plant.yaml").name == "plant"


def test_an_unknown_environment_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match='no environment is called "lokal"; did you mean "local"'):
        load_environment(tmp_path, "lokal")


def test_all_problems_are_told_with_their_lines() -> None:
    text = """\
environment: other
runer: {workers: 2}
runner: {workers: 0}
connections:
  shop: {adapter: sqlit, path: shop.db}
  erp: {adapter: sqlite, pth: erp.db}
  files: {adapter: file}
  Bad Name: {adapter: sqlite, path: x}
  bare: {}
variables: {list: [1], Country: DE}
"""

    assert problems(text) == [
        'environments/local.yaml:1: the environment is called "other", its file "local"; call the file "other.yaml"',
        'environments/local.yaml:2: unknown field "runer"; did you mean "runner"?',
        'environments/local.yaml:3: runner: "workers" must be at least 1, not 0',
        'environments/local.yaml:5: connection "shop": no adapter is called "sqlit"; did you mean "sqlite"?',
        'environments/local.yaml:6: connection "erp": unknown field "pth"; did you mean "path"?',
        'environments/local.yaml:7: connection "files": the field "url" is missing',
        (
            'environments/local.yaml:8: connection "Bad Name": a connection cannot be called so; names are lower-case words '
            'joined by "-", at most 63 characters, such as "bad-name"'
        ),
        (
            'environments/local.yaml:9: connection "bare": the field "adapter" is missing; '
            f"write its adapter: {', '.join(registry.adapters())}"
        ),
        'environments/local.yaml:10: variable "list": must be text, a number, true, false or null',
        (
            'environments/local.yaml:10: variable "Country": not a name; names are lower-case words joined by "_", '
            'at most 63 characters, such as "country"'
        ),
    ]
