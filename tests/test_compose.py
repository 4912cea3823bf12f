"""deploy/compose.yaml: what it names exists, secrets are hidden, and what it starts is guarded."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from deployments import DEPLOY, KNOWN, assert_production, longest_stop_s

from app import __version__

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "api", "worker")
GIVEN = re.compile(r"\$\{(\w+):\?[^}]+\}")

IMAGES_OWN = {
    "postgres": {"POSTGRES_PASSWORD"},
    "grafana": {
        "GF_SECURITY_ADMIN_PASSWORD",
        "GF_ANALYTICS_REPORTING_ENABLED",
        "GF_ANALYTICS_CHECK_FOR_UPDATES",
    },
}
"""The variables that the images of others know, as far as they are used here."""

ROLE_SCRIPT = (DEPLOY / "postgres/10-role.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SERVICES)
def test_each_variable_of_a_service_is_one_that_it_knows(name: str) -> None:
    known = KNOWN if name in OURS else set(IMAGES_OWN.get(name, ()))
    if name == "postgres":
        known |= set(re.findall(r"\\getenv \w+ (\w+)", ROLE_SCRIPT))
    assert set(SERVICES[name].get("environment", {})) <= known


@pytest.mark.parametrize("name", OURS)
def test_what_compose_starts_is_guarded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {key: GIVEN.sub("ab12" * 16, str(value)) for key, value in SERVICES[name]["environment"].items()}
    assert_production(monkeypatch, environment)
    assert "@postgres:5432/agents" in environment["DATABASE_URL"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_of_compose_may_do_more_than_it_has_to(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["networks"]
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), port
    outside = "outside" in service["networks"]
    assert outside == (name in {"api", "worker", "grafana"})


def test_only_one_network_leads_outside() -> None:
    networks = COMPOSE["networks"]
    assert [name for name, options in networks.items() if not options.get("internal")] == ["outside"]
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(networks)


def test_images_are_pinned_and_ours_is_this_version() -> None:
    for name, service in SERVICES.items():
        tag = service["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag), service["image"]
        if name in OURS:
            assert tag == __version__
            assert service["build"] == ".."


def test_what_is_mounted_is_there() -> None:
    named = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source, _target, *options = volume.split(":")
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
                assert options == ["ro"], volume
            else:
                named.add(source)
    assert named == set(COMPOSE["volumes"])


def test_what_a_service_waits_for_can_come() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no"


def test_every_service_that_stays_says_how_it_is() -> None:
    checks = {name: service["healthcheck"] for name, service in SERVICES.items()}
    assert [name for name, check in checks.items() if "test" not in check] == ["migrate"]
    assert all(check["test"][0] == "CMD" for check in checks.values() if "test" in check)


def test_secrets_are_asked_for_and_have_no_defaults() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    lines = (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    shown = [line for line in lines if line and not line.startswith("#")]
    assert all(line.endswith("=") for line in shown)
    assert {line.removesuffix("=") for line in shown} == set(GIVEN.findall(text))
    assert re.findall(r"\$\{(?!\w+:\?)", text) == []
    ignored = (DEPLOY.parent / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {".env", "/deploy/settings.env"} <= set(ignored)


def test_nobody_has_a_secret_that_is_not_theirs() -> None:
    held = {
        name: set(GIVEN.findall(" ".join(map(str, service.get("environment", {}).values()))))
        for name, service in SERVICES.items()
    }
    assert held == {
        "postgres": {"POSTGRES_PASSWORD", "AGENTS_PASSWORD"},
        **{name: {"AGENTS_PASSWORD", "KEY_PEPPER"} for name in OURS},
        "redis": set(),
        "prometheus": set(),
        "grafana": {"GRAFANA_PASSWORD"},
    }


def test_prometheus_and_grafana_find_what_they_look_for() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    targets = {
        target
        for job in prometheus["scrape_configs"]
        for given in job["static_configs"]
        for target in given["targets"]
    }
    assert targets == {f"{name}:{SERVICES[name]['environment']['METRICS_PORT']}" for name in ("api", "worker")}
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    for name in ("api", "worker", "grafana"):
        assert set(SERVICES[name]["networks"]) & set(SERVICES["prometheus"]["networks"])
    (path,) = (provisioning / "dashboards").iterdir()
    (provider,) = yaml.safe_load(path.read_text(encoding="utf-8"))["providers"]
    targets = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets
    assert "/etc/grafana/provisioning" in targets


def test_nothing_is_killed_while_it_stops() -> None:
    for name in ("api", "worker"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= longest_stop_s()
