"""Schemas in which names are looked up and that the user may not look into: the server passes over them without a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from adapters.postgres.opening import Server
from pipelines.errors import Invalid
from pipelines.sql.literals import name_of


def refuse_closed(server: Server, rows: Callable[[str, Mapping[str, object]], list[tuple[object, ...]]]) -> None:
    """Says of such a schema what to grant.

    Raises:
        Invalid: there is one.
    """
    sql = (
        "SELECT nspname::text, current_user::text FROM pg_namespace WHERE NOT has_schema_privilege(oid, 'usage') AND "
        "nspname = ANY (SELECT btrim(btrim(s), '\"') FROM regexp_split_to_table(current_setting('search_path'), ',') AS s)"
    )
    for schema, user in rows(sql, {}):
        raise Invalid(
            f"{server.address}: user {user!r} may not look into schema {schema!r} of `search_path`; "
            f"grant usage on schema {name_of(str(schema))} to {name_of(str(user))}"
        )
