"""What Prometheus, its rules and the dashboard make of a real application after real traffic."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "llm-agent-core.json"

WITHOUT = "TESTS_WITHOUT_PROMTOOL"
"""Set to anything where promtool cannot be had, so that the tests that need it are skipped and not failed."""

_NAME = re.compile(r"\b(?:agent_core|process)_[a-z0-9_]+\b")
_RECORDED = re.compile(r"\b[a-z]+:[a-z0-9_]+:[a-z0-9_]+\b")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of an application that has seen a bit of everything."""
    settings = Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("metrics"), max_tokens=10**6)
    with TestClient(create_app(settings), raise_server_exceptions=False) as connected:
        goals = ("Calculate 6*7", "Calculate 1/0", "Add the note 'fine' to PROP-2025-001", "Sing me the blues")
        for goal in goals:
            connected.post("/api/v1/run-task", json={"goal": goal})
        connected.post("/api/v1/run-task", json={"goal": "Calculate 6*7", "max_tokens": 10**9})
        run = connected.post("/api/v1/runs", json={"goal": "Calculate 6*7"}).json()
        connected.get(f"/api/v1/runs/{run['run_id']}/events", headers={"Accept": "text/event-stream"})
        connected.get("/api/v1/health/ready")
        connected.get("/nothing/here")
        connected.delete("/api/v1/run-task")
        connected.get("/api/v1/runs", headers={"X-API-Key": "lac_nobody"})
        yield connected


@pytest.fixture(scope="module")
def scraped(client: TestClient) -> str:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return answer.text


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get(WITHOUT):
            pytest.skip(f"{WITHOUT} is set")
        pytest.fail(
            "promtool is missing, and this test needs it: apt-get install --no-install-recommends prometheus "
            f"(or set {WITHOUT}=1)",
            pytrace=False,
        )
    return found


