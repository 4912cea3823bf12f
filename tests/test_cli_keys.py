"""`keys`: made, listed, rotated and revoked, also while a server has the data directory."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from app.auth.key_checker import KeyChecker
from app.auth.principal import Account, Limits, Principal
from app.bootstrap.pepper import Peppers
from app.cli import main
from app.config import Settings
from app.errors import UnauthenticatedError
from app.storage.database import Database
from app.storage.keys import SqlKeyStore
from app.storage.lockfile import DirectoryLock
from app.storage.schema import HEAD_REVISION
from app.storage.tables import api_keys

ROOT = Path(__file__).parent.parent
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
KEY = re.compile(r"lac_([0-9a-f]{16})_[0-9a-f]{64}")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


class Said:
    """What a command said: its result, and what it remarked."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.out, self.err = capsys.readouterr()

    @property
    def key(self) -> str:
        assert KEY.fullmatch(self.out.strip())
        return self.out.strip()


def create(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["keys", "create", "--name", "ci", *arguments]) == 0
    return Said(capsys).key


def id_of(key: str) -> str:
    found = KEY.fullmatch(key)
    assert found is not None
    return found[1]


def who(key: str) -> Principal:
    """Say whose the key is, as a server of the data directory here would."""
    settings = Settings()
    database = Database.open(settings.data_dir)
    try:
        return asyncio.run(KeyChecker(SqlKeyStore(database), Peppers(settings)).check(key))
    finally:
        database.close()


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["keys", "list", "--json", *arguments]) == 0
    found: list[dict[str, Any]] = json.loads(Said(capsys).out)["keys"]
    return found


def test_a_key_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--name", "ci"]) == 0
    said = Said(capsys)
    assert said.out == f"{said.key}\n"
    assert "never again" in said.err
    assert said.key not in said.err
    assert main(["keys", "list"]) == 0
    assert main(["keys", "list", "--json"]) == 0
    shown = Said(capsys).out
    assert id_of(said.key) in shown
    assert said.key.rpartition("_")[2] not in shown
    assert who(said.key).permissions.scopes == ("notes:read", "notes:write", "runs:read", "runs:write", "tools:*")


def test_a_key_has_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    key = create(
        capsys,
        *("--tenant", "acme", "--scopes", "runs:read, tools:math,tools:governance_note"),
        *("--rule", "governance_note:proposal_id=PROP-2025-*", "--rule", "math:expression=1*"),
        *("--expires", "2126-01-31", "--rate-limit", "600/minute", "--max-runs", "5"),
        *("--steps-per-day", "70", "--tokens-per-day", "8000"),
    )
    found = who(key)
    assert (found.name, found.tenant) == (f"key:{id_of(key)}", "acme")
    assert found.permissions.scopes == ("runs:read", "tools:governance_note", "tools:math")
    assert [str(rule) for rule in found.permissions.rules] == [
        "governance_note:proposal_id=PROP-2025-*",
        "math:expression=1*",
    ]
    assert found.limits == Limits("600/minute", 5, 70, 8000)
    assert found.expires_at == datetime(2126, 1, 31, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("expires", "after"),
    [("30d", timedelta(days=30)), ("12h", timedelta(hours=12)), ("2126-01-31T06:00:00+02:00", None)],
)
def test_a_key_expires_when_it_was_said(
    capsys: pytest.CaptureFixture[str], expires: str, after: timedelta | None
) -> None:
    ends = who(create(capsys, "--expires", expires)).expires_at
    assert ends is not None
    expected = datetime(2126, 1, 31, 4, tzinfo=UTC) if after is None else datetime.now(UTC) + after
    assert abs(ends - expected.timestamp()) < 60


def test_a_child_has_what_its_parent_has_and_falls_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    parent = create(capsys, "--tenant", "acme", "--scopes", "runs:read,runs:write", "--max-runs", "5")
    child = create(capsys, "--parent", id_of(parent))
    less = create(capsys, "--parent", id_of(parent), "--scopes", "runs:read", "--tenant", "acme")
    assert who(child) == Principal(
        f"key:{id_of(child)}",
        "acme",
        who(parent).permissions,
        Limits(runs=5),
        ancestors=(Account(f"key:{id_of(parent)}", Limits(runs=5)),),
    )
    assert who(less).permissions.scopes == ("runs:read",)
    assert main(["keys", "revoke", id_of(parent)]) == 0
    said = Said(capsys)
    assert said.out == f"key {id_of(parent)}  revoked\n"
    assert "2 seconds" in said.err
    for key in (parent, child, less):
        with pytest.raises(UnauthenticatedError):
            who(key)
    assert {key["state"] for key in listed(capsys)} == {"revoked"}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--scopes", "keys:write"), "Nobody can give"),
        (("--max-runs", "6"), "Nobody can give"),
        (("--expires", "2d"), "Nobody can give"),
        (("--tenant", "other"), "of the tenant acme"),
    ],
)
def test_a_child_that_would_have_more_is_refused(
    capsys: pytest.CaptureFixture[str], more: tuple[str, str], reason: str
) -> None:
    parent = create(capsys, "--tenant", "acme", "--max-runs", "5", "--expires", "1d")
    assert main(["keys", "create", "--name", "child", "--parent", id_of(parent), *more]) == 2
    said = Said(capsys)
    assert said.out == ""
    assert reason in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("--scopes", "runs:delete"),
        ("--rule", "math"),
        ("--tenant", "a b"),
        ("--rate-limit", "fast"),
        ("--expires", "2020-01-01"),
        ("--parent", "f" * 16),
        ("--name", "a\nb"),
    ],
)
def test_what_no_key_can_have_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], wrong: tuple[str, str]
) -> None:
    assert main(["keys", "create", "--name", "ci", *wrong]) == 2
    said = Said(capsys)
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert listed(capsys) == []


