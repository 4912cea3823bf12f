"""The ten lines of docs/operations.md, carried out as far as that goes without containers.

What compose would start is started here with the commands and variables that compose.yaml gives, over a Postgres
whose role and database the script of its image has made.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
import pytest
import yaml
from postgres import PostgresServer

from app.config import Settings
from app.storage.migrations.versions.v0005_row_level_security import TABLES

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))[
    "services"
]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
LINES = re.findall(r"ten lines:\n\n```bash\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()
COMMAND = str(Path(sys.executable).with_name("llm-agent-core"))
START_S = 30.0

_RUN = "docker compose run --rm -T migrate"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the second line writes into `.env`."""
    folder = tmp_path_factory.mktemp("deploy")
    subprocess.run(["bash", "-c", LINES[1]], cwd=folder, check=True)
    path = folder / ".env"
    assert path.stat().st_mode & 0o777 == 0o600
    return dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def database(postgres: PostgresServer, secrets: dict[str, str]) -> Iterator[str]:
    """Return the URL of the database that the image's script makes when it starts for the first time."""
    where = {"PGHOST": str(postgres.directory), "PATH": f"{postgres.binaries}:{os.environ['PATH']}"}
    try:
        subprocess.run(["sh", DEPLOY / "postgres/10-role.sh"], env={**os.environ, **secrets, **where}, check=True)
        yield f"@/agents?host={postgres.directory}"
    finally:
        postgres.drop("agents")
        postgres.execute("DROP ROLE IF EXISTS agents")


@pytest.fixture(scope="module")
def environment(secrets: dict[str, str], database: str) -> dict[str, str]:
    """The variables of our services, with the database where it is here."""
    given = {
        name: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: secrets[found[1]], str(value))
        for name, value in SERVICES["migrate"]["environment"].items()
    }
    assert given["DATABASE_URL"].endswith("@postgres:5432/agents")
    given["DATABASE_URL"] = given["DATABASE_URL"].replace("@postgres:5432/agents", database)
    ours = {name.upper() for name in Settings.model_fields}
    rest = {name: value for name, value in os.environ.items() if name.upper() not in ours}
    return {**rest, **given, "HOST": "127.0.0.1", "METRICS_HOST": "127.0.0.1"}


