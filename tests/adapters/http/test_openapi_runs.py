"""`connections import openapi`: what it writes for the test shop is run against that shop."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.language import yamltext
from repository.project import Project
from tests.adapters.http.openapi_documents import saved, shop_document
from tests.agent.projects import processflow, project, run_here
from tests.parts.shop_api import Shop

TOKEN = "it-is-a-canary-4711"
GETS = ("by-page", "by-offset", "by-cursor", "changes")


@pytest.fixture
def made(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project into which the shop's document was imported."""
    monkeypatch.setenv("WEB_TOKEN", TOKEN)
    one = project(tmp_path, "flow: none\nnodes:\n  start: {type: start}\n")
    done = processflow(tmp_path, "connections", "import", "openapi", str(saved(tmp_path, shop_document())), "--name", "web",
                       "--url", shop.url)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return one


def nodes(made: Project) -> dict[str, Any]:
    text = (made.folder / "templates/web.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yamltext.parse(text).value["nodes"]
    return found


def flow(made: Project, name: str, wanted: dict[str, Any]) -> None:
    text = json.dumps({"flow": name, "nodes": {"start": {"type": "start"}, **wanted}})
    (made.folder / f"flows/{name}.yaml").write_text(text, encoding="utf-8")


def test_the_connection_answers_with_its_token(made: Project, shop: Shop) -> None:
    done = processflow(made.folder, "connections", "test", "web")

    assert (done.returncode, done.stderr) == (0, "")
    assert shop.seen[-1].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("name", GETS)
def test_each_get_reads_all_orders_with_the_types_of_the_document(made: Project, name: str) -> None:
    written = {"type": "file.post", "from": name, "path": "read.jsonl", "mode": "replace"}
    flow(made, "reads", {name: nodes(made)[name], "written": written})

    report = run_here(made, "reads")

    assert (report["status"], report["balanced"]) == ("done", True)
    rows = [json.loads(line) for line in (made.folder / "read.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == list(range(1, 26))
    assert (rows[0]["total"], rows[1]["paid"], rows[1]["customer"]) == (1.25, True, "C2")


def test_orders_are_held_to_the_document_then_created_changed_fetched_and_deleted(made: Project, shop: Shop) -> None:
    text = "order_no,total,note\nW1,1.5,a\nW2,two,b\nW3,,c\nW4,4,\n"
    (made.folder / "orders.csv").write_text(text, encoding="utf-8")
    all_nodes = nodes(made)
    orders = {"type": "file.get", "from": "start", "path": "orders.csv",
              "columns": {"order_no": "VARCHAR", "total": "VARCHAR", "note": "VARCHAR"}}  # fmt: skip
    made_nodes = {name: all_nodes[name] for name in ("create-checked", "create")}
    flow(made, "creates", {"records": orders, **made_nodes})
    flow(made, "puts", {"records": orders, **{name: all_nodes[name] for name in ("put-checked", "put")}})
    flow(made, "deletes", {"records": orders, **{name: all_nodes[name] for name in ("delete-checked", "delete")}})

    created = run_here(made, "creates")
    put = run_here(made, "puts")
    taken = dict(shop.taken)
    deleted = run_here(made, "deletes")

    assert (created["nodes"]["create"]["delivered"], created["nodes"]["create-checked"]["rejected"]) == (2, 2)
    assert put["nodes"]["put"]["delivered"] == 2
    assert {name: order["total"] for name, order in taken.items()} == {"W1": 1.5, "W4": 4.0}
    assert deleted["nodes"]["delete"]["delivered"] == 4
    assert not shop.taken


def test_lists_are_sent_as_the_document_says(made: Project, shop: Shop) -> None:
    (made.folder / "orders.csv").write_text("order_no,total\nW1,1.5\nW2,2\nW3,3\n", encoding="utf-8")
    orders = {
        "type": "file.get",
        "from": "start",
        "path": "orders.csv",
        "columns": {"order_no": "VARCHAR", "total": "DOUBLE"},
    }
    bulk = nodes(made)["bulk"] | {"from": "records"}
    flow(made, "lists", {"records": orders, "bulk": bulk})

    report = run_here(made, "lists")

    assert report["nodes"]["bulk"]["delivered"] == 3
    assert sorted(shop.taken) == ["W1", "W2", "W3"]
    assert len(shop.asked("/orders/bulk")) == 1


def test_one_order_is_fetched_for_each_record(made: Project) -> None:
    (made.folder / "numbers.csv").write_text("order_no\n3\n99\n5\n", encoding="utf-8")
    numbers = {"type": "file.get", "from": "start", "path": "numbers.csv"}
    written = {"type": "file.post", "from": "one", "path": "read.csv", "mode": "replace"}
    flow(made, "fetches", {"records": numbers, "one": nodes(made)["one"], "written": written})

    report = run_here(made, "fetches")

    assert report["nodes"]["one"]["filtered"] == 1
    with (made.folder / "read.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["order_no"], row["id"]) for row in csv.DictReader(file)] == [("3", "3"), ("5", "5")]


def test_an_import_keeps_what_people_wrote(made: Project, shop: Shop) -> None:
    place = made.folder / "environments/local.yaml"
    place.write_text(place.read_text(encoding="utf-8") + "# ours\nvariables: {country: DE}\n", encoding="utf-8")
    (made.folder / "templates/mine.yaml").write_text("nodes: {}\n", encoding="utf-8")
    before = place.read_text(encoding="utf-8")
    file = str(made.folder / "openapi.json")

    again = processflow(
        made.folder, "connections", "import", "openapi", file, "--name", "web", "--url", "http://other.example"
    )
    after = place.read_text(encoding="utf-8")
    other = processflow(made.folder, "connections", "import", "openapi", file, "--url", shop.url, "--json")
    mine = processflow(made.folder, "connections", "import", "openapi", file, "--name", "mine", "--url", shop.url)

    assert again.returncode == 0
    assert "connection web: was there already" in again.stdout
    assert after == before
    assert json.loads(other.stdout)["connection"] == "test-shop"
    assert before.splitlines()[-2:] == place.read_text(encoding="utf-8").splitlines()[-2:]
    assert (mine.returncode, "was not made by this command" in mine.stderr) == (2, True)
    assert not any(TOKEN in path.read_text(encoding="utf-8") for path in made.folder.glob("*/*.yaml"))
