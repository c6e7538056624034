"""The kernel, the phases and the Beam pipeline, on nodes small enough to see through."""

from __future__ import annotations

import copyreg
from pathlib import Path

import pyarrow as pa
import pytest

from agent.execute import Executor
from pipelines import journal
from pipelines.drive import drive
from pipelines.errors import Failed, Unavailable
from pipelines.flow import RejectPolicy
from pipelines.job import Job
from pipelines.plan import Plan
from tests.pipelines.engine import job_of, outcome_of, plan_of, spec
from tests.pipelines.strangers import Caller, Heap, Numbers, Sift


def sifted(**numbers: object) -> Plan:
    """Numbers, sifted, odd ones and rest merged into one heap, rejects of the sift into another."""
    return plan_of(
        spec("numbers", Numbers(count=200, malformed_each=11, **numbers), "start"),
        spec("sift", Sift(), "numbers"),
        spec("heap", Heap(path="heap.txt"), "sift.odd", "sift.rest"),
    )


def heap(folder: Path, name: str = "heap.txt") -> list[int]:
    file = folder / name
    return sorted(int(line) for line in file.read_text().split()) if file.exists() else []


EXPECTED = [n for n in range(200) if n % 11 and n % 7 and n % 10]


def test_every_record_is_delivered_filtered_or_rejected_and_the_ledger_says_so(tmp_path: Path) -> None:
    job = job_of(sifted(), tmp_path)

    Executor().run(job)

    done = outcome_of(job)
    assert heap(tmp_path) == EXPECTED
    assert done["wrong"] == []
    assert done["nodes"]["numbers"]["in"] == 200
    assert done["nodes"]["numbers"]["rejected"] == 19
    assert done["nodes"]["heap"]["delivered"] == len(EXPECTED)
    assert done["ids"]["deliveries", "heap"] == EXPECTED
    assert done["ids"]["rejects", "numbers"] == list(range(0, 200, 11))


@pytest.mark.parametrize(("splits", "chunk_rows", "workers"), [(1, 1, 1), (1, 500, 1), (7, 3, 2), (40, 2, 4)])
def test_splits_batches_and_workers_change_nothing(tmp_path: Path, splits: int, chunk_rows: int, workers: int) -> None:
    reference = job_of(sifted(), tmp_path)
    drive(reference)
    folder = tmp_path / "other"
    folder.mkdir()

    job = job_of(sifted(splits=splits, chunk_rows=chunk_rows), folder, workers=workers)
    Executor().run(job)

    assert heap(folder) == EXPECTED
    assert outcome_of(job)["nodes"] == outcome_of(reference)["nodes"]


def test_a_bundle_that_the_engine_runs_again_counts_once(tmp_path: Path) -> None:
    once = job_of(sifted(), tmp_path)
    drive(once)
    folder = tmp_path / "repeated"
    folder.mkdir()

    repeated = job_of(sifted(), folder)
    Executor(bundle_repeat=2).run(repeated)

    assert heap(folder) == EXPECTED
    assert outcome_of(repeated) == outcome_of(once)


def test_a_compiled_pipeline_serves_further_runs(tmp_path: Path) -> None:
    executor = Executor()
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()

        executor.run(job_of(sifted(), folder, run=f"run-{number}"))

        assert heap(folder) == EXPECTED
    assert [len(idle) for idle in executor._idle.values()] == [1]


def test_splits_spread_as_over_a_cluster_give_the_same(tmp_path: Path) -> None:
    together = job_of(sifted(), tmp_path)
    Executor().run(together)
    folder = tmp_path / "spread"
    folder.mkdir()

    spread = job_of(sifted(splits=9), folder)
    Executor(bundle_repeat=1).run_spread(spread)

    assert heap(folder) == EXPECTED
    assert outcome_of(spread)["nodes"] == outcome_of(together)["nodes"]


def test_nodes_run_one_by_one_give_the_same_and_no_batch_is_pickled(tmp_path: Path) -> None:
    fused = job_of(sifted(), tmp_path)
    Executor().run(fused)
    folder = tmp_path / "unfused"
    folder.mkdir()
    job = job_of(sifted(), folder)

    def refuse(batch: pa.RecordBatch) -> str:
        raise AssertionError(f"a batch of {batch.num_rows} rows was pickled")

    copyreg.pickle(pa.RecordBatch, refuse)
    try:
        Executor().run_unfused(job)
    finally:
        copyreg.dispatch_table.pop(pa.RecordBatch)

    assert heap(folder) == EXPECTED
    assert outcome_of(job)["nodes"] == outcome_of(fused)["nodes"]
    assert outcome_of(job)["ids"]["deliveries", "heap"] == outcome_of(fused)["ids"]["deliveries", "heap"]


