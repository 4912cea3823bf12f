"""deploy/kubernetes/: the manifests keep to the schemas, fit each other, and start what is guarded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployments import DEPLOY, KNOWN, assert_production, longest_stop_s

from app import __version__
from app.config import Settings
from app.main import create_app

MANIFESTS = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}")
    for path in sorted(DEPLOY.glob("kubernetes/**/*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
KINDS: dict[str, list[dict[str, Any]]] = {}
for _parameters in MANIFESTS:
    (_document,) = _parameters.values
    KINDS.setdefault(_document["kind"], []).append(_document)
PODS = {
    document["metadata"]["name"]: document["spec"]["template"]
    for document in [*KINDS["Deployment"], *KINDS["Job"]]
}


WITHOUT = "the schemas of Kubernetes: uv run --group manifests pytest tests/test_kubernetes.py"


@pytest.fixture(scope="module")
def schemas() -> Any:
    return pytest.importorskip("kubernetes_validate", reason=WITHOUT)


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("document", MANIFESTS)
def test_a_manifest_keeps_to_the_schema(schemas: Any, document: dict[str, Any], version: str) -> None:
    schemas.validate(document, version, strict=True)


def test_the_schema_is_strict(schemas: Any) -> None:
    document = {**KINDS["Service"][0], "specification": {}}
    with pytest.raises(schemas.ValidationError):
        schemas.validate(document, "1.37", strict=True)


@pytest.mark.parametrize("document", MANIFESTS)
def test_a_manifest_leaves_the_namespace_to_whoever_applies_it(document: dict[str, Any]) -> None:
    assert "namespace" not in document["metadata"]


def test_the_settings_of_kubernetes_are_ours_and_make_a_guarded_service(monkeypatch: pytest.MonkeyPatch) -> None:
    (config,), (secret,) = KINDS["ConfigMap"], KINDS["Secret"]
    assert set(config["data"]) <= KNOWN
    assert set(secret["stringData"]) <= KNOWN
    assert set(secret["stringData"].values()) == {""}
    for name in config["data"]:
        assert not any(word in name for word in ("KEY", "PASSWORD", "TOKEN", "URL")), name
    secrets = {"DATABASE_URL": "postgresql://agents@db/agents", "KEY_PEPPER": "ab12" * 16}
    assert set(secrets) == set(secret["stringData"])
    assert_production(monkeypatch, {**config["data"], **secrets})


def test_what_holds_no_values_is_not_applied_with_the_rest() -> None:
    assert not list(DEPLOY.glob("kubernetes/*secret*"))


@pytest.mark.parametrize("name", PODS)
def test_no_pod_may_do_more_than_it_has_to(name: str) -> None:
    pod = PODS[name]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False  # or variables such as AGENTS_PORT come in that nobody has set
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["image"] == f"llm-agent-core:{__version__}"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    held = [next(iter(source.values()))["name"] for source in container["envFrom"]]
    assert held == [KINDS["ConfigMap"][0]["metadata"]["name"], KINDS["Secret"][0]["metadata"]["name"]]


def test_the_job_is_that_of_this_version() -> None:
    (job,) = KINDS["Job"]
    assert job["metadata"]["name"].endswith(__version__.replace(".", "-"))


def probes_of(name: str) -> Iterator[dict[str, Any]]:
    (container,) = PODS[name]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        if kind in container:
            (probe,) = [container[kind][how] for how in ("httpGet", "tcpSocket") if how in container[kind]]
            yield {**probe, "kind": kind, "port": ports[probe["port"]]}


def test_probes_ask_what_there_is(tmp_path: Path) -> None:
    app = create_app(Settings(_env_file=None, data_dir=tmp_path))
    asked = {(probe["kind"], probe["path"], probe["port"]) for probe in probes_of("agents-api")}
    assert {path for _, path, _ in asked} <= set(app.openapi()["paths"])
    assert {(kind, path.rpartition("/")[2], port) for kind, path, port in asked} == {
        ("startupProbe", "live", 8000),
        ("livenessProbe", "live", 8000),
        ("readinessProbe", "ready", 8000),
    }
    (metrics_port,) = {probe["port"] for probe in probes_of("agents-worker")}
    assert str(metrics_port) == KINDS["ConfigMap"][0]["data"]["METRICS_PORT"]


@pytest.mark.parametrize("name", [document["metadata"]["name"] for document in KINDS["Deployment"]])
def test_a_pod_has_the_time_to_stop(name: str) -> None:
    pod = PODS[name]["spec"]
    pause = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] >= pause + longest_stop_s()
    assert (pause > 0) == (name == "agents-api")  # nobody sends requests to a worker


def test_what_selects_pods_finds_them() -> None:
    labels = {name: pod["metadata"]["labels"].items() for name, pod in PODS.items()}
    for document in KINDS["Deployment"]:
        name, selector = document["metadata"]["name"], document["spec"]["selector"]["matchLabels"]
        assert [found for found in labels if selector.items() <= labels[found]] == [name]
    (service,) = KINDS["Service"]
    selected = [name for name in labels if service["spec"]["selector"].items() <= labels[name]]
    assert selected == ["agents-api"]
    (container,) = PODS["agents-api"]["spec"]["containers"]
    names = [port["name"] for port in container["ports"]]
    assert all(port["targetPort"] in names for port in service["spec"]["ports"])
    for budget in KINDS["PodDisruptionBudget"]:
        selector = budget["spec"]["selector"]["matchLabels"].items()
        assert [name for name in labels if selector <= labels[name]] == [budget["metadata"]["name"]]
    (policy,) = KINDS["NetworkPolicy"]
    assert all(policy["spec"]["podSelector"]["matchLabels"].items() <= found for found in labels.values())
    (scaler,) = KINDS["HorizontalPodAutoscaler"]
    assert scaler["spec"]["scaleTargetRef"]["name"] in PODS
