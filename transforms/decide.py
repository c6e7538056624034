"""The node type `decide`: routes each record."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.node import Example, Outcome, Piece, Rejects, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluated, Evaluator, Expression, check_expressions, used_columns
from pipelines.sql.faults import Fault, rejects_of
from pipelines.sql.sandbox import Sandbox

NO_BRANCH = "no_branch"
"""The reject code of a record that meets no condition where there is no `otherwise`."""
PORT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Decide(Transform):
    """Sends each record out by the port whose condition is true: the first one, or with `all` every one.

    A condition that is null is not true. Nothing is lost: a record that meets no condition leaves by `otherwise`, and
    without that it is rejected with the code `no_branch`. A record is rejected with the code `expression` where a
    condition that had to be computed for it cannot be.
    """

    when: dict[str, Expression] = Field(min_length=1, examples=[{"review": "total > 10000"}])
    """Conditions by port, tried in this order (DuckDB SQL)."""
    otherwise: str | None = Field(default=None, examples=["direct"])
    """The port for records that meet no condition."""
    all: bool = False
    """Whether a record leaves by every port whose condition is true, as a copy each, instead of by the first."""

    category = "route"
    examples = (
        Example(
            says="Large orders are reviewed, the rest goes straight on.",
            config={"when": {"review": "total > 10000"}, "otherwise": "direct"},
            records=[{"order_no": "WEB-1", "total": 18000}, {"order_no": "WEB-2", "total": 90}],
            gives={
                "review": [{"order_no": "WEB-1", "total": 18000}],
                "direct": [{"order_no": "WEB-2", "total": 90}],
            },
        ),
        Example(
            says="Every topic an order concerns gets a copy.",
            config={"when": {"gift": "is_gift", "abroad": "country <> 'DE'"}, "otherwise": "plain", "all": True},
            records=[
                {"id": 1, "is_gift": True, "country": "FR"},
                {"id": 2, "is_gift": False, "country": "DE"},
                {"id": 3, "is_gift": False, "country": "FR"},
            ],
            gives={
                "gift": [{"id": 1, "is_gift": True, "country": "FR"}],
                "abroad": [{"id": 1, "is_gift": True, "country": "FR"}, {"id": 3, "is_gift": False, "country": "FR"}],
                "plain": [{"id": 2, "is_gift": False, "country": "DE"}],
            },
        ),
        Example(
            says="Without `otherwise`, a record that nobody asked for is set aside, not lost.",
            config={"when": {"b2b": "kind = 'company'", "b2c": "kind = 'person'"}},
            records=[{"id": 1, "kind": "person"}, {"id": 2, "kind": "robot"}],
            gives={
                "b2b": [],
                "b2c": [{"id": 1, "kind": "person"}],
                "rejected": [
                    {
                        "id": 2,
                        "kind": "robot",
                        "reject_code": "no_branch",
                        "reject_message": "no condition of b2b, b2c is true",
                    }
                ],
            },
        ),
    )

    def ports(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.when, *([] if self.otherwise is None else [self.otherwise])]))

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        for port in self.when:
            _check_port(port, ("when", port), report)
        self._check_twins(report)
        if self.otherwise is not None:
            _check_port(self.otherwise, ("otherwise",), report)
            if self.otherwise in self.when:
                report(("otherwise",), f"port {self.otherwise!r} has a condition already", "name a port of its own")
        if schema is not None:
            places: dict[str, tuple[str | int, ...]] = {port: ("when", port) for port in self.when}
            check_expressions(self.when, schema, scope, report, places, conditions=self.when)
        return dict.fromkeys(self.ports(), schema)

    def _check_twins(self, report: Report) -> None:
        """DuckDB, which computes the conditions and answers queries of ports, goes by names without their case."""
        names: dict[str, str] = {}
        places = [(port, ("when", port)) for port in self.when]
        for port, at in [*places, *([] if self.otherwise is None else [(self.otherwise, ("otherwise",))])]:
            twin = names.setdefault(port.lower(), port)
            if twin != port:
                report(at, f"port {port!r} differs from {twin!r} only in case", "choose another name")

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        evaluator = Evaluator(self.when, schema, scope, sandbox)

        def step(batch: pa.RecordBatch) -> Outcome:
            return self._routed(batch, evaluator(batch))

        return step

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        return None if wanted is None else wanted | used_columns(self.when.values(), schema, sandbox)

    def _routed(self, batch: pa.RecordBatch, evaluated: Evaluated) -> Outcome:
        hits, faults = self._chosen(batch.num_rows, evaluated)
        faulty = np.zeros(batch.num_rows, dtype=bool)
        faulty[[fault.row for fault in faults]] = True
        rest = ~np.logical_or.reduce([*hits.values(), faulty])
        if self.otherwise is not None:
            hits[self.otherwise] = rest
            rest = np.zeros(batch.num_rows, dtype=bool)
        out = {port: _piece(batch, chosen & ~faulty) for port, chosen in hits.items()}
        return Outcome(out, rejects=self._rejects(faults, np.flatnonzero(rest)))

    def _chosen(self, rows: int, evaluated: Evaluated) -> tuple[dict[str, np.ndarray], list[Fault]]:
        """Per port the records it takes, and the faults that count: those of conditions that had to be computed."""
        undecided = np.ones(rows, dtype=bool)
        hits: dict[str, np.ndarray] = {}
        faults: list[Fault] = []
        for port in self.when:
            reached = [fault for fault in evaluated.faults if fault.name == port and undecided[fault.row]]
            hits[port] = _true(evaluated.columns.column(port)) & undecided
            faults += reached
            if not self.all:
                undecided &= ~hits[port]
                undecided[[fault.row for fault in reached]] = False
        return hits, faults

    def _rejects(self, faults: list[Fault], unclaimed: np.ndarray) -> Rejects | None:
        found = rejects_of(faults)
        if not len(unclaimed):
            return found
        words = f"no condition of {', '.join(self.when)} is true"
        none = Rejects(pa.array(unclaimed, pa.int64()), [NO_BRANCH] * len(unclaimed), [words] * len(unclaimed))
        if found is None:
            return none
        rows = pa.concat_arrays([found.rows, none.rows])
        return Rejects(rows, [*found.codes, *none.codes], [*found.messages, *none.messages])


def _check_port(port: str, at: tuple[str | int, ...], report: Report) -> None:
    if port == "rejected":
        report(at, "port 'rejected' is where records leave that cannot be routed", "choose another name")
    elif not PORT.fullmatch(port):
        report(at, f"port {port!r} is no name", "use letters, digits, - and _, a letter first")


def _true(column: pa.Array) -> np.ndarray:
    found: np.ndarray = pc.fill_null(column.cast(pa.bool_()), False).to_numpy(zero_copy_only=False)
    return found


def _piece(batch: pa.RecordBatch, hits: np.ndarray) -> Piece:
    rows = pa.array(np.flatnonzero(hits), pa.int64())
    return Piece(batch) if len(rows) == batch.num_rows else Piece(batch.take(rows), rows)
