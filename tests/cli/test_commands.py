"""Every command, run as a child process in the project that `init` makes: what it prints, its JSON, its exit code."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.agent.projects import COMMAND, processflow

REPORT_KEYS = {
    "run",
    "flow",
    "version",
    "status",
    "balanced",
    "seconds",
    "delivery",
    "nodes",
    "environment",
    "trigger",
    "started",
    "ended",
    "parameters",
    "error",
}
NODE_KEYS = {"type", "status", "in", "created", "out", "filtered", "rejected", "delivered", "seconds"}


def answered(folder: Path, *words: str, code: int = 0) -> str:
    """What a command prints, which must end with `code` and, where that is 0, say nothing on the side."""
    done = processflow(folder, *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if code == 0:
        assert done.stderr == ""
    return done.stdout


def document(folder: Path, *words: str, code: int = 0) -> Any:
    return json.loads(answered(folder, *words, "--json", code=code))


def first_report(ran: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ran / "report.json").read_text(encoding="utf-8"))
    return found


def test_what_init_makes_is_checked_and_tested_at_once(project: Path) -> None:
    checked = answered(project, "check")
    tested = answered(project, "test")

    assert checked == "1 flow: no problems\n"
    assert tested.splitlines()[-1] == "1 passed, 0 failed"
    assert not (project / "out").exists()


def test_init_leaves_a_folder_that_has_something_in_it_alone(project: Path) -> None:
    before = sorted(path for path in project.rglob("*") if path.is_file())

    done = processflow(project.parent, "init", "shop")

    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert sorted(path for path in project.rglob("*") if path.is_file()) == before


def test_the_report_of_a_run_has_the_keys_that_programs_lean_on(ran: Path) -> None:
    report = first_report(ran)

    assert set(report) >= REPORT_KEYS
    assert all(set(node) >= NODE_KEYS for node in report["nodes"].values())
    assert (report["status"], report["balanced"], report["error"]) == ("done_with_rejects", True, None)
    assert {name: (node["in"], node["out"], node["rejected"]) for name, node in report["nodes"].items()} == {
        "orders": (5, {"out": 4}, 1),
        "checked": (4, {"out": 3}, 1),
        "shaped": (3, {"out": 3}, 0),
        "large": (3, {"out": 2}, 0),
        "written": (2, {"out": 2}, 0),
    }
    assert report["nodes"]["written"]["delivered"] == 2
    assert set(report["delivery"]) == {"label", "reasons", "posts"}


def test_a_person_sees_the_ledger_the_label_and_why_records_were_rejected(ran: Path) -> None:
    shown = answered(ran, "runs", "show", "last")

    assert re.search(r"^welcome [0-9a-f]+ in local, started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", shown, re.MULTILINE)
    assert re.search(r"^node +type +in +out +filtered +rejected +delivered +seconds$", shown, re.MULTILINE)
    assert re.search(r"^large +filter +3 +2 +1 +\d", shown, re.MULTILINE)
    assert re.search(r"^written +file\.post +2 +2 +2 +\d", shown, re.MULTILINE)
    assert "done with rejects, balanced, " in shown
    assert "delivery: effectively once\n  written: the finished file is renamed" in shown
    assert "rejected: 2 records\n  checked  1  email: is null, must not be" in shown
    assert "  orders   1  data/orders.csv line 5: column 'quantity': 'three' is no INTEGER\n" in shown


def test_the_query_that_a_run_points_to_is_one_that_answers(ran: Path) -> None:
    shown = answered(ran, "runs", "show", "last")
    query = shown.split('processflow query "')[1].split('"\n')[0]

    found = json.loads(answered(ran, "query", query, "--format", "json"))

    assert {(row["node"], row["code"]) for row in found} == {("orders", "type"), ("checked", "validation")}
    assert all(row["payload"] for row in found)


def test_runs_are_listed_with_the_clock_on_the_wall_and_their_counts(ran: Path) -> None:
    listed = answered(ran, "runs").splitlines()
    one = document(ran, "runs")

    assert listed[0].split() == ["run", "flow", "status", "started", "seconds", "delivered", "rejected"]
    assert re.fullmatch(
        r"\d{8}-\d{6}-[0-9a-f]{4}  welcome  done with rejects  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d +[\d.]+ +2 +2", listed[1]
    )
    assert {"run", "flow", "version", "status", "started", "seconds", "error"} <= set(one[0])
    assert one[0]["run"] == first_report(ran)["run"]


def test_runs_show_gives_programs_the_report_that_the_run_gave(ran: Path) -> None:
    report = first_report(ran)

    assert document(ran, "runs", "show", report["run"]) == report
    assert document(ran, "runs", "show", report["run"][:-1]) == report


def test_without_a_run_the_list_says_how_to_get_one(project: Path) -> None:
    assert answered(project, "runs") == "no run yet; start one with: processflow run FLOW\n"
    assert document(project, "runs") == []


def test_a_query_answers_over_what_left_each_node(ran: Path) -> None:
    csv = answered(ran, "query", "SELECT order_no, total FROM welcome.shaped ORDER BY 1", "--format", "csv")
    table = answered(ran, "query", "SELECT count(*) AS n FROM records")

    assert csv == "order_no,total\nWEB-1001,39.80\nWEB-1002,245.00\nWEB-1005,399.96\n"
    assert table.splitlines()[0] == " n" or table.splitlines()[0] == "n"


def test_preview_shows_records_anywhere_and_sends_and_logs_nothing(project: Path) -> None:
    out = document(project, "preview", "welcome", "written")
    rejected = document(project, "preview", "welcome", "checked.rejected")
    shown = answered(project, "preview", "welcome", "orders", "--rows", "2")

    assert out == [
        {"order_no": "WEB-1002", "email": "bob@example.org", "total": "245.00"},
        {"order_no": "WEB-1005", "email": "emil@example.org", "total": "399.96"},
    ]
    assert [(row["order_id"], row["reject_code"]) for row in rejected] == [(1003, "validation")]
    assert shown.splitlines() == [
        "order_id  email            quantity  unit_price",
        "    1001  Ann@example.org         2       19.90",
        "    1002  bob@example.org        10       24.50",
        "2 records",
    ]
    assert not (project / "out").exists()
    assert not (project / ".processflow" / "lake").exists()
    assert document(project, "runs") == []


def test_a_test_that_does_not_hold_says_what_came_instead(project: Path) -> None:
    flow = project / "flows" / "welcome.yaml"
    flow.write_text(flow.read_text().replace("total: 500.00}]", "total: 499.00}]"))

    shown = answered(project, "test", code=1)
    told = document(project, "test", code=1)

    assert shown.splitlines()[0] == "FAILED  welcome: a small order is not written"
    assert "written: {order_no: WEB-2, email: bob@example.org, total: 499.0} did not come" in shown
    assert shown.splitlines()[-1] == "0 passed, 1 failed"
    assert [(one["flow"], one["test"], one["passed"]) for one in told] == [
        ("welcome", "a small order is not written", False)
    ]


def test_a_flow_with_problems_fails_the_tests_and_lets_the_others_run(project: Path) -> None:
    (project / "flows" / "broken.yaml").write_text("flow: broken\nnodes: [")

    shown = answered(project, "test", code=2)

    assert "FAILED  broken: its flow has problems" in shown
    assert "passed  welcome: a small order is not written" in shown
    assert shown.splitlines()[-1] == "1 passed, 1 failed"


def test_check_gives_programs_each_problem_with_its_place_and_its_fix(project: Path) -> None:
    flow = project / "flows" / "welcome.yaml"
    flow.write_text(flow.read_text().replace("where: total >=", "where: totl >="))

    (problem,) = document(project, "check", code=2)
    shown = answered(project, "check", code=2)

    assert set(problem) == {"path", "line", "column", "what", "fix", "warning", "at"}
    assert (problem["path"], problem["line"]) == ("flows/welcome.yaml", 10)
    assert problem["fix"] == 'did you mean "total"?'
    assert shown == (
        'flows/welcome.yaml:10: node "large": expression \'totl >= $least\': no column "totl"; '
        'did you mean "total"?\n1 flow: 1 problem\n'
    )


def test_a_warning_has_its_place_first_and_fails_nothing(project: Path) -> None:
    flow = project / "flows" / "welcome.yaml"
    flow.write_text(flow.read_text().replace("where: total >= $least}", "where: total >= $least, disabled: true}"))

    shown = answered(project, "check")

    assert 'flows/welcome.yaml:11: warning: node "written": takes from "large", which is disabled' in shown
    assert all(line.startswith("flows/welcome.yaml:") for line in shown.splitlines()[:-1])
    assert shown.endswith("1 flow: no problems, 2 warnings\n")


def test_explain_tells_phases_what_is_read_and_what_is_promised(project: Path) -> None:
    shown = answered(project, "explain", "welcome")
    told = document(project, "explain", "welcome")

    assert "phase 1 of 1: one pass over each batch, 5 nodes" in shown
    assert "reads columns order_id, email, quantity, unit_price" in shown
    assert "delivery: effectively once" in shown
    assert set(told) == {"flow", "version", "delivery", "phases"}
    assert [node["node"] for node in told["phases"][0]] == ["orders", "checked", "shaped", "large", "written"]


def test_node_types_are_listed_described_and_laid_down_in_a_schema(project: Path) -> None:
    listed = document(project, "nodes")
    page = answered(project, "nodes", "show", "file.get")
    schema = json.loads(answered(project, "nodes", "schema"))

    types = {node["type"] for node in listed}
    assert {"start", "map", "filter", "decide", "merge", "validate", "end", "file.get", "sqlite.post"} <= types
    assert all(node["does"].endswith(".") for node in listed)
    assert page.startswith("# file.get\n")
    assert {"flow", "nodes", "tests"} <= set(schema["properties"])


def test_connections_are_listed_and_tested_without_telling_their_secrets(project: Path) -> None:
    with closing(sqlite3.connect(project / "shop.db")) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER)")
    (project / "environments" / "local.yaml").write_text(
        "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db}\n"
    )

    listed = document(project, "connections", "list")
    reached = answered(project, "connections", "test", "shop")
    unknown = processflow(project, "connections", "test", "shopp")

    assert listed == [{"connection": "shop", "adapter": "sqlite"}]
    assert reached.startswith("shop: SQLite database shop.db")
    assert unknown.returncode == 2
    assert unknown.stderr == "no connection is called 'shopp' in environment local; there are: shop\n"


def test_doctor_finds_this_machine_well_and_says_what_it_looked_at(project: Path) -> None:
    found = document(project, "doctor")

    assert {"Python", "apache-beam", "duckdb", "disk"} <= {finding["what"] for finding in found}
    assert all(finding["well"] for finding in found)


def test_an_answer_that_nobody_reads_to_its_end_ends_in_silence(project: Path) -> None:
    child = subprocess.Popen(
        [COMMAND, "nodes", "schema"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stderr is not None

    child.stdout.close()
    child.wait(60)

    assert child.stderr.read() == ""
    child.stderr.close()
