"""Lookups in live systems: held to the contract, asked once a key, told when they are away, the same after a kill."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adapters import http, sqlite
from agent.dry import preview, run_tests
from agent.prepare import Request, check_flow
from agent.recording import Recording, record
from pipelines.conformance import TransformConformance
from pipelines.conformance.nodes import Reported
from pipelines.environment import Environment
from pipelines.errors import Cancelled, Invalid, Unavailable
from pipelines.node import Example, Outcome
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.answers import Answer, Answers
from repository.query import rows as query
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, project, run_here
from tests.parts.shop_api import Shop, answer, serving
from transforms.lookup import Lookup

SCHEMA = pa.schema([("n", pa.int64()), ("customer_id", pa.int64())])
CUSTOMERS = "CREATE TABLE customers (id INTEGER, name TEXT, country TEXT)"
ADA, BO, TWIN, OTHER = (7, "Ada", "DE"), (8, "Bo", "CH"), (9, "Cy", "FR"), (9, "Di", "FR")


def filled(path: Path, *rows: tuple[Any, ...]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(CUSTOMERS)
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?)", rows)


def changed(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


@pytest.fixture
def shop() -> Iterator[Shop]:
    with serving(3) as found:
        yield found
        http.loop.run(http.client.close_all())


class TestLookup(TransformConformance):
    node = Lookup

    @pytest.fixture(autouse=True)
    def _shops(self) -> Iterator[None]:
        with ExitStack() as self.opened:
            yield
            http.loop.run(http.client.close_all())

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = super().prepare(project, example)
        filled(project / "shop.sqlite", ADA, BO)
        connections: dict[str, Any] = {"shop": sqlite.Connection(adapter="sqlite", path="shop.sqlite")}
        if example.config.get("connection") == "erp":
            connections["erp"] = http.Connection(adapter="http", url=self.opened.enter_context(serving(3)).url)
        return replace(scope, environment=Environment(connections=connections))


class Desk:
    """Lookups in one database of customers, as a worker's thread sees them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.sqlite"
        filled(self.path, ADA, BO, TWIN, OTHER)
        connections = {"shop": sqlite.Connection(adapter="sqlite", path="shop.sqlite", lock_seconds=0.01)}
        self.scope = Scope(folder, Environment(connections=connections))
        self.sandbox = Sandbox()

    def opened(self, **config: Any) -> Any:
        node = Lookup(**{"connection": "shop", "table": "customers", "on": {"customer_id": "id"}, **config})
        return node.open(SCHEMA, self.scope, self.sandbox)

    def problems(self, schema: pa.Schema = SCHEMA, **config: Any) -> list[str]:
        report = Reported()
        Lookup(**{"connection": "shop", "on": {"customer_id": "id"}, **config}).check({"": schema}, self.scope, report)
        return list(report)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.sandbox.close()


def batch(*customers: int | None) -> pa.RecordBatch:
    rows = [{"n": number, "customer_id": customer} for number, customer in enumerate(customers)]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def names(outcome: Outcome, column: str = "name") -> list[Any]:
    found: list[Any] = outcome.out["out"].batch.column(column).to_pylist()
    return found


def test_an_answer_holds_for_its_time_for_all_threads_and_no_longer(desk: Desk) -> None:
    first, other = desk.opened(cache_seconds=60.0), desk.opened(cache_seconds=60.0)
    anew = desk.opened(cache_seconds=0.0)

    before = [names(step(batch(7, 77))) for step in (first, anew)]
    changed(desk.path, "UPDATE customers SET name = 'Eve' WHERE id = 7")
    changed(desk.path, "INSERT INTO customers VALUES (77, 'New', 'AT')")
    after = [names(step(batch(77, 7))) for step in (first, other, anew)]

    assert before == [["Ada", None]] * 2
    assert after == [[None, "Ada"], [None, "Ada"], ["New", "Eve"]]


def test_a_key_is_asked_for_once_however_many_records_have_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    real = sqlite.Get.find

    def find(self: sqlite.Get, keys: pa.RecordBatch, *rest: Any) -> Any:
        asked.append(keys.column(0).to_pylist())
        return real(self, keys, *rest)

    monkeypatch.setattr(sqlite.Get, "find", find)
    step = desk.opened()

    found = [names(step(batch(7, 8, 7, None, 7))), names(step(batch(8, 8, 70))), names(step(batch(70)))]

    assert found == [["Ada", "Bo", "Ada", None, "Ada"], ["Bo", "Bo", None], [None]]
    assert asked == [[7, 8], [70]]


def test_a_key_with_several_records_is_rejected_or_takes_the_first(desk: Desk) -> None:
    refused = desk.opened()(batch(9, 7))
    first = desk.opened(duplicates="first")(batch(9, 7))

    assert names(refused) == ["Ada"]
    assert refused.rejects is not None
    assert list(refused.rejects.codes) == ["ambiguous"]
    assert list(refused.rejects.messages) == ["shop.customers has several records with customer_id = 9"]
    assert names(first)[0] in ("Cy", "Di")


