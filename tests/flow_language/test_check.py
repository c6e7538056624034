"""The check carries columns through a flow and tells every problem before anything runs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.check import Checked, check, check_file
from pipelines.environment import Connection, Environment
from pipelines.environmentfile import load_environment
from pipelines.flowfile import parse
from pipelines.language.modelproblems import Place
from pipelines.language.wholeflow import Whole, missing_secrets
from pipelines.records import REJECT_COLUMNS
from pipelines.scope import Scope
from pipelines.secrets import Secret


class Remote(Connection):
    """A connection with secrets at two depths."""

    password: Secret
    headers: dict[str, Secret]


HEAD = """\
flow: web-orders
parameters: {most: {type: "decimal(10,2)", default: 100}}
nodes:
  start: {type: start}
  orders: {type: sqlite.get, from: start, connection: shop, table: orders, cursor: id, key: [id]}
"""
REJECT = [field.name for field in REJECT_COLUMNS]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "local.yaml").write_text(
        "connections:\n  shop: {adapter: sqlite, path: shop.db}\n  erp: {adapter: sqlite, path: erp.db}\n"
    )
    (tmp_path / "environments" / "plant.yaml").write_text("connections:\n  store: {adapter: sqlite, path: store.db}\n")
    tables = {
        "shop.db": ["create table orders (id integer primary key, customer text, amount decimal(10,2)) strict"],
        "erp.db": [
            "create table orders (order_no text primary key, amount real)",
            "create table review (order_no text primary key)",
        ],
        "store.db": ["create table parts (part text primary key)"],
    }
    for name, statements in tables.items():
        with closing(sqlite3.connect(tmp_path / name)) as database:
            for statement in statements:
                database.execute(statement.replace("decimal(10,2)) strict", "real) strict"))
            database.commit()
    return tmp_path


def checked(project: Path, nodes: str, environment: str = "local") -> Checked:
    (project / "flow.yaml").write_text(HEAD + nodes)
    return check_file(project / "flow.yaml", Scope(project, load_environment(project, environment)))


def told(project: Path, nodes: str) -> list[str]:
    return [str(problem).removeprefix(f"{project}/") for problem in checked(project, nodes).problems]


def test_columns_travel_from_the_catalogue_to_the_last_port(project: Path) -> None:
    found = checked(
        project,
        "  shaped: {type: map, from: orders, keep: none, fields: {order_no: \"'W-' || id\", amount: amount * 2}}\n"
        "  large: {type: decide, from: shaped, when: {review: amount > $most}, otherwise: direct}\n"
        "  all: {type: merge, from: [large.review, orders], by_name: true}\n"
        "  done: {type: end, from: [all, large.direct, shaped.rejected]}\n",
    )

    assert found.problems == ()
    assert found.outputs["orders"]["out"].names == ["id", "customer", "amount"]
    assert found.outputs["orders"]["rejected"].names == ["line", *REJECT]
    assert found.inputs["large"] == pa.schema([("order_no", pa.string()), ("amount", pa.float64())])
    assert found.outputs["shaped"]["rejected"].names == ["id", "customer", "amount", *REJECT]
    assert found.inputs["all"].names == ["order_no", "amount", "id", "customer"]
    assert list(found.outputs["large"]) == ["review", "direct", "rejected"]
    assert list(found.named_inputs["all"]) == [""]


def test_an_unknown_column_is_a_problem_of_the_node_and_does_not_end_the_check(project: Path) -> None:
    said = told(
        project,
        "  kept: {type: filter, from: orders, where: amont > 1}\n"
        "  shaped: {type: map, from: orders, fields: {a: nonsense + 1}}\n"
        "  done: {type: end, from: [kept, shaped]}\n",
    )

    assert len(said) == 2
    assert said[0].startswith('flow.yaml:6: node "kept": ')
    assert "amont" in said[0]
    assert said[1].startswith('flow.yaml:7: node "shaped": ')


def test_every_rule_over_the_whole_flow_is_told(project: Path) -> None:
    said = told(
        project,
        "  idle: {type: sqlite.get, from: start, connection: shop, table: orders, key: [id]}\n"
        "  large: {type: decide, from: orders, when: {review: amount > 1}, otherwise: direct}\n"
        "  shaped: {type: map, from: large.direct, keep: none, fields: {order_no: id::varchar}}\n"
        "  erp: {type: sqlite.post, from: shaped, connection: erp, table: review, mode: upsert, key: [order_no]}\n"
        "  again: {type: sqlite.post, from: shaped, connection: erp, table: Review, mode: upsert, key: [order_no]}\n"
        "  lost: {type: end, from: orders, in: mars}\n"
        "  gone: {type: sqlite.get, from: start, connection: shp, table: orders, key: [id]}\n"
        "  kept: {type: filter, from: gone, where: id > 1}\n"
        "tests:\n"
        "  - {name: odd, given: {ordrs: [], large: []}, then: {large.reviw: [], orders: []}, parameters: {mst: 1}}\n"
        "  - {name: empty}\n",
    )

    assert said == [
        'flow.yaml:6: node "idle": nothing takes its records; let a node take from it, such as `end: {type: end, from: idle}`',
        'flow.yaml:7: node "large": nothing takes the records of its port "review"',
        f'flow.yaml:10: node "again": it writes where "erp" writes: sqlite:{project}/erp.db#review; '
        "merge them into one post, or give each its own place",
        'flow.yaml:11: node "lost": no environment is called "mars"; there are: local, plant',
        "flow.yaml:12: node \"gone\": no connection is called 'shp' in environment local; there are: erp, shop; "
        'did you mean "shop"?',
        'flow.yaml:13: node "kept": nothing takes its records; let a node take from it, such as `end: {type: end, from: kept}`',
        'flow.yaml:15: test "odd": no node is called "ordrs"; did you mean "orders"?',
        'flow.yaml:15: test "odd": "large" is of type decide, which reads nothing; those that read are: orders, idle, gone',
        'flow.yaml:15: test "odd": "large" has no port "reviw"; did you mean "review"?',
        'flow.yaml:15: test "odd": no parameter is called "mst"; did you mean "most"?',
        'flow.yaml:16: test "empty": it expects nothing; say under `then` what arrives where',
    ]


def test_a_node_in_another_environment_sees_its_connections(project: Path) -> None:
    found = checked(
        project,
        "  parts: {type: sqlite.get, from: start, connection: store, table: parts, key: [part], in: plant}\n"
        "  done: {type: end, from: [parts, orders.rejected]}\n  rest: {type: end, from: orders}\n",
    )

    assert found.problems == ()
    assert found.outputs["parts"]["out"].names == ["part"]


def test_a_parameter_is_of_its_type_and_so_is_its_default(project: Path) -> None:
    text = HEAD.replace(
        '{most: {type: "decimal(10,2)", default: 100}}', "{a: {type: integr}, b: {type: integer, default: x}}"
    )
    (project / "flow.yaml").write_text(text + "  done: {type: end, from: orders}\n")

    found = check_file(project / "flow.yaml", Scope(project, load_environment(project)))

    assert [(problem.line, problem.what) for problem in found.problems] == [
        (2, "parameter \"a\": 'integr' is no DuckDB type, such as integer, decimal(18,2) or timestamp"),
        (2, "parameter \"b\": 'x' is no integer"),
    ]


def test_what_is_set_takes_the_place_of_a_default(project: Path) -> None:
    nodes = "  kept: {type: filter, from: orders, where: customer = $most}\n  done: {type: end, from: kept}\n"
    flow = parse(HEAD + nodes)

    found = check(flow, Scope(project, load_environment(project), values={"most": "text"}))

    assert found.problems == ()


def test_a_disabled_node_warns_those_who_wait_for_it(project: Path) -> None:
    found = checked(
        project,
        "  kept: {type: filter, from: orders, where: amont > 1, disabled: true}\n  done: {type: end, from: [kept, orders]}\n",
    )

    assert found.faults == ()
    assert [problem.line for problem in found.problems] == [6, 7]
    assert 'takes from "kept", which is disabled: nothing will come' in str(found.problems[1])


def test_inputs_that_have_no_common_type_are_told_where_they_meet(project: Path) -> None:
    (said,) = told(
        project,
        "  shaped: {type: map, from: orders, keep: none, fields: {amount: customer}}\n"
        "  all: {type: merge, from: [shaped, orders], by_name: true}\n  done: {type: end, from: all}\n",
    )

    assert said.startswith("flow.yaml:7: node \"all\": column 'amount' is string in one input and double in another")


def test_the_label_is_the_weakest_and_names_what_the_next_run_repeats(project: Path) -> None:
    found = checked(
        project,
        "  whole: {type: sqlite.get, from: start, connection: shop, table: orders, key: [id]}\n"
        "  shaped: {type: map, from: [orders, whole], keep: none, fields: {order_no: id::varchar}}\n"
        "  erp: {type: sqlite.post, from: shaped, connection: erp, table: review, mode: append}\n",
    )

    report = found.delivery_report()
    assert found.faults == ()
    assert report["label"] == "effectively once"
    assert (
        report["reasons"][-1] == "erp: appends, and whole reads everything in each run, so the next run adds it again"
    )
    assert set(report["posts"]) == {"erp"}


def test_a_secret_without_a_value_is_a_warning_that_says_where_to_put_it(project: Path) -> None:
    flow = parse(HEAD + "  done: {type: end, from: orders}\n")
    shop = Remote(adapter="remote", password=Secret(secret="NOWHERE_SET"), headers={"key": Secret(secret="NOR_HERE")})
    environment = Environment.model_construct(name="local", connections={"shop": shop})

    found = list(missing_secrets(Whole(flow, {None: Scope(project, environment)}, Place())))

    assert [problem.warning for problem in found] == [True, True]
    assert str(found[0]).startswith(
        'node "orders": the secret "NOWHERE_SET" has no value here; set the environment variable NOWHERE_SET'
    )
    assert "NOR_HERE" in str(found[1])


def test_unused_ports_are_warnings_and_unused_gets_are_not(project: Path) -> None:
    found = checked(
        project,
        "  large: {type: decide, from: orders, when: {review: amount > 1}, otherwise: direct}\n"
        "  done: {type: end, from: large.direct}\n"
        "  idle: {type: sqlite.get, from: start, connection: shop, table: orders, key: [id]}\n",
    )

    assert [(problem.line, problem.warning) for problem in found.problems] == [(6, True), (8, False)]


def test_a_flow_without_posts_delivers_nothing(project: Path) -> None:
    assert checked(project, "  done: {type: end, from: orders}\n").delivery.label == "delivers nothing"


def test_a_broken_node_leaves_the_others_checked(project: Path) -> None:
    said = told(
        project,
        "  odd: {type: mapp, from: orders}\n  kept: {type: filter, from: odd, where: a > 1}\n"
        "  cut: {type: filter, from: orders, where: nothere > 1}\n",
    )

    assert len(said) == 2
    assert said[0] == 'flow.yaml:6: node "odd": no node type is called "mapp"; did you mean "map"?'
    assert said[1].startswith('flow.yaml:8: node "cut": ')


def test_text_that_is_no_yaml_is_a_problem_of_the_check(project: Path) -> None:
    (said,) = told(project, "  e: {type: end\n")

    assert said.startswith("flow.yaml:6: not YAML: a `{` is not closed")


def test_checking_does_not_import_beam() -> None:
    script = (
        "import sys; from pipelines.flowfile import parse; from pipelines.check import check; from pipelines.scope import Scope; "
        "from pathlib import Path; check(parse('flow: f\\nnodes: {start: {type: start}}'), Scope(Path())); "
        "print([name for name in sys.modules if name.split('.')[0] in ('apache_beam', 'great_expectations', 'sqlalchemy')])"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ}
    )

    assert done.stdout.strip() == "[]"
