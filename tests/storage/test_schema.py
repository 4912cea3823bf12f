"""The version of a database's tables, and the migrations that make them."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text
from stored_runs import add, another, names

from app.errors import DatabaseVersionError, MissingExtraError
from app.storage import schema, tables
from app.storage.database import Database


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    url = request.getfixturevalue("empty_postgres_url") if request.param == "postgres" else None
    database = Database.open(tmp_path, url, patience_s=5)
    yield database
    database.close()


def set_revision(database: Database, revision: str) -> None:
    statement = text("UPDATE alembic_version SET version_num = :new").bindparams(new=revision)
    database.transact_now(lambda connection: connection.execute(statement))


def table_names(database: Database) -> set[str]:
    return set(database.read_now(lambda connection: inspect(connection).get_table_names()))


def test_the_head_is_that_of_the_scripts() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(schema.SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD_REVISION]


def test_the_migrated_tables_are_those_of_the_code(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def include(_object: object, name: str | None, _kind: str, _reflected: bool, _compared_to: object) -> bool:
        return "procrastinate" not in str(name)

    def differences(connection: Connection) -> object:
        options = {"compare_type": True, "compare_server_default": True, "include_object": include}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, tables.metadata)

    assert database.read_now(differences) == []


def test_what_alembic_does_not_compare_is_the_same_too(database: Database, tmp_path: Path) -> None:
    """Primary keys, checks, and the conditions of partial indexes."""
    columns: dict[str, list[str]] = {
        "runs": ["tenant", "id"],
        "events": ["tenant", "run_id", "seq"],
        "notes": ["tenant", "proposal_id", "number"],
        "idempotency_keys": ["tenant", "key"],
        "workers": ["id"],
        "run_usage": ["tenant", "run_id", "day", "model"],
        "api_keys": ["tenant", "id"],
        "key_pepper": ["number"],
        "daily_usage": ["tenant", "subject", "day"],
    }
    for name, expected in columns.items():
        assert [column.name for column in tables.metadata.tables[name].primary_key] == expected
        found = database.read_now(lambda connection, name=name: inspect(connection).get_pk_constraint(name))
        assert found["constrained_columns"] == expected
    if database.is_sqlite:
        fresh = Database.open(tmp_path)
        tables.metadata.create_all(fresh.write_engine)
        wanted = text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name")
        made, migrated = (
            [(name, " ".join(sql.split())) for name, sql in of.read_now(lambda c: c.execute(wanted).all())]
            for of in (fresh, database)
        )
        fresh.close()
        assert made == migrated
        assert len(made) == 12


def test_an_empty_database_is_upgraded_at_once(empty: Database) -> None:
    assert schema.upgrade(empty) is None
    assert {"runs", "events", "notes", "idempotency_keys", "workers", "run_usage"} < table_names(empty)
    assert ("procrastinate_jobs" in table_names(empty)) is not empty.is_sqlite
    schema.check(empty)
    assert schema.upgrade(empty) == schema.HEAD_REVISION


def test_sqlite_is_upgraded_when_it_is_checked(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    schema.check(database)
    assert add_and_read(database) == ["one"]
    database.close()


def add_and_read(database: Database) -> list[str]:
    database.transact_now(add)
    return names(database)


def test_postgres_is_not_upgraded_by_whoever_happens_to_start(empty_postgres_url: str) -> None:
    database = Database.open(Path(), empty_postgres_url)
    with pytest.raises(DatabaseVersionError, match="llm-agent-core db upgrade"):
        schema.check(database)
    assert table_names(database) == set()
    database.close()


def test_an_older_postgres_names_the_command(postgres_database: Database) -> None:
    set_revision(postgres_database, "0001")
    with pytest.raises(DatabaseVersionError, match=r"version 0001, older .* llm-agent-core db upgrade"):
        schema.check(postgres_database)


def test_a_command_that_only_reads_upgrades_nothing(data_dir: Path, sqlite_database: Database) -> None:
    set_revision(sqlite_database, "0001")
    reader = Database.open(data_dir, readonly=True)
    with pytest.raises(DatabaseVersionError, match="start the server"):
        schema.check(reader)
    reader.close()


def test_an_upgrade_goes_on_from_where_the_database_is(sqlite_database: Database) -> None:
    sqlite_database.transact_now(add)
    sqlite_database.transact_now(tables.run_usage.drop)
    sqlite_database.transact_now(undo_guarding)
    set_revision(sqlite_database, "0001")
    schema.check(sqlite_database)
    assert sqlite_database.read_now(schema.stored_revision) == schema.HEAD_REVISION
    assert names(sqlite_database) == ["one"]


def undo_guarding(connection: Connection) -> None:
    for table in (tables.api_keys, tables.key_pepper, tables.daily_usage):
        table.drop(connection)
    connection.execute(text("DROP INDEX runs_unfinished_by_submitter"))
    connection.execute(text("ALTER TABLE runs DROP COLUMN submitted_by"))


def test_a_newer_database_is_refused(database: Database) -> None:
    set_revision(database, "0999")
    for refused in (schema.check, schema.upgrade):
        with pytest.raises(DatabaseVersionError, match="0999, newer"):
            refused(database)
    set_revision(database, schema.HEAD_REVISION)
    schema.check(database)


def test_the_tables_of_another_program_are_refused(database: Database) -> None:
    set_revision(database, "ae1027a6acf")
    with pytest.raises(DatabaseVersionError, match="another program"):
        schema.check(database)


def test_an_upgrade_that_fails_leaves_nothing(empty: Database) -> None:
    empty.transact_now(lambda connection: connection.execute(text("CREATE TABLE notes (mine text)")))
    with pytest.raises(DatabaseVersionError, match="notes"):
        schema.upgrade(empty)
    assert table_names(empty) == {"notes"}


def test_upgrades_at_once_are_one(empty_postgres_url: str) -> None:
    first = Database.open(Path(), empty_postgres_url)
    with another(first) as second, another(first) as third, ThreadPoolExecutor(3) as pool:
        found = list(pool.map(schema.upgrade, (first, second, third)))
    assert sorted(found, key=str) == sorted([None, schema.HEAD_REVISION, schema.HEAD_REVISION], key=str)
    schema.check(first)
    first.close()


def test_upgrades_at_once_of_one_file_are_one(tmp_path: Path) -> None:
    first, second = Database.open(tmp_path), Database.open(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(schema.upgrade, (first, second)))
    assert sorted(found, key=str) == sorted([None, schema.HEAD_REVISION], key=str)
    first.close()
    second.close()


def test_another_procrastinate_is_refused(postgres_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "PROCRASTINATE_SERIES", "3.9.")
    with pytest.raises(MissingExtraError, match=r"3\.9\.x.*uv sync --extra postgres"):
        schema.upgrade(postgres_database)


def test_procrastinate_finds_its_tables_as_it_wants_them(postgres_database: Database) -> None:
    defer = text(
        "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('q', 'task', 3, NULL, 'lock', '{}', NULL)"
        "::procrastinate_job_to_defer_v1])"
    )
    postgres_database.transact_now(lambda connection: connection.execute(defer).all())
    waiting = text("SELECT task_name, priority, status::text FROM procrastinate_jobs")
    assert postgres_database.read_now(lambda c: c.execute(waiting).all()) == [("task", 3, "todo")]


def test_alembic_is_loaded_only_to_upgrade(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from app.storage import schema; from app.storage.database import Database\n"
        "database = Database.open(Path(sys.argv[1])); schema.check(database); print('alembic' in sys.modules)"
    )
    loaded = [
        subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert loaded == ["True\n", "False\n"]


def test_migrations_import_nothing_of_this_package() -> None:
    for path in schema.SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                assert not str(node.module).startswith(("app", "llm_agent_core")), path


def test_the_scripts_are_found_wherever_the_package_is(tmp_path: Path) -> None:
    strange = tmp_path / "a %(b)s c"
    shutil.copytree(
        Path(schema.__file__).parents[1], strange / "app", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = (
        "from pathlib import Path; from app.storage.database import Database; from app.storage import schema\n"
        "print(schema.upgrade(Database.open(Path())), schema.SCRIPTS)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=strange, capture_output=True, text=True, check=True)
    assert ran.stdout == f"None {strange / 'app/storage/migrations'}\n"