@pytest.mark.parametrize(
    "wrong",
    [
        ["create"],
        ["create", "--name", "ci", "--expires", "soon"],
        ["create", "--name", "ci", "--max-runs", "0"],
        ["rotate", "f" * 16, "--overlap", "1w"],
    ],
)
def test_what_cannot_be_read_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["keys", *wrong])


def test_a_rotated_key_goes_on_for_as_long_as_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    first = create(capsys)
    assert main(["keys", "rotate", id_of(first), "--overlap", "1h"]) == 0
    said = Said(capsys)
    second = said.key
    assert ("never again" in said.err, "2 seconds" in said.err) == (True, True)
    assert who(first).permissions == who(second).permissions
    assert main(["keys", "rotate", id_of(first), "--json"]) == 0
    third = json.loads(Said(capsys).out)["key"]
    for ended in (first, second):
        with pytest.raises(UnauthenticatedError):
            who(ended)
    assert who(third)
    (only,) = listed(capsys)
    assert only["rotated_at"] is not None


def test_keys_are_listed_by_tenant(capsys: pytest.CaptureFixture[str]) -> None:
    ours = create(capsys, "--rule", "math:expression=\x1b[31m*")
    create(capsys, "--tenant", "acme", "--expires", "1d")
    assert [key["tenant"] for key in listed(capsys)] == ["acme", "default"]
    assert [key["id"] for key in listed(capsys, "--tenant", "default")] == [id_of(ours)]
    assert main(["keys", "list"]) == 0
    lines = Said(capsys).out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{id_of(ours)}  holds     default  ci  until -  ")
    assert lines[1].endswith("tools:* [math:expression=\\x1b[31m*]")


def test_a_list_says_what_limits_a_key_has_and_what_it_falls_with(capsys: pytest.CaptureFixture[str]) -> None:
    parent = create(capsys, "--rate-limit", "6/minute", "--max-runs", "1", "--steps-per-day", "2")
    create(capsys, "--parent", id_of(parent), "--scopes", "tools:math", "--tokens-per-day", "9")
    assert main(["keys", "list"]) == 0
    child, root = sorted(Said(capsys).out.splitlines(), key=lambda line: parent[4:20] == line[:16])
    assert root.endswith("tools:*  6/minute  1 runs  2 steps/day")
    assert child.endswith(f"tokens/day  from {id_of(parent)}")


def test_an_unknown_key_is_said_to_be_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys)
    for action in ("revoke", "rotate"):
        assert main(["keys", action, "f" * 16]) == 2
        assert "There is no key" in Said(capsys).err


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Database]:
    """The data directory here, held by a server that has its database open."""
    assert main(["db", "upgrade"]) == 0
    lock = DirectoryLock.acquire(Path("data"), "a server")
    database = Database.open(tmp_path / "data", patience_s=5)
    yield database
    database.close()
    lock.release()