def run(*command: str | Path, given: str = "") -> str:
    """Return what a command says, which has to succeed and to have nothing to complain of."""
    done = subprocess.run([*map(str, command)], input=given, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def names_of(scraped: str) -> set[str]:
    """Return the names of all series, present or not: those of a metric that has no labels yet are made up."""
    names = set()
    for family in text_string_to_metric_families(scraped):
        suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def values_of(scraped: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
    }


def value(scraped: str, name: str, **labels: str) -> float | None:
    return values_of(scraped).get((f"agent_core_{name}", frozenset(labels.items())))


def test_promtool_finds_nothing_in_a_real_scrape(promtool: str, scraped: str) -> None:
    assert run(promtool, "check", "metrics", given=scraped) == ""


def test_what_has_happened_is_what_is_scraped(scraped: str) -> None:
    route = "/api/v1/run-task"
    assert value(scraped, "http_requests_total", method="POST", route=route, status="200") == 4
    assert value(scraped, "http_requests_total", method="POST", route=route, status="422") == 1
    assert value(scraped, "http_requests_total", method="other", route=route, status="405") == 1
    assert value(scraped, "http_requests_total", method="GET", route="unmatched", status="404") == 1
    assert value(scraped, "http_stream_duration_seconds_count", route="/api/v1/runs/{run_id}/events") == 1
    assert value(scraped, "steps_total", tool="math", outcome="ok") == 2
    assert value(scraped, "steps_total", tool="math", outcome="error") == 1
    assert value(scraped, "steps_total", tool="governance_note", outcome="ok") == 1
    assert value(scraped, "runs_finished_total", status="error", reason="declined") == 2
    assert (value(scraped, "model_calls_total", model="mock", outcome="ok") or 0) > 5
    assert value(scraped, "budget_refusals_total", budget="too_large") == 1
    assert value(scraped, "requests_refused_total", reason="unauthenticated") == 1
    assert (value(scraped, "journal_commits_total", outcome="ok") or 0) > 5
    assert value(scraped, "database_up") == 1
    assert value(scraped, "queued_runs") == 0


def test_no_text_of_anybody_is_in_it(scraped: str) -> None:
    series = "".join(line for line in scraped.splitlines(keepends=True) if not line.startswith("# HELP"))
    assert len(series) > 5000
    for text in ("PROP-2025", "nobody", "6*7", "blues", "nothing/here", "default", "maker"):
        assert text not in series


def test_openmetrics_is_there_for_whoever_accepts_it(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


def test_hostile_traffic_makes_no_series(client: TestClient) -> None:
    def ask(number: int) -> None:
        client.request(f"M{number}", f"/nothing/{number}")
        client.get(f"/api/v1/runs/no-run-{number}")
        client.get(f"/api/v1/runs/{number}/events?after={number}")
        client.get("/api/v1/runs", headers={"X-API-Key": f"lac_{number}"})
        client.request(f"M{number}", "/api/v1/run-task")

    ask(0)
    before = set(values_of(client.get("/metrics").text))
    before |= set(values_of(client.get("/metrics").text))  # that of the scrape itself
    for number in range(1, 400):
        ask(number)
    assert set(values_of(client.get("/metrics").text)) == before


def test_the_rules_and_the_configuration_are_sound(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", RULES)
    assert "SUCCESS" in run(promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


def test_the_rules_do_what_their_tests_say(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", DEPLOY / "prometheus" / "rules_test.yml")


def test_every_alert_is_tested_and_says_what_it_is() -> None:
    text = RULES.read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)\n(.*?)(?=\n {6}- alert|\Z)", text, re.DOTALL)
    tested = set(re.findall(r"alertname: (\w+)\n {8}exp_alerts:\n", _tests()))
    assert {name for name, _ in alerts} == tested
    for name, body in alerts:
        for part in ("severity: ", "summary: ", "description: "):
            assert part in body, name


def _tests() -> str:
    return (DEPLOY / "prometheus" / "rules_test.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", [RULES, DEPLOY / "prometheus" / "rules_test.yml", DASHBOARD], ids=lambda p: p.name
)
def test_every_metric_that_is_asked_for_exists(scraped: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    recorded = set(re.findall(r"- record: (\S+)", RULES.read_text(encoding="utf-8")))
    asked = set(_NAME.findall(_RECORDED.sub("", text)))
    assert len(asked) > 5
    assert asked - names_of(scraped) == set()
    assert set(_RECORDED.findall(text)) - recorded == set()


def test_the_dashboard_shows_every_metric_there_is(scraped: str) -> None:
    """Besides what the process collector adds: what is counted for nobody is not worth counting."""
    text = DASHBOARD.read_text(encoding="utf-8")
    for family in text_string_to_metric_families(scraped):
        if family.name.startswith("agent_core_"):
            assert family.name in text, family.name


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids) > 20
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)
    for panel in panels:
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"]
            assert all(target["expr"] for target in panel["targets"])
    provisioned = (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text(
        encoding="utf-8"
    )
    assert f"uid: {dashboard['templating']['list'][0]['current']['value']}\n" in provisioned


def test_promtool_reads_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    rules = [
        {"record": f"query:of:panel{number}", "expr": query.replace("$__rate_interval", "5m").replace("$", "")}
        for number, query in enumerate(queries)
    ]
    path = tmp_path / "rules.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    assert "SUCCESS" in run(promtool, "check", "rules", path)


def test_without_metrics_there_is_no_route(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, metrics=False)
    with TestClient(create_app(settings), raise_server_exceptions=False) as connected:
        assert connected.get("/metrics").status_code == 404
        assert connected.get("/api/v1/health/live").status_code == 200


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command of the program, and see to it that it does not stay."""
    started = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *command],
        cwd=DEPLOY.parent,
        env={**os.environ, "PORT": "0", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def command_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    if kind == "worker":
        return kind, {"DATABASE_URL": request.getfixturevalue("postgres_url")}
    return kind, {"DATA_DIR": str(tmp_path / "data")}


@pytest.mark.parametrize("kind", ["serve", "worker"])
def test_a_process_serves_its_metrics_on_a_port_of_their_own(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    command, environment = command_of(kind, request, tmp_path)
    port = free_port()
    with process(command, METRICS_PORT=str(port), **environment) as started:
        text = _asked(f"http://127.0.0.1:{port}/metrics", started)
        assert value(text, "database_up") == 1
        started.terminate()
        assert started.wait(20) in (0, -15)


def _asked(url: str, started: subprocess.Popen[str]) -> str:
    """Return what a process answers, once it does."""
    give_up_at = monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            assert started.poll() is None, started.communicate()
            assert monotonic() < give_up_at
            sleep(0.05)


def test_a_port_of_their_own_that_is_taken_is_one_line_and_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process("serve", METRICS_PORT=str(port), DATA_DIR=str(tmp_path / "data")) as started:
            _, said = started.communicate(timeout=20)
    assert started.returncode == 2
    assert len(said.splitlines()) == 1
    assert f"Cannot listen on 127.0.0.1, port {port}: Address already in use." in said
    assert "METRICS_PORT=" in said


def test_with_a_port_of_their_own_the_api_has_no_route_of_them(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, metrics_port=free_port())
    with TestClient(create_app(settings), raise_server_exceptions=False) as connected:
        assert connected.get("/metrics").status_code == 404
