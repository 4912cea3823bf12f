"""README is code: its blocks run, its calls answer as shown, its tables are true, its links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest
from starlette.testclient import TestClient

from app import errors
from app.agent.core import MAX_CONTEXT_CHARS, MAX_GOAL_CHARS, Agent
from app.agent.toolbox import MAX_OUTPUT_BYTES
from app.api.errors import HTTP_CODES, PROBLEM_TYPE, status_of
from app.api.openapi import PROBLEMS
from app.api.strict import MAX_BODY_BYTES
from app.blocking import MAX_THREADS
from app.config import Settings
from app.jsonvalue import MAX_DEPTH, MAX_INTEGER_DIGITS
from app.main import create_app
from app.storage.lockfile import DirectoryLock
from app.tools.base import tool_registry
from app.tools.governance import GovernanceNoteStore, GovernanceNoteTool

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md")] + sorted(ROOT.glob("docs/**/*.md"))

COMMAND = Path(sys.executable).with_name("llm-agent-core" + Path(sys.executable).suffix)
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
KEY = re.compile(r"lac_([0-9a-f]{16})_[0-9a-f]{64}")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block, the line it opens on, and the block that follows it with nothing in between, if any."""

    language: str
    text: str
    line: int
    answer: Block | None


def read_blocks() -> list[Block]:
    found: list[Block] = []
    following: tuple[int, Block] | None = None
    for match in reversed(list(FENCE.finditer(README))):
        answer = following[1] if following and README[match.end() : following[0]].isspace() else None
        block = Block(match[1], match[2], README.count("\n", 0, match.start()) + 1, answer)
        following = match.start(), block
        found.insert(0, block)
    return found


BLOCKS = read_blocks()
SCRIPTS = [block for block in BLOCKS if block.language == "python" and not block.text.startswith("# ")]
FILES = {
    block.text.splitlines()[0].removeprefix("# "): block.text
    for block in BLOCKS
    if block.language == "python" and block.text.startswith("# ")
}
CONSOLES = [block for block in BLOCKS if block.language == "console"]
CALLS = [block for block in BLOCKS if block.language == "bash" and block.text.startswith("curl ")]
(SCALING,) = [block for block in BLOCKS if "llm-agent-core worker &" in block.text]


def where(block: Block) -> str:
    return f"README.md:{block.line}"


def clean_environment(**more: str) -> dict[str, str]:
    """The environment as a newcomer has it: none of our settings."""
    ours = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name.upper() not in ours} | more


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's own modules that the README shows."""
    home = tmp_path_factory.mktemp("readme")
    for name, text in FILES.items():
        if not name.startswith("app/"):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text, encoding="utf-8")
    return home


