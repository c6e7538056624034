"""What a node type is: the contracts that every transform and adapter, ours or a stranger's, is written against.

A node type is a frozen model whose docstrings document its fields, and one of five kinds:

* `Start`      the one entry
* `Transform`  a function of a batch: `open(...)` gives a `Step` for one worker thread
* `Wide`       needs records together: says by what they are parted, and the SELECT over a part
* `Get`        reads: `plan` cuts what is to be read into splits with row-id room, `read` gives a split's chunks
* `Post`       delivers: `open` gives a `Writer` for one worker thread; what is staged shows only after `publish`

Nodes see batches without row ids and say of each outcome which input rows it came from; counting, row ids, snapshots,
rejects, receipts, retries and resuming are the kernel's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.example import Example as Example  # noqa: PLC0414 - node types take it from here
from pipelines.model import Model
from pipelines.passage import NotForwarded, Passage
from pipelines.splits import MALFORMED as MALFORMED  # noqa: PLC0414
from pipelines.splits import Chunk as Chunk  # noqa: PLC0414
from pipelines.splits import Json as Json  # noqa: PLC0414
from pipelines.splits import Malformed as Malformed  # noqa: PLC0414
from pipelines.splits import Split as Split  # noqa: PLC0414
from pipelines.splits import SplitPlan as SplitPlan  # noqa: PLC0414
from pipelines.splits import Want as Want  # noqa: PLC0414

if TYPE_CHECKING:
    from pipelines.early import Groups
    from pipelines.placing import Pairing
    from pipelines.scope import Scope
    from pipelines.sql.sandbox import Sandbox

Schemas = Mapping[str, pa.Schema | None]
"""Per input or port its columns; None where they cannot be known before the run."""


class Report(Protocol):
    """Takes a problem of the node being checked; `at` is the field's place inside the node's text."""

    def __call__(self, at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None: ...


@dataclass(frozen=True)
class Rejects:
    """Records set aside: which rows of the batch, a code for programs and a message for people, one each."""

    rows: pa.Int64Array
    codes: Sequence[str]
    messages: Sequence[str]


@dataclass(frozen=True)
class Piece:
    """Records leaving by a port. `rows[i]` is the input row that record i came from; None: row i itself."""

    batch: pa.RecordBatch
    rows: pa.Int64Array | None = None
    together: int | None = None
    """So many of them at most go on as one batch. None: all."""


@dataclass(frozen=True)
class Outcome:
    """What became of one batch. Every input row is in `out`, filtered, rejected or pending."""

    out: Mapping[str, Piece] = field(default_factory=dict)
    filtered: int = 0
    rejects: Rejects | None = None
    receipts: Receipts | None = None
    """For a post: what the target said of each record of port `out`."""
    pending: int = 0
    """For a staged post: rows whose outcome `Publication.settle` will tell."""


@dataclass(frozen=True)
class Receipts:
    """The target's answers for delivered records, one each, in the order of `out`. None: the same for all, or unknown."""

    keys: pa.StringArray | None = None
    ids: pa.StringArray | None = None
    status: str = "ok"
    milliseconds: float = 0.0


class Step(Protocol):
    """A node opened for one worker thread: takes batches of the schema it was opened with.

    One that asks another system may raise `Unavailable` where nothing has changed yet: it gets the batch again.
    One that may work long at a batch can have a method `end_call`. It is called from another thread when the run shall
    stop, and lets the call in hand end with `Cancelled`. One that lets records pass in their time is `Paced`
    (`pipelines.pace`).
    """

    def __call__(self, batch: pa.RecordBatch) -> Outcome: ...


class Node(Model):
    """What every node type derives from, through one of the kinds below."""

    examples: ClassVar[tuple[Example, ...]] = ()
    category: ClassVar[str] = ""

    def ports(self) -> tuple[str, ...]:
        """The named outputs besides `rejected`."""
        return ("out",)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        """Reports problems and gives the schema of each port (without `rejected`). Reads at most heads and catalogues."""
        return dict.fromkeys(self.ports(), None)


class Start(Node):
    """The one entry of a flow."""


class Transform(Node):
    """A function of a batch."""

    inputs: ClassVar[tuple[str, ...]] = ("",)

    @abstractmethod
    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        """The node made ready for one worker thread; `schema` is that of every batch that will come."""

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        """The input columns needed to give the `wanted` output columns. None: all."""
        return None

    def meets_by_place(self) -> bool:
        """Whether the columns of several links into one input meet by their place instead of their name."""
        return False