def test_what_follows_a_staged_post_runs_after_its_publication(tmp_path: Path) -> None:
    plan = plan_of(
        spec("numbers", Numbers(count=50), "start"),
        spec("heap", Heap(path="heap.txt", most=30), "numbers"),
        spec("told", Caller(path="told.txt"), "heap"),
        spec("refused", Heap(path="refused.txt"), "heap.rejected"),
    )
    job = job_of(plan, tmp_path)

    Executor().run(job)

    assert plan.phases == 2
    assert heap(tmp_path) == heap(tmp_path, "told.txt") == list(range(31))
    assert heap(tmp_path, "refused.txt") == list(range(31, 50))
    assert outcome_of(job)["wrong"] == []


def test_a_node_that_loses_a_record_turns_the_run_red_before_anything_is_published(tmp_path: Path) -> None:
    plan = plan_of(
        spec("numbers", Numbers(count=50, splits=1, chunk_rows=50), "start"),
        spec("sift", Sift(loses=True), "numbers"),
        spec("heap", Heap(path="heap.txt"), "sift.odd", "sift.rest"),
    )

    with pytest.raises(Failed, match=r"node 'sift': 50 in .* 1 records are missing"):
        Executor().run(job_of(plan, tmp_path))

    assert heap(tmp_path) == []


@pytest.mark.parametrize("most", [3, "1%"])
def test_too_many_rejects_stop_the_run_before_anything_is_published(tmp_path: Path, most: int | str) -> None:
    plan = plan_of(
        spec("numbers", Numbers(count=200, malformed_each=11), "start", rejects=RejectPolicy(fail_above=most)),
        spec("heap", Heap(path="heap.txt"), "numbers"),
    )
    job = job_of(plan, tmp_path)

    with pytest.raises(Failed, match=f"node 'numbers': .* rejected, more than fail_above: {most} allows"):
        Executor().run(job)

    assert heap(tmp_path) == []


def test_reading_goes_on_behind_the_last_record_when_the_source_was_away(tmp_path: Path) -> None:
    (tmp_path / "breaks").touch()
    job = job_of(sifted(breaks="breaks"), tmp_path)

    Executor().run(job)

    assert heap(tmp_path) == EXPECTED
    assert outcome_of(job)["wrong"] == []
    assert not (tmp_path / "breaks").exists()


def test_a_target_that_is_away_is_asked_again_and_then_given_up(tmp_path: Path) -> None:
    plan = plan_of(
        spec("numbers", Numbers(count=10, splits=1, chunk_rows=10), "start"),
        spec("caller", Caller(path="told.txt", away="away"), "numbers"),
    )
    (tmp_path / "away").write_text("xxxx")
    Executor().run(job_of(plan, tmp_path))
    (tmp_path / "away").write_text("xxxxxxxxx")

    with pytest.raises(Unavailable, match="nobody answers"):
        Executor().run(job_of(plan, tmp_path, run="run-2"))

    assert heap(tmp_path, "told.txt") == list(range(10))


def test_a_run_killed_between_settling_and_publishing_is_finished_from_its_journal(tmp_path: Path) -> None:
    job = job_of(sifted(), tmp_path)
    journal.save_job(job)
    drive(job)
    (tmp_path / "heap.txt").unlink()
    (tmp_path / "heap.txt.done").unlink()
    (job.journal / "published-heap").unlink()

    found = journal.load_job(job.scope.staging)
    assert isinstance(found, Job)
    drive(found)

    assert heap(tmp_path) == EXPECTED
    assert outcome_of(found) == outcome_of(job)


def test_a_run_killed_after_publishing_is_not_published_again(tmp_path: Path) -> None:
    job = job_of(sifted(), tmp_path)
    journal.save_job(job)
    drive(job)
    (job.journal / "published-heap").unlink()

    drive(job)

    assert heap(tmp_path) == EXPECTED