def run(command: list[str | Path], folder: Path, data: Path, **environment: str) -> str:
    """Run a command in `folder` with the data directory `data`, and return all that it printed."""
    environment.setdefault("DATA_DIR", str(data))
    ran = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(PYTHONPATH=str(folder), PYTHONIOENCODING="utf-8", **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return ran.stdout


def test_the_readme_has_the_blocks_that_this_file_means_to_run() -> None:
    assert len(SCRIPTS) >= 6
    assert set(FILES) == {"my_pkg/tools.py", "app/main.py"}
    assert len(CONSOLES) >= 4
    assert len(CALLS) >= 6
    assert {block.language for block in BLOCKS} == {"python", "console", "bash", "json", "text"}


@pytest.mark.parametrize("block", SCRIPTS, ids=where)
def test_a_python_block_prints_what_is_shown_below_it(block: Block, folder: Path, tmp_path: Path) -> None:
    assert block.answer is not None
    assert block.answer.language == "text"
    script = folder / f"block_{block.line}.py"
    script.write_text(block.text, encoding="utf-8")
    assert run([sys.executable, "-W", "error", script], folder, tmp_path) == block.answer.text


@pytest.mark.parametrize("block", CONSOLES, ids=where)
def test_a_console_block_is_what_the_terminal_shows(block: Block, folder: Path, tmp_path: Path) -> None:
    for session in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, printed = session.partition("\n")
        words = shlex.split(line)
        settings = {}
        while "=" in words[0]:
            name, _, settings[name] = words.pop(0).partition("=")
        assert words[0] == "llm-agent-core"
        assert run([COMMAND, *words[1:]], folder, tmp_path, **settings) == printed


def request_of(command: str) -> tuple[str, str, dict[str, str], str | None]:
    """Read a curl command: its method, path, headers and body."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words.pop(0) == "curl"
    address, method, headers, body = "", None, {}, None
    while words:
        match words.pop(0):
            case "-s" | "-sN":
                pass
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(":")
                headers[name] = value.strip()
            case "-d":
                body = words.pop(0)
            case word:
                address = word
    assert address.startswith("http://127.0.0.1:8000/")
    method = method or ("GET" if body is None else "POST")
    return method, address.removeprefix("http://127.0.0.1:8000"), headers, body


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A service as it is after it has started for the first time."""
    with TestClient(create_app(Settings(_env_file=None, data_dir=tmp_path / "data"))) as connected:
        yield connected


def masked(value: Any) -> Any:
    """The answer without what differs from run to run, once it has been seen to be of the right form."""
    match value:
        case dict():
            return {key: masked_field(key, item) for key, item in value.items()}
        case list():
            return [masked(item) for item in value]
    return value


def masked_field(key: str, value: Any) -> Any:
    match key:
        case "run_id":
            assert uuid.UUID(value).version == 7
            return "a run id"
        case "key":
            assert KEY.fullmatch(value)
            return "a key"
        case "id":
            assert re.fullmatch("[0-9a-f]{16}", value)
            return "the id of a key"
        case "timestamp" | "created_at" | "started_at" | "finished_at" if value is not None:
            assert TIMESTAMP.fullmatch(value)
            return "a time"
        case "head_hash":
            assert re.fullmatch("[0-9a-f]{64}", value)
            return "a hash"
        case "detail":
            return RUN_ID.sub("a run id", value)
    return masked(value)


def masked_stream(text: str) -> str:
    return TIMESTAMP.sub("a time", RUN_ID.sub("a run id", text))


def test_each_curl_call_answers_as_shown(client: TestClient) -> None:
    real_ids: dict[str, str] = {}
    real_keys: dict[str, str] = {}
    for block in CALLS:
        assert block.answer is not None, where(block)
        method, path, headers, body = request_of(block.text)
        path = RUN_ID.sub(lambda shown: real_ids[shown[0]], path)
        headers = {name: KEY.sub(lambda shown: real_keys[shown[0]], value) for name, value in headers.items()}
        response = client.request(method, path, headers=headers, content=body)
        if block.answer.language == "text":
            assert masked_stream(response.text) == masked_stream(block.answer.text), where(block)
            continue
        expected, answer = json.loads(block.answer.text), response.json()
        assert response.status_code == status_shown(method, path, expected), where(block)
        if expected.get("type"):
            assert response.headers["content-type"] == PROBLEM_TYPE
        assert masked(answer) == masked(expected), where(block)
        if path == "/api/v1/keys":
            real_keys[expected["key"]] = answer["key"]
            assert expected["id"] in expected["key"]
        if path == "/api/v1/runs" and method == "POST":
            assert real_ids.setdefault(expected["run_id"], answer["run_id"]) == answer["run_id"], "another run"
            wait_for_end(client, answer["run_id"])


def status_shown(method: str, path: str, answer: dict[str, Any]) -> int:
    if answer.get("type"):
        return int(answer["status"])
    return {"POST /api/v1/runs": 202, "POST /api/v1/keys": 201}.get(f"{method} {path}", 200)


def wait_for_end(client: TestClient, run_id: str) -> None:
    """Read the run's stream, which ends with it."""
    client.get(f"/api/v1/runs/{run_id}/events", headers={"Accept": "text/event-stream"})


def rows(*header: str) -> list[list[str]]:
    """Return the cells of the one table with this header."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines()]
    starts = [index for index, row in enumerate(cells) if row == list(header)]
    assert len(starts) == 1, f"{len(starts)} tables have the header {header}"
    table = []
    for line, row in zip(README.splitlines()[starts[0] + 2 :], cells[starts[0] + 2 :], strict=True):
        if not line.startswith("|"):
            break
        table.append(row)
    return table


def code(cell: str) -> str:
    return cell.removeprefix("`").removesuffix("`")


def leaves(root: type[errors.AgentCoreError]) -> list[type[errors.AgentCoreError]]:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, root)]
    return [kind for kind in kinds if not kind.__subclasses__()]


def test_the_table_of_problems_is_the_one_in_the_program() -> None:
    shown = [(code(name), int(status)) for name, status, _ in rows("code", "status", "when")]
    known = {(kind.code, int(status_of(kind))) for kind in leaves(errors.CallerError)}
    known -= {(errors.RunningLoopError.code, 500)}  # the library's alone
    known -= {(errors.InvalidBundleError.code, 422)}  # the command line's alone
    known |= {(errors.StorageUnavailableError.code, int(status_of(errors.StorageUnavailableError)))}
    known |= {(name, status) for status, name in HTTP_CODES.items()}
    known |= {
        (name, PROBLEMS[name][0]) for name in ("invalid_request", "internal_error", "not_ready", "unknown_host")
    }
    known |= {(errors.IdentityProviderError.code, int(status_of(errors.IdentityProviderError)))}
    assert sorted(shown) == sorted(known)
    assert [status for _, status in shown] == sorted(status for _, status in shown)


def test_the_table_of_step_errors_is_the_one_in_the_program() -> None:
    known = {kind.code for kind in leaves(errors.StepError)} - {errors.StepError.code}
    known.add(errors.ToolRejected("").code)
    assert {code(name) for name, _ in rows("code", "when")} == known


def test_the_table_of_settings_has_real_ones_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {code(name): code(default) for name, default, _ in rows("variable", "default", "meaning")}
    names = [name.lower() for name in table]
    assert names == [name for name in Settings.model_fields if name in names]
    for name, default in table.items():
        monkeypatch.setenv(name, default)
    defaults = {name: field.get_default() for name, field in Settings.model_fields.items()}
    assert Settings(_env_file=None).model_dump() == defaults


def test_the_table_of_tools_is_what_the_service_lists(client: TestClient) -> None:
    listed = client.get("/api/v1/tools").json()["tools"]
    shown = [[code(name), code(effect)] for name, effect, _ in rows("tool", "effect", "what it does")]
    assert shown == [[tool["name"], tool["effect"]] for tool in listed]


def test_the_table_of_routes_is_what_the_service_has(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    real = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    shown = [code(route).replace(" ", " /api/v1", 1) for route, _ in rows("route", "what it does")]
    assert [route.replace("/api/v1/metrics", "/metrics") for route in shown] == real


def test_the_table_of_commands_is_the_one_in_the_program(folder: Path, tmp_path: Path) -> None:
    shown: dict[str, set[str]] = {}
    for cell, _ in rows("command", "what it does"):
        for command in re.findall("`(.*?)`", cell):
            name, *rest = command.split()
            shown.setdefault(name, set()).update(rest[:1] if rest and rest[0].islower() else [])
    real = listed_commands([], folder, tmp_path)
    assert set(shown) == real
    for name, actions in shown.items():
        assert actions == (listed_commands([name], folder, tmp_path) if actions else set()), name


def listed_commands(of: list[str], folder: Path, data: Path) -> set[str]:
    printed = run([COMMAND, *of, "--help"], folder, data)
    return set(re.findall(r"^    (\w+) ", printed, re.MULTILINE))


def test_the_offline_planner_answers_as_the_table_shows() -> None:
    tool_registry.register(GovernanceNoteTool(store=GovernanceNoteStore()))
    agent = Agent()
    for goal, answer in rows("goal", "answer"):
        shown = "\n".join(code(line) for line in answer.split("<br>"))
        assert agent.run(code(goal)).output == shown, goal


def test_the_limits_are_the_ones_in_the_program() -> None:
    for stated in (
        f"at most {MAX_GOAL_CHARS:,} characters",
        f"at most {MAX_CONTEXT_CHARS:,} characters",
        f"larger than {MAX_BODY_BYTES // 1024**2} MiB",
        f"more than {MAX_DEPTH} levels",
        f"{MAX_OUTPUT_BYTES // 1024} KiB",
        f"{MAX_THREADS} calls",
        f"more than {MAX_INTEGER_DIGITS:,} digits",
    ):
        assert stated in " ".join(README.split()), stated


def test_a_port_in_use_is_reported_as_shown(folder: Path, tmp_path: Path) -> None:
    shown = next(block.text for block in BLOCKS if "Cannot listen" in block.text)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        printed = run([COMMAND, "serve"], folder, tmp_path, PORT=str(port))
    reason = re.compile(r"(?<=\d: )[^.]*")  # the operating system's own words
    assert reason.search(shown)
    expected = shown.replace("8001", str(port + 1)).replace("8000", str(port))
    assert reason.sub("", printed) == reason.sub("", expected)


def test_a_data_directory_in_use_is_reported_as_shown(folder: Path, tmp_path: Path) -> None:
    shown = next(block.text for block in BLOCKS if "is in use by process" in block.text)
    with DirectoryLock.acquire(tmp_path, "llm-agent-core"):
        printed = run([COMMAND, "serve"], folder, tmp_path, PORT="0")
    expected = shown.replace("DATA_DIR: data", f"DATA_DIR: {tmp_path}").replace("4242", str(os.getpid()))
    assert masked_stream(printed) == masked_stream(expected)


def test_the_four_commands_spread_it_over_workers_and_postgres(
    folder: Path, tmp_path: Path, empty_postgres_url: str
) -> None:
    postgres, upgrade, workers, server = SCALING.text.splitlines()
    assert postgres.startswith("export DATABASE_URL=$(")
    assert server == "uv run main.py"
    given = {"DATABASE_URL": empty_postgres_url, "PORT": "0"}
    assert "version" in run(in_the_environment(upgrade), folder, tmp_path, **given)
    started = [
        subprocess.Popen(command, cwd=tmp_path, env=clean_environment(**given), stderr=subprocess.PIPE, text=True)
        for command in (
            *(in_the_environment(worker) for worker in workers.split("&") if worker),
            [sys.executable, ROOT / "main.py"],
        )
    ]
    try:
        said = [process.stderr.readline() for process in started if process.stderr]
        assert [line.startswith("llm-agent-core worker: waiting for runs") for line in said] == [True, True, False]
        address = re.search(r"http://[\d.:]+", said[2])
        assert address, said
        body = json.dumps({"goal": "Calculate 6*7"}).encode()
        request = Request(f"{address[0]}/api/v1/run-task", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            assert json.load(answer)["output"] == "Calculation result: 42 (from 6*7)"
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.communicate(timeout=60)


def in_the_environment(command: str) -> list[str | Path]:
    """Return the command that `uv run` runs."""
    words = shlex.split(command)
    assert words[:3] == ["uv", "run", "llm-agent-core"]
    return [COMMAND, *words[3:]]


def test_the_tool_of_the_readme_comes_into_a_server_through_tool_modules(folder: Path, tmp_path: Path) -> None:
    printed = run([COMMAND, "run", "x", "--tools", "nope"], folder, tmp_path, TOOL_MODULES="my_pkg.tools")
    assert printed.endswith("Available tools: math, web_search, governance_note, treasury_balance.\n")
    assert "TOOL_MODULES=my_pkg.tools uv run main.py" in README


def test_the_marked_place_of_the_main_module_is_as_shown() -> None:
    shown = [line for line in FILES["app/main.py"].splitlines()[1:] if not line.startswith("import ")]
    assert "\n".join(shown) == "\n".join((ROOT / "app/main.py").read_text(encoding="utf-8").splitlines()[-3:])


def test_both_commands_are_given_so_that_each_works_alone() -> None:
    alone = [block.text.strip() for block in BLOCKS if block.language == "bash"]
    assert "pip install uv && uv run main.py" in alone
    assert "pip install uv && uv run pytest" in alone


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_uv_is_told_to_run_exists(page: Path) -> None:
    for name in re.findall(r"\buv run (?:python (?!-c))?([\w./-]+)", page.read_text(encoding="utf-8")):
        installed = COMMAND.parent / (name + COMMAND.suffix)
        assert (ROOT / name).is_file() or installed.is_file(), name


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


def test_decisions_are_numbered_once_and_have_the_four_parts() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(set(numbers)) == len(numbers) >= 8
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert re.match(rf"# {int(page.name[:4])}\. ", text), page.name
        for part in ("**Context.**", "**Decision.**", "**Cost.**"):
            assert part in text, (page.name, part)


def test_every_python_block_of_the_readme_parses() -> None:
    for block in BLOCKS:
        if block.language == "python":
            ast.parse(block.text)
