"""One batch's way through the nodes of a phase: called, counted, tapped, and pushed on before the next is read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pyarrow as pa

from pipelines.align import align
from pipelines.changes import Changes
from pipelines.descent import parents_of
from pipelines.differing import Difference, differing
from pipelines.disk import file_name
from pipelines.entering import enter
from pipelines.entrance import INSIDE, Entrance
from pipelines.errors import Failed, Interrupted, Unavailable
from pipelines.facts import Facts, Plain
from pipelines.job import Job, clock_of
from pipelines.ledger import Counts
from pipelines.lending import Borrower
from pipelines.node import Outcome, Post, Rejects, Wide
from pipelines.opened import Opened
from pipelines.outcomes import created, rejected_batch, too_many
from pipelines.plan import Station
from pipelines.reading import read_split
from pipelines.records import ROW_ID, ids_of, with_ids, without_ids
from pipelines.remembering import KeyWriter
from pipelines.rounds import AGAIN, Gate, Rounds
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.workbench import Workbench
from pipelines.tap import Tap
from pipelines.wide import Leaving, open_bench, work
from pipelines.wire import SpillWriter, read_spill

Forward = Callable[[str, str, pa.RecordBatch], None]
"""Takes a batch that leaves (node, port) for a node outside of this program."""


class Program:
    """The stations of a phase, opened for one worker thread: feed it splits or batches, then close it for its facts.

    `only` narrows it to one station, for engines that run each node by itself; what leaves that goes to `forward`.
    """

    def __init__(self, job: Job, phase: int, only: str | None = None, forward: Forward | None = None) -> None:
        self.job = job
        self.facts = Facts()
        self._sandbox = Sandbox.borrow(job.scope)
        self._tap: Tap = job.open_tap(job.tap_plan)
        self._receipts: dict[str, Tap] = {}
        self._forward = forward
        self._spills: dict[tuple[str, str], SpillWriter] = {}
        self._opened: dict[str, Opened] = {}
        self._keys: dict[str, KeyWriter] = {}
        self._untell = job.watch.stop.tell(self._end_call)
        self._bench: Workbench | None = None
        self._rounds, self._depth = Rounds(clock_of(job.watch)), 0
        self._here = {
            name: station
            for name, station in job.plan.stations.items()
            if phase in (station.phase, station.lent_phase) and only in (None, name)
        }
        self._taken = {
            (link.node, link.port, name) for name, station in self._here.items() for link in station.taken_in(phase)
        }

    def read(self, split: Plain) -> None:
        """Reads one split whole and pushes its batches through."""
        if split["kind"] == "spill":
            for batch in read_spill(Path(split["path"])):
                self.push(split["node"], split["port"], batch)
            return
        if split["kind"] == "into":
            enter(self, split)
            return
        if split["kind"] == "wide":
            self._work(self.job.plan.stations[split["node"]], split)
            return
        station = self._here[split["node"]]
        if split["kind"] == "lent":
            self._count(station, split["rows"], 0)
            return
        with closing(read_split(self.job, station, split, self.facts, self._tap, self.reject)) as batches:
            for batch in batches:
                self.emit(station, "out", batch)
                if self.job.gathering is not None and self.job.gathering.is_full():
                    return

    def _work(self, station: Station, split: Plain) -> None:
        """Works what a wide node has taken, and lets what comes of it leave."""
        bench = self._bench = self._bench or open_bench(self.job)
        if isinstance(station.spec.config, Changes):
            self._tell_changes(station, differing(self.job, station, split, self._sandbox, bench))
            return
        made: list[pa.Array] = []
        then = self._descent(station, made)
        self._let_leave(station, made, *work(self.job, station, split, self._sandbox, bench, then))

    def _tell_changes(self, station: Station, found: Difference) -> None:
        """Lets leave what a source has new, changed or no longer."""
        counts, left, started = self.facts.ledger.of(station.name), 0, time.perf_counter()
        for port, batch in found.leaving:
            counts.seconds += time.perf_counter() - started
            if port == "out":
                left += batch.num_rows
            else:
                counts.created += batch.num_rows
            self.emit(station, port, batch)
            self.job.watch.stop.heed()
            started = time.perf_counter()
        counts.pending -= found.taken
        counts.filtered += found.taken - left
        self.facts.keys.setdefault(station.name, []).extend(found.files)

    def _lend(self, station: Station, borrower: Borrower) -> None:
        """Works what a node holds that has borrowed its other input."""
        made: list[pa.Array] = []
        self._let_leave(station, made, *borrower.work(self._descent(station, made)))

    def _let_leave(self, station: Station, made: list[pa.Array], taken: int, batches: Leaving) -> None:
        counts, left, started = self.facts.ledger.of(station.name), 0, time.perf_counter()
        keys = self._key_writer(station)
        with closing(batches):
            for batch in batches:
                made.append(ids_of(batch))
                if keys is not None:
                    keys.put(batch)
                counts.seconds += time.perf_counter() - started
                left += batch.num_rows
                self.emit(station, "out", batch)
                self.job.watch.stop.heed()
                started = time.perf_counter()
        self._count(station, taken, left)

    def _count(self, station: Station, taken: int, left: int) -> None:
        """Records that a wide node had taken became others, or went."""
        config, counts = station.spec.config, self.facts.ledger.of(station.name)
        counts.pending -= taken
        if isinstance(config, Wide) and config.keeps_records:
            counts.filtered += taken - left
        else:
            counts.merged += taken
            counts.created += left

    def _descent(self, station: Station, made: list[pa.Array]) -> Callable[[Workbench], None] | None:
        """Tells the data log of which records those were made that leave a wide node; None: there is nothing to tell."""
        config, policy = station.spec.config, station.snapshots.get("out", "none")
        pairs = config.parents(station.named_inputs) if isinstance(config, Wide) else None
        if pairs is None or policy == "none" or self.job.is_dry:
            return None
        asked = pairs

        def tell(bench: Workbench) -> None:
            if made:
                ids = pa.concat_arrays(made)
                self._tap.descent(station.name, "out", ids, lambda some: parents_of(bench, asked, some))

        return tell

    def _key_writer(self, station: Station) -> KeyWriter | None:
        """Takes the keys of what leaves a node that remembers them for the next runs."""
        config, job = station.spec.config, self.job
        if station.name not in job.memories or job.is_dry or not isinstance(config, Wide):
            return None
        if station.name not in self._keys:
            folder = job.scope.staging / "keys" / file_name(station.name)
            self._keys[station.name] = KeyWriter(folder, config.remembered_key(), job.began, self._sandbox)
        return self._keys[station.name]

    def push(self, node: str, port: str, batch: pa.RecordBatch) -> None:
        """Gives a batch that left (node, port) to the stations here that take from there."""
        for target in self.job.plan.stations[node].links.get(port, ()):
            if (node, port, target) in self._taken:
                self.take(node, port, self._here[target], batch)

    def take(self, node: str, port: str, station: Station, batch: pa.RecordBatch) -> None:
        """Runs a station over one batch, with row ids, and pushes on what comes of it, round after round in loops."""
        self._depth += 1
        try:
            self._take(node, port, station, batch)
        finally:
            self._depth -= 1
        while self._depth == 0 and (turn := self._rounds.next()) is not None:
            self._go_round(*turn)

    def _go_round(self, gate: Station, batch: pa.RecordBatch) -> None:
        """Lets records into a loop again, which have come back to its gate."""
        station = self._here[gate.links[AGAIN][0]]
        schema = station.outputs[INSIDE].append(pa.field(ROW_ID, pa.int64(), nullable=False))
        self.job.watch.stop.heed()
        self._depth += 1
        try:
            self._came(gate.name, AGAIN, station, batch)
            self.emit(station, INSIDE, align(batch, schema))
        finally:
            self._depth -= 1

    def _came(self, node: str, port: str, station: Station, batch: pa.RecordBatch) -> Counts:
        """Counts what comes to a station."""
        self.facts.ledger.link(node, port, station.name, batch.num_rows)
        counts = self.facts.ledger.of(station.name)
        counts.taken += batch.num_rows
        counts.batches += 1
        if self.job.gathering is not None:
            self.job.gathering.take(station.name, "in", without_ids(batch))
        return counts

    def _take(self, node: str, port: str, station: Station, batch: pa.RecordBatch) -> None:
        self.job.watch.stop.heed()
        config = station.spec.config
        opened = self._open(station)
        if opened.intake is None and opened.borrower is None:
            batch = align(batch, opened.schema, opened.meets_by_place)
        counts = self._came(node, port, station, batch)
        if isinstance(config, Entrance) and config.is_of_loop:
            self._rounds.enter(station.name)
        pieces = opened.pieces(batch)
        while True:
            self.job.watch.stop.heed()
            started = time.perf_counter()
            try:
                some = next(pieces, None)  # may wait
                outcome = None if some is None else opened.call(some, node, port)
            except Interrupted as fault:
                if some is not None:
                    self._keep(station, some, fault.outcome)
                raise fault.why from fault
            finally:
                counts.seconds += time.perf_counter() - started
            if some is None or outcome is None:
                break
            outcome = self._rounds.judged(config, outcome) if isinstance(config, Gate) else outcome
            self.apply(station, some, outcome)
        if opened.borrower is not None and opened.borrower.is_full:
            self._lend(station, opened.borrower)

    def apply(self, station: Station, batch: pa.RecordBatch, outcome: Outcome) -> None:
        """Counts, logs and pushes on what became of a batch that had row ids."""
        counts = self.facts.ledger.of(station.name)
        counts.filtered += outcome.filtered
        counts.pending += outcome.pending
        counts.created += created(outcome)
        ids = ids_of(batch)
        for port, piece in outcome.out.items():
            chosen = ids if piece.rows is None else ids.take(piece.rows)
            if isinstance(station.spec.config, Post) and port == "out" and not self.job.is_dry:
                self._deliver(station, outcome, chosen)
            leaving, together = with_ids(piece.batch, chosen), piece.together or max(piece.batch.num_rows, 1)
            for start in range(0, leaving.num_rows, together):
                self.emit(station, port, leaving.slice(start, together))
        if outcome.rejects is not None and len(outcome.rejects.codes):
            self.reject(station, batch.take(outcome.rejects.rows), outcome.rejects)

    def _keep(self, station: Station, batch: pa.RecordBatch, outcome: Outcome) -> None:
        """Logs what a target had taken and refused before it went away; nothing of it goes on."""
        piece, rejects = outcome.out.get("out"), outcome.rejects
        if piece is not None and piece.batch.num_rows:
            self._deliver(station, outcome, ids_of(batch) if piece.rows is None else ids_of(batch).take(piece.rows))
        if rejects is not None and len(rejects.codes):
            self.facts.ledger.of(station.name).rejected += len(rejects.codes)
            self._tap.rejects(station.name, batch.take(rejects.rows), rejects, 1)

    def emit(self, station: Station, port: str, batch: pa.RecordBatch) -> None:
        """Lets a batch leave by a named port: counted, kept for the data log, pushed to whoever takes from there."""
        if not batch.num_rows:
            return
        out = self.facts.ledger.of(station.name).out
        out[port] = out.get(port, 0) + batch.num_rows
        self.job.watch.meter.add(station.name, port, batch.num_rows)
        if station.snapshots.get(port, "none") != "none":
            self._tap.records(station.name, port, batch)
        self._leave(station, port, batch)

    def reject(self, station: Station, batch: pa.RecordBatch, rejects: Rejects) -> None:
        """Sets records aside: `batch` holds just those, with row ids."""
        counts = self.facts.ledger.of(station.name)
        counts.rejected += batch.num_rows
        self.job.watch.meter.add(station.name, "rejected", batch.num_rows)
        self._tap.rejects(station.name, batch, rejects, 1)
        most = station.rejects.fail_above
        if isinstance(most, int) and not self.job.is_dry and self.job.watch.meter.rows(station.name, "rejected") > most:
            raise Failed(too_many(station, self.job.watch.meter.rows(station.name, "rejected")))
        self._leave(station, "rejected", rejected_batch(station.name, batch, rejects))

    def warn(self, node: str, warnings: Sequence[str]) -> None:
        """Tells the report and the data log of what went wrong without ending anything."""
        for words in warnings:
            self.facts.warnings.append({"node": node, "message": words})
            self._tap.transaction(node, "warning", message=words)

    def close(self) -> Facts:
        """Ends the work and gives the facts; nothing more may be fed."""
        for station in self._here.values():  # in topological order
            if station.name in self._opened and (borrower := self._opened[station.name].borrower) is not None:
                self._lend(station, borrower)
        for name, opened in self._opened.items():
            started = time.perf_counter()
            if opened.writer is not None:
                self.facts.parts[name] = list(opened.writer.close())
            elif opened.intake is not None:
                self.facts.spills.extend(opened.intake.close())
            elif (whole := getattr(opened.step, "close", None)) is not None:
                self.facts.whole[name] = list(whole())
            self.facts.ledger.of(name).seconds += time.perf_counter() - started
        for (node, port), spill in self._spills.items():
            spill.close()
            self.facts.spills.append({"node": node, "port": port, "path": str(spill.path), "rows": spill.rows})
        self.facts.keys.update({node: keys.close() for node, keys in self._keys.items()})
        self.facts.pieces.extend(dict(piece) for piece in self._tap.close())
        for node, tap in self._receipts.items():
            self.facts.receipts[node] = [dict(piece) for piece in tap.close()]
        self._let_go()
        return self.facts

    def abandon(self) -> Facts:
        """Ends the work after a fault: what was staged is removed. Gives counts and log pieces so far, for the report."""
        for opened in self._opened.values():
            if opened.writer is not None:
                opened.writer.abandon()
        for spill in self._spills.values():
            with suppress(Unavailable):  # the fault that is told is the first
                spill.close()
        self.facts.pieces.extend(dict(piece) for piece in self._tap.close())
        self._let_go()
        return Facts(self.facts.ledger, pieces=self.facts.pieces)

    def _let_go(self) -> None:
        self._untell()
        self._sandbox.give_back()
        benches = [self._bench, *(opened.borrower for opened in self._opened.values())]
        for bench in benches:
            if bench is not None:
                bench.close()

    def _end_call(self) -> None:
        """Ends what is being computed, from another thread: somebody wants the run to stop."""
        self._sandbox.interrupt()
        for opened in list(self._opened.values()):
            if (end := getattr(opened.step, "end_call", None)) is not None:
                end()

    def _deliver(self, station: Station, outcome: Outcome, ids: pa.Int64Array) -> None:
        config = station.spec.config
        if outcome.receipts is None:
            return
        tap = self._tap
        if isinstance(config, Post) and config.staged:
            tap = self._receipts.setdefault(station.name, self.job.open_tap(self.job.tap_plan))
        else:
            self.facts.ledger.of(station.name).delivered += len(ids)
        tap.deliveries(station.name, ids, outcome.receipts, 1)

    def _leave(self, station: Station, port: str, batch: pa.RecordBatch) -> None:
        if self.job.gathering is not None:
            self.job.gathering.take(station.name, port, without_ids(batch))
        targets = station.links.get(port, ())
        if port == AGAIN and isinstance(station.spec.config, Gate):
            self._rounds.turn(station, batch)
            return
        if self._forward is not None and targets:
            self._forward(station.name, port, batch)
            return
        self.push(station.name, port, batch)
        if any((station.name, port, target) not in self._taken for target in targets):
            self._spill(station.name, port).write(batch)

    def _spill(self, node: str, port: str) -> SpillWriter:
        if (node, port) not in self._spills:
            path = self.job.scope.staging / "spill" / f"{file_name(node)}.{port}.{uuid.uuid4().hex}.arrow"
            self._spills[node, port] = SpillWriter(path)
        return self._spills[node, port]

    def _open(self, station: Station) -> Opened:
        if station.name not in self._opened:
            self._opened[station.name] = Opened(station, self.job, self._sandbox, self._tap)
        return self._opened[station.name]