def command_of(service: str, given: str = "") -> list[str]:
    """Return what a container of ours runs: what is given, what compose says, or what the image does."""
    words = shlex.split(given) or SERVICES[service].get("command", ["python", "main.py"])
    program = {"llm-agent-core": [COMMAND], "python": [sys.executable, str(ROOT / words[1])]}[words[0]]
    return [*program, *words[len(program) :]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def start(service: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start what a container of ours would run; what it says is in a file that is called as the service."""
    with (folder / service).open("wb") as log:
        return subprocess.Popen(command_of(service), env=environment, cwd=folder, stderr=log)


def answer_of(curl: str, port: int, key: str) -> tuple[int, Any]:
    """Carry out a line with curl; return the status, and the JSON of the answer."""
    words = shlex.split(curl.replace("$KEY", key))
    assert words[0] == "curl"
    (url,) = (word for word in words if word.startswith("http://"))
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    data = words[words.index("-d") + 1].encode() if "-d" in words else None
    request = urllib.request.Request(url.replace(":8000/", f":{port}/"), data, headers)
    try:
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_until_healthy(service: str, ports: dict[int, int], process: subprocess.Popen[bytes]) -> None:
    """Ask as compose does, until the answer is yes."""
    how, program, *check = SERVICES[service]["healthcheck"]["test"]
    assert (how, program) == ("CMD", "python")
    for shown, real in ports.items():
        check = [word.replace(f":{shown}/", f":{real}/") for word in check]
    give_up_at = monotonic() + START_S
    while subprocess.run([sys.executable, *check], stderr=subprocess.DEVNULL, check=False).returncode:
        assert process.poll() is None, service
        assert monotonic() < give_up_at, service
        sleep(0.05)


def test_they_are_ten() -> None:
    assert len(LINES) == 10
    assert [line.split(" ")[0] for line in LINES].count("curl") == 3
    assert "\n".join(["```bash", *LINES, "```"]) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_secrets_are_all_that_compose_asks_for(secrets: dict[str, str]) -> None:
    shown = (DEPLOY / ".env.example").read_text(encoding="utf-8")
    assert set(secrets) == set(re.findall(r"^(\w+)=$", shown, re.MULTILINE))
    assert len(set(secrets.values())) == len(secrets)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in secrets.values())


@pytest.mark.usefixtures("database")
def test_the_role_of_the_service_is_nobody_special(postgres: PostgresServer) -> None:
    with closing(psycopg.connect(postgres.admin_url())) as connection:
        found = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolpassword IS NOT NULL"
            " FROM pg_authid WHERE rolname = 'agents'"
        ).fetchone()
    assert found == (False, False, False, False, True)


def test_they_lead_to_a_guarded_observed_deployment(
    environment: dict[str, str], postgres: PostgresServer, tmp_path: Path
) -> None:
    migrate, create, up, ready, refused, asked, watched = LINES[3:]
    assert migrate == _RUN
    assert up == "docker compose up --detach"
    said = subprocess.run(command_of("migrate"), env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert b"The tables are of version" in said.stdout

    given = re.fullmatch(rf"KEY=\$\({_RUN} (.*)\)", create)
    assert given
    made = subprocess.run(
        command_of("migrate", given[1]), env=environment, cwd=tmp_path, capture_output=True, check=True, text=True
    )
    key = made.stdout.strip()

    api, *metrics = (free_port() for _ in range(3))
    processes = {
        name: start(name, {**environment, "PORT": str(api), "METRICS_PORT": str(port)}, tmp_path)
        for name, port in zip(("api", "worker"), metrics, strict=True)
    }
    try:
        for (name, process), port in zip(processes.items(), metrics, strict=True):
            wait_until_healthy(name, {8000: api, 9464: port}, process)
        assert answer_of(ready, api, key) == (200, {"status": "ready"})
        status, problem = answer_of(refused, api, key)
        assert (status, problem["code"]) == (401, "unauthenticated")
        status, run = answer_of(asked, api, key)
        assert (status, run["output"]) == (200, "Calculation result: 42 (from 6*7)")
        assert "sum by (role) (up)" in watched
        for port in metrics:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=START_S) as answer:
                assert "agent_core_database_up 1.0" in answer.read().decode()
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(60)
    assert key not in "".join((tmp_path / name).read_text() for name in processes)
    assert "lac_" not in (tmp_path / "api").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"api", "worker"}, (
        "a read-only container has room for this"
    )
    check_what_psql_and_pg_dump_see(environment["DATABASE_URL"], postgres, tmp_path)


def check_what_psql_and_pg_dump_see(url: str, server: PostgresServer, folder: Path) -> None:
    (dump,) = re.findall(r"^(PGOPTIONS=.* pg_dump .*)$", PAGE, re.MULTILINE)
    (said,) = re.findall(r"^(SET agent_core\.tenant = ')acme';", PAGE, re.MULTILINE)
    with closing(psycopg.connect(url)) as connection:
        for tenant, seen in (("", 0), ("acme", 0), ("default", 1), ("*", 1)):
            connection.execute(f"{said}{tenant}'".encode())
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (seen,), tenant
    where = {**os.environ, "DATABASE_URL": url, "PATH": f"{server.binaries}:{os.environ['PATH']}"}
    plain = dump.split("' ", 1)[1].replace("--enable-row-security ", "")
    refused = subprocess.run(["sh", "-c", plain], env=where, cwd=folder, capture_output=True, check=False)
    assert b"row-level security" in refused.stderr
    subprocess.run(["sh", "-c", dump], env=where, cwd=folder, check=True)
    listed = subprocess.run(
        [server.binaries / "pg_restore", "--data-only", "--file=-", "agents.dump"],
        cwd=folder,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    rows = dict(re.findall(r"COPY public\.(\w+) .*? FROM stdin;\n(.*?)\\\.", listed, re.DOTALL))
    assert set(TABLES) <= set(rows)
    assert all(rows[table] for table in ("runs", "events", "api_keys"))
