"""The nodes of files, with a connection, are held to the suite that strangers import, on each kind of server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest

from adapters import file
from pipelines.conformance import GetConformance, PostConformance
from pipelines.conformance.examples import Records
from pipelines.conformance.nodes import NodeConformance
from pipelines.environment import Environment
from pipelines.node import Example, Node
from pipelines.scope import Scope
from tests.adapters.file.post_room import read_back
from tests.adapters.file.store_room import Room, on_azure, on_google, on_s3, on_sftp


class InStore(NodeConformance):
    """Files in a folder of a server."""

    room: Callable[[Path], Room]

    @pytest.fixture(autouse=True, params=["s3", "sftp", "google", "azure"])
    def _room(self, request: pytest.FixtureRequest) -> None:
        make, server = (
            {"s3": on_s3, "sftp": on_sftp, "google": on_google, "azure": on_azure}[request.param],
            request.getfixturevalue(request.param),
        )
        self.room = cache(lambda project: make(server, project))

    def built(self, example: Example) -> Node:
        return self.node.model_validate({**example.config, "connection": "lake"})

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = NodeConformance.prepare(self, project, replace(example, files={}))
        for name, text in example.files.items():
            self.room(project).put(name, text.encode())
        return replace(scope, environment=Environment(connections={"lake": self.room(project).connection()}))


class TestStoreGet(InStore, GetConformance):
    node = file.Get

    def grow(self, scope: Scope, example: Example) -> Records | None:
        if not str(example.config["path"]).startswith("in/"):
            return None
        self.room(scope.project).put("in/later.jsonl", b'{"id": 7, "total": 1.00}\n')
        return [{"id": 7, "total": "1.00"}]


class TestStorePost(InStore, PostConformance):
    node = file.Post

    def delivered(self, scope: Scope, example: Example) -> Records:
        seen = scope.staging / "seen"
        for name, data in self.room(scope.project).files().items():
            if not name.rpartition("/")[2].startswith("."):
                (seen / name).parent.mkdir(parents=True, exist_ok=True)
                (seen / name).write_bytes(data)
        found: list[dict[str, Any]] = []
        for path in sorted(each for each in seen.rglob("*") if each.is_file()):
            if path.suffix == ".txt":
                told = {name: example.config[name] for name in ("format", "layout")}
                found += read_back(seen, path=str(path), **told).to_pylist()
                continue
            if path.suffix == ".xml":
                read = read_back(seen, path=str(path), columns={"no": "BIGINT", "total": "DOUBLE"}).to_pylist()
                found += [{"order_id": row["no"], "total": row["total"]} for row in read]
                continue
            reader = {".csv": "read_csv('{}')", ".jsonl": "read_json('{}')"}.get(
                path.suffix, "read_parquet('{}', hive_partitioning = true)"
            )
            found += duckdb.sql(f"FROM {reader.format(path)}").to_arrow_table().to_pylist()
        shutil.rmtree(seen, ignore_errors=True)
        return found
