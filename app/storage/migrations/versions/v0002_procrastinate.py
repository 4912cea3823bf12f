"""The tables and functions of Procrastinate 3.10, which carries runs between machines; nothing on SQLite."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"

SERIES = "3.10."


def upgrade() -> None:
    """Apply the schema that the installed package carries, if it is the one that this migration stands for."""
    if op.get_bind().dialect.name == "sqlite":
        return
    installed = version("procrastinate")
    if not installed.startswith(SERIES):
        raise RuntimeError(f"procrastinate {installed} is installed; this migration applies that of {SERIES}x")
    schema = (files("procrastinate") / "sql" / "schema.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(schema.replace("%", "%%"))
