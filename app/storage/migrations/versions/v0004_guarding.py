"""Who may do what, and how much: API keys, the pepper they were made with, quotas, and who submitted a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables, and the column."""
    create_keys()
    op.create_table(
        "daily_usage",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("steps", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
    op.create_index("daily_usage_oldest", "daily_usage", ["day"])
    # ordered by its bytes, whatever the database's collation is, so that a line of keys is one range of the index
    path = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("runs", sa.Column("submitted_by", path))
    create_partial_index(
        "runs_unfinished_by_submitter",
        "runs",
        ["tenant", "submitted_by"],
        "finished_at IS NULL AND submitted_by IS NOT NULL",
    )


def create_keys() -> None:
    """Create `api_keys` with its indexes, and `key_pepper`."""
    op.create_table(
        "api_keys",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("parent", sa.Text),
        sa.Column("permissions", sa.Text, nullable=False),
        sa.Column("limits", sa.Text),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("former_digest", sa.LargeBinary),
        sa.Column("former_until", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("rotated_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_index("api_keys_by_id", "api_keys", ["id"], unique=True)
    create_partial_index("api_keys_by_parent", "api_keys", ["tenant", "parent"], "parent IS NOT NULL")
    op.create_table(
        "key_pepper",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    )


def create_partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    """Create an index of those rows of a table that satisfy a condition."""
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