class Wide(Node):
    """Needs records together that lie apart: all of a key, or all there are.

    Its records are spilled to files, by partitions of the key; each partition is worked out of core by one SELECT of
    DuckDB, when all have arrived. What leaves begins a phase of its own.
    """

    inputs: ClassVar[tuple[str, ...]] = ("",)
    keeps_records: ClassVar[bool] = False
    """Whether what leaves are records that came (sort, dedupe), or records made of them (aggregate, join)."""
    keeps_order: ClassVar[bool] = False
    """Whether the order of the SELECT's rows means something."""

    @abstractmethod
    def partition_by(self, name: str, schemas: Mapping[str, pa.Schema]) -> tuple[str, ...] | None:
        """SQL over the columns of the input `name` whose values tell its partition; None: all in one."""

    @abstractmethod
    def query(self, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox) -> str:
        """The SELECT over the inputs' relations; gives the columns that leave, then the row id, `ROW_ID`.

        A relation is called as its input, `input` where that has no name, and has its columns and `ROW_ID`.
        """

    def ordered_by(self) -> tuple[str, ...]:
        """The columns by which its records leave in order, as the SELECT says too: `-` before a name is from the largest down,
        nulls are last, equal records by their row ids. It then is worked by ranges of them. (): by the SELECT."""
        return ()

    def most_kept(self) -> int | None:
        """How many leave of those that are in order; None: all."""

    def groups(self, schemas: Schemas, given: pa.Schema, scope: Scope, sandbox: Sandbox) -> Groups | None:
        """How its records become groups of what is `given`, where parts of them may be made early. None: they may not."""
        return None

    def pairing(self, schemas: Mapping[str, pa.Schema]) -> Pairing | None:
        """How each pair of a record of `left` and one of `right` becomes a record. None: no pairs are made."""
        return None

    def parents(self, schemas: Mapping[str, pa.Schema]) -> str | None:
        """A SELECT over the inputs' relations and `MADE`: the row ids `rid` of records that left, and for each the row ids
        `parent` of those it was made of. None: they are none, or nobody can tell."""
        return None

    def remembered_key(self) -> tuple[str, ...]:
        """The columns of its only input whose values are remembered from run to run; none: nothing is remembered."""
        return ()

    def remembered_days(self) -> int | None:
        """How long they are remembered; None: for ever."""

    def lent_input(self) -> str | None:
        """The input of which each record of the others needs all there is, and nothing else; None: there is none.

        Where it is small every worker has it whole, and the SELECT runs over part after part of the other inputs."""
        return None

    def needs(
        self, wanted: frozenset[str] | None, schemas: Mapping[str, pa.Schema], sandbox: Sandbox
    ) -> Mapping[str, frozenset[str] | None]:
        """Per input the columns needed to give the `wanted` columns. None: all."""
        return dict.fromkeys(schemas)


