"""What every node type must keep to, whatever its kind."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError

from pipelines.model import field_texts
from pipelines.node import Example, Node
from pipelines.scope import Scope

NOW = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)


class Reported(list[str]):
    """Takes the problems of a check."""

    def __call__(self, at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        if not warning:
            self.append(f"{'.'.join(map(str, at))}: {what}; {fix}")


class NodeConformance:
    """Derive a test class, name its `node`, and pytest holds it to the contract."""

    node: ClassVar[type[Node]]
    """The node type."""

    def prepare(self, project: Path, example: Example) -> Scope:
        """The world of an example: its files in a project folder. Override for connections and databases."""
        for name, text in example.files.items():
            path = project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        staging = project / ".processflow" / "staging"
        staging.mkdir(parents=True, exist_ok=True)
        return Scope(project, now=NOW, flow="conformance", version="1", run="r1", staging=staging)

    def samples(self) -> Sequence[Example]:
        """The examples used as data: the node's own. Override where those do not tell all there is."""
        return self.node.examples

    def built(self, example: Example) -> Node:
        """The node of an example."""
        return self.node.model_validate(dict(example.config))

    def worlds(self, tmp_path: Path) -> list[tuple[Example, Node, Scope]]:
        """Every example with its node and a world of its own."""
        found = []
        for number, example in enumerate(self.samples()):
            project = tmp_path / f"example-{number}"
            project.mkdir()
            found.append((example, self.built(example), self.prepare(project, example)))
        return found

    def test_every_field_and_the_node_itself_are_documented(self) -> None:
        silent = [name for name in self.node.model_fields if not field_texts(self.node).get(name)]

        assert not silent, f"fields without a docstring: {silent}"
        assert (self.node.__doc__ or "").strip(), "the node type has no docstring"

    def test_there_are_examples_and_each_says_what_it_shows(self) -> None:
        assert self.node.examples, "no examples"
        assert all(example.config is not None for example in self.node.examples)
        assert len(self.node.examples) == 1 or all(example.says for example in self.node.examples)

    def test_the_schema_of_its_fields_is_json(self) -> None:
        schema = self.node.model_json_schema()

        assert json.loads(json.dumps(schema)) == schema
        assert schema["properties"].keys() == {_shown(self.node, name) for name in self.node.model_fields} or not (
            self.node.model_fields
        )

    def test_a_field_it_does_not_know_is_refused(self) -> None:
        config = {**self.node.examples[0].config, "no_such_field": 1}

        problems: list[str] = []
        try:
            self.node.model_validate(config)
        except ValidationError as fault:
            problems = [str(place) for error in fault.errors() for place in error["loc"]]

        assert "no_such_field" in problems

    def test_it_survives_being_sent_to_a_worker(self) -> None:
        for example in self.node.examples:
            node = self.built(example)

            assert pickle.loads(pickle.dumps(node)) == node  # noqa: S301 -- written a moment ago

    def test_its_text_gives_the_same_node_again(self) -> None:
        for example in self.node.examples:
            node = self.built(example)

            assert self.node.model_validate_json(node.model_dump_json(by_alias=True, exclude_unset=True)) == node

    def test_no_port_is_named_rejected_or_twice(self) -> None:
        for example in self.node.examples:
            ports = self.built(example).ports()

            assert "rejected" not in ports
            assert len(set(ports)) == len(ports)


def _shown(node: type[Node], name: str) -> str:
    return node.model_fields[name].alias or name