def test_who_is_not_there_goes_where_the_node_says(desk: Desk) -> None:
    by_null, by_reject, by_port = (
        desk.opened(missing=missing)(batch(7, 70, None)) for missing in ("null", "reject", "port")
    )

    assert names(by_null) == ["Ada", None, None]
    assert by_reject.rejects is not None
    assert by_reject.rejects.rows.to_pylist() == [1, 2]
    assert list(by_reject.rejects.messages) == [
        "shop.customers has no record with customer_id = 70",
        "shop.customers has no record with customer_id = null",
    ]
    assert by_port.out["missing"].batch.to_pylist() == batch(7, 70, None).to_pylist()[1:]


def test_a_lookup_that_takes_nothing_tells_who_is_there(desk: Desk) -> None:
    outcome = desk.opened(take=[], missing="reject")(batch(7, 70, 8))

    assert outcome.out["out"].batch.to_pylist() == [{"n": 0, "customer_id": 7}, {"n": 2, "customer_id": 8}]


def test_a_system_that_is_away_is_asked_again_and_then_unavailable(desk: Desk) -> None:
    step = desk.opened()
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable):
            step(batch(7))
        other.execute("ROLLBACK")

    assert names(step(batch(7))) == ["Ada"]


def test_a_search_ends_when_somebody_wants_the_run_to_stop(desk: Desk) -> None:
    step = desk.opened()
    step.end_call()

    with pytest.raises(Cancelled):
        step(batch(7))


def test_what_is_wrong_with_a_lookup_is_told_at_its_field(desk: Desk) -> None:
    text = pa.schema([("customer_id", pa.string())])

    assert desk.problems(table="customer") == ["table: there is no table 'customer'; did you mean 'customers'?"]
    assert desk.problems(table="customers", take=["nam"]) == [
        "take.0: shop.customers has no column 'nam'; did you mean 'name'?"
    ]
    assert desk.problems(table="customers", on={"customer": "id"}) == [
        "on.customer: no column 'customer' comes in; did you mean 'customer_id'?"
    ]
    assert desk.problems(table="customers", get={"where": "nothing = 1"})[0].startswith("get.where: ")
    assert desk.problems(table="customers", get={"paht": 1}) == [
        "get.paht: sqlite.get: paht: Extra inputs are not permitted; see `processflow nodes show sqlite.get`"
    ]
    assert "customer_id" in desk.problems(text, table="customers")[0]
    assert desk.problems(table="customers", connection="shp")[0].startswith(": no connection is called 'shp'")
    for config in ({"table": "t", "query": "q"}, {"get": {"table": "t"}}, {"connection": None, "query": "q"}):
        with pytest.raises(ValueError, match=r"lookup|get"):
            Lookup(**{"connection": "shop", "on": "id", **config})


def test_an_api_is_asked_for_each_key_and_refuses_only_its_own(tmp_path: Path, shop: Shop) -> None:
    connection = http.Connection(
        adapter="http", url=shop.url, retry=http.connection.Retry(attempts=2, first_seconds=0.001)
    )
    scope = Scope(tmp_path, Environment(connections={"erp": connection}))
    node = Lookup(
        connection="erp",
        get={"path": "/orders/{customer_id}", "records": "@"},
        columns={"total": "DECIMAL(9,2)"},
        on="customer_id",
    )
    shop.script("/orders/3", answer(403, '{"detail": "not for you"}'))
    sandbox = Sandbox()

    outcome = node.open(SCHEMA, scope, sandbox)(batch(1, 2, 1, 3, 99, 3, None))

    assert [str(total) for total in names(outcome, "total")] == ["1.25", "2.50", "1.25", "None", "None"]
    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [3, 5]
    assert set(outcome.rejects.codes) == {"refused"}
    assert "not for you" in outcome.rejects.messages[0]
    assert sorted(seen.path for seen in shop.seen) == ["/orders/1", "/orders/2", "/orders/3", "/orders/99"]
    report = Reported()
    node.model_copy(update={"get": {"path": "/orders"}}).check({"": SCHEMA}, scope, report)
    assert report == ["on: {customer_id} stands neither in `path` nor in `query` or `body`; ask for it there"]


def test_an_api_is_asked_for_many_keys_in_turns_between_which_a_run_can_stop(tmp_path: Path, shop: Shop) -> None:
    scope = Scope(tmp_path, Environment(connections={"erp": http.Connection(adapter="http", url=shop.url)}))
    get = http.Get(connection="erp", path="/orders/{id}", records="@", columns={"total": "DECIMAL(9,2)"})
    keys = pa.record_batch({"id": pa.array([*range(1_000, 1_510), 2, 1], pa.int64())})
    turns: list[int] = []
    sandbox = Sandbox()

    hits = get.find(keys, {"id": "id"}, ["total"], scope, sandbox, lambda: turns.append(len(shop.seen)))

    assert hits.keys.to_pylist() == [510, 511]
    assert [str(total) for total in hits.batch.column(0).to_pylist()] == ["2.50", "1.25"]
    assert turns == [0, 500]