class Get(Node):
    """Reads records of an outside system."""

    takes_records: ClassVar[bool] = False
    """Whether it may take from another node, and then fetches for each record."""
    most_rows: ClassVar[int | None] = None  # for so many records at once
    reads_one_moment: ClassVar[bool] = False
    """Whether all nodes of its type in a run read their system as it was at one moment, until `release`."""

    changes_only: bool = False
    """Whether only records go on that are new or have changed since the last run, told by `key` and a hash of all columns
    read; the keys of those that are gone leave by the port `deleted`. For sources without a cursor."""
    schema_change: Literal["evolve", "reject", "fail"] | None = None
    """What to do where the source has other columns than the last run saw. `evolve`: new columns and wider types go on,
    columns that are gone are left out, the report says so. `reject`: the columns stay as they were; records with a value
    in a new column, without a column that is gone, or with a value that is none of its column's type are rejected with the
    code `schema`. `fail`: nothing is read. Null: columns are not compared."""
    infers_types: ClassVar[bool] = False
    """Whether column types that `columns` does not declare are inferred from what is there, so that they can be held."""

    @abstractmethod
    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        """Cuts what there is to read, after `position` (None: from the beginning), into splits."""

    @abstractmethod
    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        """The records of a split, by ascending ordinal; `schema` is what `check` gave, or the wanted columns of it."""

    def parse(self, texts: Sequence[str], schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        """The records of texts that an earlier run could not read, as they read today; ordinals are places in `texts`.

        Raises:
            Invalid: its records cannot be read from their text alone.
        """
        raise Invalid("its records cannot be read from their text alone; let it read its source again")

    def later(self, one: Json, other: Json) -> Json:
        """The position that has both behind it. Associative and commutative; None is neutral."""
        return one if other is None else other

    def repeats(self, split: Json) -> bool:
        """Whether a split read again gives the same records in the same order: one that broke off can be read on."""
        return True

    def holds(self, split: Json, scope: Scope) -> bool:
        """Whether a split that another process has planned can still be read. Raises `Unavailable`: nobody answers."""
        return True

    def release(self, scope: Scope) -> None:
        """Lets go of what `plan` keeps open, such as a snapshot: all is read, or the run has ended. Again it does no harm."""

    def position_at(self, scope: Scope, first: str, last: str | None, then: Json) -> Json:
        """The position with which the next run reads the cursor's values from `first` on (up to `last`, and the one
        after that goes on from `then`).

        Raises:
            Invalid: this source has no cursor, or the value is none of its.
        """
        raise Invalid("it reads by no cursor; `positions reset` lets it read from the beginning")

    def check_each(self, schema: pa.Schema, scope: Scope, report: Report) -> pa.Schema | None:
        """What leaves when records of `schema` come in, as `check` does without them. Asks the system for no record."""
        raise Invalid("it takes no records")

    def open_each(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        """Made ready for one worker thread, to fetch for each record; asks again itself where the system is away."""
        raise Invalid("it takes no records")


@dataclass(frozen=True)
class Part:
    """Something staged by a writer, named so that a publication (perhaps in another process) finds it."""

    payload: Json
    rows: int
    bytes: int = 0


class Writer(Protocol):
    """A post opened for one worker thread."""

    def put(self, batch: pa.RecordBatch) -> Outcome:
        """Takes a batch: delivers it (a direct post) or stages it; rows the target can't take are rejected."""

    def close(self) -> Sequence[Part]:
        """Ends the writing and names what was staged."""

    def abandon(self) -> None:
        """Ends the writing and removes what was staged."""


class Publication(Protocol):
    """All parts of a staged post on their way to becoming visible at once."""

    def settle(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        """Outcomes of the rows that `put` left pending, batch by batch, with the row-id column as it was put."""

    def commit(self) -> None:
        """Makes all of it visible, in one step where the target can. Called again after a crash it does no harm."""

    def abandon(self) -> None:
        """Leaves the target as it was."""


class Post(Node):
    """Delivers records to an outside system."""

    staged: ClassVar[bool] = True
    """Whether nothing shows before `publish` (files, databases in one transaction), or `put` delivers at once (HTTP)."""
    most_rows: ClassVar[int | None] = None
    """So many records `put` gets at once; None: a whole batch. Between two calls a run can be stopped."""
    keeps_ids: ClassVar[bool] = False
    """Whether `put` gets batches with their row-id column, because `settle` must give them back."""

    @abstractmethod
    def target(self, scope: Scope) -> str:
        """What it writes, as an address without secrets: two nodes of a flow may not write the same."""

    @abstractmethod
    def delivery(self) -> tuple[str, str]:
        """The label and the reason: `effectively once` or `at least once`, and why in a clause."""

    @abstractmethod
    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        """The node made ready for one worker thread."""

    @abstractmethod
    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        """Gathers what all writers staged. `token` names this publication: the same after a crash, never another's."""

    def is_published(self, scope: Scope, token: str) -> bool:
        """Whether the publication of this token had become visible before a crash."""
        return False

    def sweep(self, scope: Scope, token: str) -> None:
        """Removes what a run that failed or died had staged outside its own folder. Harmless where there is nothing."""

    def forwards(self, source: Get, scope: Scope) -> bool:
        """Whether records of this get may come here without being looked at. What only the systems tell, `passage` asks."""
        return False

    def passage(self, source: Get, schema: pa.Schema, scope: Scope, token: str) -> Passage:
        """A way into the target for the records of a get that it `forwards`; `token` as for `publish`."""
        raise NotForwarded("it takes only records that were read")
