"""The journal: runs, events, notes, keys and workers, and the triggers that keep what is written as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SQLITE_TRIGGERS = (
    """
    CREATE TRIGGER events_never_change BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
    """,
    """
    CREATE TRIGGER events_go_when_pruned BEFORE DELETE ON events
    WHEN (SELECT pruned_at FROM runs WHERE tenant = OLD.tenant AND id = OLD.run_id) IS NULL
    BEGIN SELECT RAISE(ABORT, 'events are append-only, until their run is pruned'); END
    """,
    # INSERT OR REPLACE deletes without asking the trigger above
    """
    CREATE TRIGGER events_are_never_replaced BEFORE INSERT ON events
    WHEN EXISTS (SELECT 1 FROM events WHERE tenant = NEW.tenant AND run_id = NEW.run_id AND seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
    """,
    """
    CREATE TRIGGER notes_never_change BEFORE UPDATE ON notes
    BEGIN SELECT RAISE(ABORT, 'notes are append-only'); END
    """,
    """
    CREATE TRIGGER notes_never_go BEFORE DELETE ON notes
    BEGIN SELECT RAISE(ABORT, 'notes are append-only'); END
    """,
    """
    CREATE TRIGGER notes_are_never_replaced BEFORE INSERT ON notes
    WHEN EXISTS (
        SELECT 1 FROM notes
        WHERE tenant = NEW.tenant AND proposal_id = NEW.proposal_id AND number = NEW.number
    )
    BEGIN SELECT RAISE(ABORT, 'notes are append-only'); END
    """,
)

POSTGRES_TRIGGERS = (
    """
    CREATE FUNCTION refuse_to_change_the_journal() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% are append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END
    $$
    """,
    """
    CREATE FUNCTION refuse_to_delete_unpruned_events() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM 1 FROM runs WHERE tenant = OLD.tenant AND id = OLD.run_id AND pruned_at IS NOT NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'events are append-only, until their run is pruned'
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN OLD;
    END
    $$
    """,
    """
    CREATE TRIGGER events_never_change BEFORE UPDATE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change_the_journal()
    """,
    """
    CREATE TRIGGER events_go_when_pruned BEFORE DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_to_delete_unpruned_events()
    """,
    """
    CREATE TRIGGER events_are_never_truncated BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_the_journal()
    """,
    """
    CREATE TRIGGER notes_never_change BEFORE UPDATE OR DELETE ON notes
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change_the_journal()
    """,
    """
    CREATE TRIGGER notes_are_never_truncated BEFORE TRUNCATE ON notes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_the_journal()
    """,
)


def upgrade() -> None:
    """Create everything."""
    create_runs()
    create_the_rest()
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for trigger in SQLITE_TRIGGERS if is_sqlite else POSTGRES_TRIGGERS:
        op.execute(trigger)


def create_runs() -> None:
    """Create `runs` and its indexes."""
    op.create_table(
        "runs",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("claims", sa.Integer, nullable=False),
        sa.Column("head_seq", sa.BigInteger, nullable=False),
        sa.Column("head_hash", sa.LargeBinary, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("metadata", sa.Text),
        sa.Column("cancel_requested", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("deadline_at", sa.BigInteger),
        sa.Column("pruned_at", sa.BigInteger),
        sa.Column("due_at", sa.BigInteger, sa.Computed("COALESCE(not_before, created_at)", persisted=True)),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'waiting', 'success', 'error', 'cancelled')", name="runs_status"
        ),
        # every append moves the head: room on the page lets Postgres do that without touching an index
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("runs_newest", "runs", ["tenant", "created_at", "id"])
    op.create_index("runs_newest_by_status", "runs", ["tenant", "status", "created_at", "id"])
    create_partial_index("runs_unfinished", ["status", "due_at"], "finished_at IS NULL")
    create_partial_index("runs_waiting_until", ["deadline_at"], "status = 'waiting' AND deadline_at IS NOT NULL")
    create_partial_index(
        "runs_to_prune", ["finished_at", "tenant", "id"], "finished_at IS NOT NULL AND pruned_at IS NULL"
    )


def create_partial_index(name: str, columns: list[str], where: str) -> None:
    """Create an index of those rows of `runs` that satisfy a condition."""
    op.create_index(name, "runs", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def create_the_rest() -> None:
    """Create the other tables and their indexes."""
    op.create_table(
        "events",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("prev_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("proposal_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("step", sa.Integer),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("idempotency_keys_by_run", "idempotency_keys", ["tenant", "run_id"])
    op.create_index("idempotency_keys_oldest", "idempotency_keys", ["created_at"])
    op.create_table(
        "workers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