def test_the_memory_of_answers_is_bounded_and_gives_up_the_oldest() -> None:
    now = [0.0]
    sandbox = Sandbox()
    answers = Answers(10.0, 50, 1 << 20, lambda: now[0])

    def keys(*numbers: int) -> pa.RecordBatch:
        return pa.record_batch({"k": pa.array(numbers, pa.int64())})

    def known(*numbers: int) -> dict[int, int]:
        parts = answers.known(keys(*numbers), sandbox)
        return {
            numbers[row]: value
            for rows, found in parts
            for row, value in zip(rows, found.records.column(0).to_pylist(), strict=True)
        }

    for number in range(100):
        answer = Answer(np.ones(1, np.int64), pa.record_batch({"v": pa.array([number * number])}))
        answers.keep(keys(number), answer, now[0], sandbox)
        now[0] += 0.1
    assert len(answers) <= 50
    assert known(99, 98, 0) == {99: 99 * 99, 98: 98 * 98}
    now[0] += 8.0
    assert known(99) == {99: 99 * 99}
    now[0] += 8.0
    assert known(*range(100)) == {}
    sandbox.close()


FLOW = """flow: kept
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, split_bytes: 4000, once: true, columns: {n: bigint, customer_id: bigint}}
  known: {type: lookup, from: orders, connection: shop, table: customers, on: {customer_id: id}, take: [name], missing: port}
  named: {type: sqlite.post, from: known, connection: kept, table: named, mode: append, key: [n]}
  unknown: {type: file.post, from: known.missing, path: unknown.csv}
tests:
  - name: who is known is named
    given: {orders: [{n: 1, customer_id: 5}, {n: 2, customer_id: 6}], known: [{id: 5, name: Five}]}
    then: {named: [{n: 1, name: Five}], unknown: [{n: 2}]}
"""
LOCAL = (
    "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.sqlite}\n"
    "  kept: {adapter: sqlite, path: kept.sqlite}\n"
)
ORDERS = 4_000


def world(folder: Path) -> Any:
    lines = [f"{number},{number % 50}" for number in range(ORDERS)]
    orders = "\n".join(["n,customer_id", *lines]) + "\n"
    filled(folder / "shop.sqlite", *((number, f"customer {number}", "DE") for number in range(40)))
    return project(folder, FLOW, {"environments/local.yaml": LOCAL, "orders.csv": orders})


def named(folder: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(folder / "kept.sqlite")) as connection:
        return connection.execute("SELECT n, name FROM named ORDER BY n").fetchall()


def test_a_run_looks_each_record_up_and_its_ledger_balances(tmp_path: Path) -> None:
    made = world(tmp_path)

    done = run_here(made, "kept")

    assert (done["status"], done["balanced"]) == ("done", True)
    assert done["nodes"]["known"]["out"] == {"out": ORDERS * 4 // 5, "missing": ORDERS // 5}
    assert named(tmp_path) == [(n, f"customer {n % 50}") for n in range(ORDERS) if n % 50 < 40]
    assert query(made.lake, 'SELECT count(*) AS n FROM "kept"."known.missing"') == [{"n": ORDERS // 5}]


def test_a_run_that_is_killed_while_it_looks_up_goes_on_and_delivers_each_once(tmp_path: Path) -> None:
    made = world(tmp_path)

    assert killed_at(tmp_path, "kept", "pipelines.tables.live:Live.__call__", "before", 4)
    done = run_here(made, "kept")

    assert (done["status"], done["balanced"]) == ("done", True)
    assert named(tmp_path) == [(n, f"customer {n % 50}") for n in range(ORDERS) if n % 50 < 40]
    assert leftovers(made) == []


def test_a_test_of_a_flow_gives_what_is_there_and_asks_nobody(tmp_path: Path) -> None:
    made = world(tmp_path)

    verdicts = list(run_tests(Request(made, "kept")))

    assert [(verdict.passed, verdict.differences) for verdict in verdicts] == [(True, ())]
    assert preview(Request(made, "kept"), "known.missing", 1).to_pylist() == [{"n": 40, "customer_id": 40}]


def test_a_system_that_is_away_fails_the_check_softly_and_the_run_with_3(tmp_path: Path) -> None:
    made = world(tmp_path)
    text = LOCAL.replace("shop.sqlite}", "shop.sqlite, lock_seconds: 0.01}")
    (tmp_path / "environments" / "local.yaml").write_text(text)
    flow = tmp_path / "flows" / "kept.yaml"
    flow.write_text(FLOW.replace("missing: port}", "missing: port, retry: {attempts: 1}}"))
    with closing(sqlite3.connect(tmp_path / "shop.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        warned = check_flow(Request(made, "kept")).checked
        with pytest.raises((Unavailable, Invalid)) as raised:
            run_here(made, "kept")
        other.execute("ROLLBACK")

    assert any("cannot be looked up now" in problem.what for problem in warned.problems)
    assert raised.type is Unavailable


def test_a_run_that_asked_a_live_system_is_no_recorded_test(tmp_path: Path) -> None:
    made = world(tmp_path)
    run_here(made, "kept")

    with pytest.raises(Invalid, match="node 'known' asks a live system"):
        record(Recording(made, "last"))
