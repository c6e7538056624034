"""What every adapter for a database's tables must do; each test file derives a class from `TableContract`."""

from __future__ import annotations

from tests.adapters.table_checks import TableChecks, TableFiles
from tests.adapters.table_cursors import TableCursors
from tests.adapters.table_finds import TableFinds
from tests.adapters.table_posts import TablePosts
from tests.adapters.table_publications import TablePublications
from tests.adapters.table_reads import TableReads


class TableContract(TableCursors, TableReads, TableFinds, TableChecks, TablePosts, TablePublications):
    """Derive, and give the adapter and what the tests do to its database beside it."""


class TableFileContract(TableContract, TableFiles):
    """The same for a database in a file."""
