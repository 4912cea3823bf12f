"""The tables as the newest migration leaves them. Times are microseconds since 1970, by the database's clock."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

metadata: Final = MetaData()

runs: Final = Table(
    "runs",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text),
    Column("claims", Integer, nullable=False),
    Column("head_seq", BigInteger, nullable=False),
    Column("head_hash", LargeBinary, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("metadata", Text),
    Column("cancel_requested", Integer, nullable=False, server_default=text("0")),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("not_before", BigInteger),
    Column("deadline_at", BigInteger),
    Column("pruned_at", BigInteger),
    Column("due_at", BigInteger, Computed("COALESCE(not_before, created_at)", persisted=True)),
    # by its bytes, so that a key and all that descend from it are one range of the index
    Column("submitted_by", Text().with_variant(Text(collation="C"), "postgresql")),
    CheckConstraint(
        "status IN ('queued', 'running', 'waiting', 'success', 'error', 'cancelled')", name="runs_status"
    ),
    postgresql_with={"fillfactor": 70},
)
"""One row a run: who may append to it (`epoch`, `owner`), where its chain stands, and what listings need.

`submitted_by` is for whom it counts: the names from the root of a key's line down to who asked, one a line."""

unfinished: Final = runs.c.status.in_(("queued", "running", "waiting"))

# every query that lists runs has one of these to read
Index("runs_newest", runs.c.tenant, runs.c.created_at, runs.c.id)
Index("runs_newest_by_status", runs.c.tenant, runs.c.status, runs.c.created_at, runs.c.id)
Index(
    "runs_unfinished",
    runs.c.status,
    runs.c.due_at,
    sqlite_where=text("finished_at IS NULL"),
    postgresql_where=text("finished_at IS NULL"),
)
Index(
    "runs_waiting_until",
    runs.c.deadline_at,
    sqlite_where=text("status = 'waiting' AND deadline_at IS NOT NULL"),
    postgresql_where=text("status = 'waiting' AND deadline_at IS NOT NULL"),
)
Index(
    "runs_to_prune",
    runs.c.finished_at,
    runs.c.tenant,
    runs.c.id,
    sqlite_where=text("finished_at IS NOT NULL AND pruned_at IS NULL"),
    postgresql_where=text("finished_at IS NOT NULL AND pruned_at IS NULL"),
)

Index(
    "runs_unfinished_by_submitter",
    runs.c.tenant,
    runs.c.submitted_by,
    sqlite_where=text("finished_at IS NULL AND submitted_by IS NOT NULL"),
    postgresql_where=text("finished_at IS NULL AND submitted_by IS NOT NULL"),
)

events: Final = Table(
    "events",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("body", Text, nullable=False),
)
"""The journal. Rows are never changed, and go only when their whole run is pruned; triggers see to it."""

notes: Final = Table(
    "notes",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("proposal_id", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("run_id", Text),
    Column("step", Integer),
    Column("created_at", BigInteger, nullable=False),
)
"""The notes of proposals, numbered from 1 in each. Rows are never changed and never go; triggers see to it."""

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("idempotency_keys_by_run", idempotency_keys.c.tenant, idempotency_keys.c.run_id)
Index("idempotency_keys_oldest", idempotency_keys.c.created_at)

workers: Final = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
)
"""Who is alive, and until when unless it says so again. A process serves every tenant, so it has none."""

run_usage: Final = Table(
    "run_usage",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("model", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("unpriced_calls", BigInteger, nullable=False),
)
"""What the models of a run took on a day (days since 1970, UTC); `cost` in nano-dollars. Pruning leaves it."""

Index("run_usage_by_day", run_usage.c.tenant, run_usage.c.day)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("parent", Text),
    Column("permissions", Text, nullable=False),
    Column("limits", Text),
    Column("digest", LargeBinary, nullable=False),
    Column("former_digest", LargeBinary),
    Column("former_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("rotated_at", BigInteger),
    Column("revoked_at", BigInteger),
)
"""API keys, of which only the HMAC is kept; for a while after a rotation, also that of the secret before."""

# whoever shows a key says its id, and only the row says of which tenant it is
Index("api_keys_by_id", api_keys.c.id, unique=True)
Index(
    "api_keys_by_parent",
    api_keys.c.tenant,
    api_keys.c.parent,
    sqlite_where=text("parent IS NOT NULL"),
    postgresql_where=text("parent IS NOT NULL"),
)

key_pepper: Final = Table(
    "key_pepper",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", LargeBinary, nullable=False),
)
"""Its only row, number 1, says with which pepper the keys were made, so that no process uses another."""

daily_usage: Final = Table(
    "daily_usage",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("steps", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)
"""What counts against the quotas of a day (days since 1970, UTC), by whoever it is counted for."""

Index("daily_usage_oldest", daily_usage.c.day)
