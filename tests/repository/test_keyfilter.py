"""Filters of business keys: what a run has kept is found, and runs that have not are hardly ever opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.node import Receipts, Rejects
from repository import commit as committing
from repository.keyfilter import INLINE_BYTES, Blocks, KeyFilter, hash_of, of_plain
from repository.keyhash import blocks_of, hashes_of
from repository.manifest import read
from repository.retention import tidy
from repository.tracks import Track, Tracks
from tests.repository.lakes import numbers

KEYS = {"orders": ("n",), "erp": ("n",)}
NO_FILES = Blocks(Path())


@given(st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=60), st.integers(0, 20))
def test_every_key_that_was_put_in_is_found_wherever_its_text_lies(texts: list[str | None], first: int) -> None:
    keys = pa.array(texts, pa.string()).slice(min(first, len(texts)))

    made = KeyFilter(blocks_of([hashes_of(keys)]))

    known = keys.drop_null().to_pylist()
    assert hashes_of(keys).tolist() == [hash_of(key) for key in known]
    assert all(made.may_have(hash_of(key), NO_FILES) for key in known)
    assert of_plain(made.plain()) == made


def test_of_a_thousand_keys_that_are_not_there_a_few_are_asked_for_in_vain() -> None:
    made = KeyFilter(blocks_of([hashes_of(pa.array([f"WEB-{n}" for n in range(20_000)]))]))

    found = sum(made.may_have(hash_of(f"WEB-{n}"), NO_FILES) for n in range(20_000, 40_000))

    assert found < 100


def test_keys_that_differ_in_any_place_have_other_hashes() -> None:
    texts = ["", "a", "b", "a\0", "12345678", "123456789", "1234567890123456", "1234567800000000", "12345678" * 9]

    hashes = hashes_of(pa.array(texts))

    assert len(set(hashes.tolist())) == len(texts)
    assert [hash_of(text) for text in texts] == hashes.tolist()


def night(lake: Any, run: str, first: int, rows: int = 3000) -> None:
    """A run that kept what its source gave, whose target took all but the last record."""
    tap = lake.tap(run, snapshots={"orders.out": "all"}, keys=KEYS)
    batch = numbers(first, rows)
    tap.records("orders", "out", batch)
    tap.rejects("erp", batch.slice(rows - 1), Rejects(pa.array([0]), pa.array(["no"]), pa.array(["refused"])), 1)
    keys = batch.column(0).cast(pa.string()).slice(0, rows - 1)
    tap.deliveries("erp", batch.column(2).slice(0, rows - 1), Receipts(keys), 1)
    lake.commit(tap, run=run)


@pytest.mark.parametrize("most", [0, 100], ids=["merged", "loose"])
def test_only_runs_that_may_have_a_key_are_opened(lake: Any, most: int) -> None:
    for number in range(6):
        night(lake, f"r{number}", number * 1000)
    committing.merge(lake.root, most)
    for commit in read(lake.root).commits[:3]:
        for file in commit.files:
            (lake.root / file.path).unlink()

    found = Tracks(lake.root).by_key("7500")

    assert found == [Track("r5", "web-orders", 7500)]
    filters = [commit.keys for commit in read(lake.root).commits]
    assert all(keys is not None and keys.length > INLINE_BYTES for keys in filters)
    assert len({keys.path for keys in filters if keys}) == (1 if most == 0 else 6)


def test_the_latest_runs_come_first_where_many_have_a_key(lake: Any) -> None:
    for number in range(9):
        night(lake, f"r{number}", 0, rows=4)

    found = Tracks(lake.root).by_key("2", most=1)

    assert found[-1] == Track("r8", "web-orders", 2)


def test_a_key_that_only_receipts_have_is_found_in_each_run(lake: Any) -> None:
    for run, policy in (("r1", "all"), ("r2", "none")):
        tap = lake.tap(run, snapshots={"orders.out": policy}, keys=KEYS)
        tap.records("orders", "out", numbers(5, 3))
        tap.deliveries("erp", numbers(5, 3).column(2), Receipts(pa.array(["5", "6", "7"])), 1)
        lake.commit(tap, run=run)

    assert Tracks(lake.root).by_key("6") == [Track("r1", "web-orders", 6), Track("r2", "web-orders", 6)]


def test_a_run_with_too_many_keys_has_no_filter_and_is_searched(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "FILTERED_KEYS", 100)

    night(lake, "r1", 0, rows=200)

    assert read(lake.root).commits[0].keys is None
    assert Tracks(lake.root).by_key("150") == [Track("r1", "web-orders", 150)]


def test_filters_stay_as_long_as_their_runs(lake: Any) -> None:
    for number in range(3):
        night(lake, f"r{number}", number * 10_000)

    tidy(lake.root, lambda _, run: run != "r1", 0.0)
    kept = Tracks(lake.root).by_key("20005")
    tidy(lake.root, lambda _, run: False, 0.0)

    assert kept == [Track("r2", "web-orders", 20005)]
    assert list((lake.root / "_commits").glob("*.keys")) == []
