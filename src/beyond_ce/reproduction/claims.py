"""All claims of conf/claims, with the tables that they are about."""

from __future__ import annotations

from beyond_ce.configuration import CONF_DIR
from beyond_ce.reporting.claims import Claim, load_claims
from beyond_ce.reporting.tables import Table, load_table


def every_claim() -> tuple[list[Claim], dict[str, Table]]:
    """The claims of both papers, and table id -> table of those that they name."""
    tables: dict[str, Table] = {}

    def table_of(table_id: str) -> Table:
        if table_id not in tables:
            tables[table_id] = load_table(CONF_DIR / "table" / f"{table_id}.yaml")
        return tables[table_id]

    files = sorted((CONF_DIR / "claims").glob("*.yaml"))
    return [claim for path in files for claim in load_claims(path, table_of)], tables