def test_keys_are_changed_beside_a_server(served: Database, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    checker = KeyChecker(SqlKeyStore(served), Peppers(Settings()))
    key = create(capsys)
    assert asyncio.run(checker.check(key)).name == f"key:{id_of(key)}"
    assert len(listed(capsys)) == 1
    assert main(["keys", "rotate", id_of(key)]) == 0
    rotated = Said(capsys).key
    assert asyncio.run(checker.check(rotated))
    assert main(["keys", "revoke", id_of(key)]) == 0
    for ended in (key, rotated):
        with pytest.raises(UnauthenticatedError):
            asyncio.run(checker.check(ended))


def test_nothing_is_upgraded_beside_a_server(served: Database, capsys: pytest.CaptureFixture[str]) -> None:
    served.transact_now(
        lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num='0003'")
    )
    served.transact_now(api_keys.drop)
    capsys.readouterr()
    assert main(["keys", "create", "--name", "ci"]) == 2
    assert "tables of version 0003, older" in Said(capsys).err
    found = served.read_now(
        lambda connection: connection.exec_driver_sql("SELECT * FROM alembic_version").scalar_one()
    )
    assert found == "0003" != HEAD_REVISION


def test_a_server_with_another_pepper_says_why_it_does_not_start_and_nothing_after_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(capsys)
    here = {"DATA_DIR": str(tmp_path / "data"), "KEY_PEPPER": "0123456789abcdef0123456789abcdef"}
    for environment in ("development", "production"):
        ended = subprocess.run(
            [sys.executable, "-m", "app.cli", "serve", "--port", "0"],
            cwd=tmp_path,
            env={**os.environ, **here, "ENVIRONMENT": environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert ended.returncode == 2
        (said,) = ended.stderr.splitlines()
        assert "another pepper" in said


def test_a_key_with_another_pepper_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = create(capsys)
    monkeypatch.setenv("KEY_PEPPER", "0123456789abcdef0123456789abcdef")
    for command in (["create", "--name", "ci"], ["rotate", id_of(key)]):
        assert main(["keys", *command]) == 2
        assert "another pepper" in Said(capsys).err
    assert main(["keys", "revoke", id_of(key)]) == 0
    capsys.readouterr()
    assert who(create(capsys))


def test_keys_are_made_over_postgres(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    monkeypatch.setenv("KEY_PEPPER", "0123456789abcdef0123456789abcdef")
    key = create(capsys)
    assert [found["id"] for found in listed(capsys)] == [id_of(key)]
    assert main(["keys", "rotate", id_of(key), "--overlap", "10m"]) == 0
    assert main(["keys", "revoke", id_of(key)]) == 0
    assert not Path("data").exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a real server that wants a key, whose data directory is `data` here."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py")],
        cwd=tmp_path,
        env={**os.environ, "PORT": "0", "LOG_LEVEL": "WARNING", "AUTHENTICATION": "required"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        found = next(filter(None, (ADDRESS.search(line) for line in process.stderr)), None)
        assert found, "the server did not start"
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def status_of(address: str, key: str) -> int:
    request = urllib.request.Request(f"{address}/api/v1/tools", headers={"X-API-Key": key})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_running_server_takes_a_key_at_once_and_drops_it_soon(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = create(capsys)
    assert status_of(server, key) == 200
    assert status_of(server, key[:-1] + ("0" if key[-1] != "0" else "1")) == 401
    assert main(["keys", "revoke", id_of(key)]) == 0
    give_up_at = monotonic() + 2.5
    while status_of(server, key) == 200:
        assert monotonic() < give_up_at
    assert status_of(server, key) == 401


@pytest.mark.parametrize("scopes", ["", " ", ","])
def test_an_empty_list_of_scopes_is_no_key(scopes: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What an unset variable of a shell becomes, which must not come to mean the usual scopes."""
    with pytest.raises(SystemExit) as ended:
        main(["keys", "create", "--name", "ci", "--scopes", scopes])
    assert ended.value.code == 2
    assert "--scopes" in Said(capsys).err


def test_a_database_that_is_made_for_the_key_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who is in another directory than the server makes a key that nobody knows of."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "elsewhere"))
    for is_made in (True, False):
        assert main(["keys", "create", "--name", "ci"]) == 0
        said = Said(capsys)
        assert (f"{tmp_path / 'elsewhere' / 'agent-core.db'} was made" in said.err) is is_made
        assert said.key


def test_an_empty_tenant_is_not_the_default_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--name", "ci", "--tenant", ""]) == 2
    said = Said(capsys)
    assert "names no tenant" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (("--rule", "maths:expression=2*"), "there is no tool 'maths' here"),
        (("--scopes", "tools:maths"), "there is no tool 'maths' here"),
        (("--rule", "math:expr=2*"), "math takes no argument 'expr'"),
    ],
)
def test_a_slip_in_a_name_is_remarked(
    arguments: tuple[str, ...], warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "create", "--name", "ci", *arguments]) == 0
    said = Said(capsys)
    assert warning in said.err
    assert KEY.fullmatch(said.out.strip())


def test_names_that_there_are_are_not_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    rule = "governance_note:proposal_id=PROP-2025-*"
    assert main(["keys", "create", "--name", "ci", "--scopes", "tools:*,tools:math", "--rule", rule]) == 0
    assert "warning" not in Said(capsys).err


def test_who_has_a_whole_key_at_hand_can_revoke_it_and_never_sees_its_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = create(capsys)
    assert main(["keys", "revoke", key]) == 0
    said = Said(capsys)
    unknown = f"lac_{'0' * 16}_{key[-64:]}"
    assert main(["keys", "revoke", unknown]) == 2
    after = Said(capsys)
    for told in (said.out, said.err, after.out, after.err):
        assert key[-64:-48] not in told
    assert id_of(key) in said.out
