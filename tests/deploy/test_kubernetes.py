"""The Kubernetes manifests are what the API server's schemas allow, and fit each other."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import KUBERNETES, ROOT, Manifest, documents, kubernetes, understood

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
VERSIONS = ("1.31", "1.34", kubernetes_validate.latest_version())
# objects of operators, whose schemas are theirs: not in the API server's
OPERATORS = {"Kafka", "KafkaNodePool"}
BASE = KUBERNETES / "base"
OBJECTS = [
    pytest.param(one, id=f"{path.parent.name}-{path.stem}-{one['kind']}")
    for path, one in kubernetes(KUBERNETES)
    if one["kind"] not in OPERATORS and not one["apiVersion"].startswith("serving.knative.dev/")
]


def base(kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for _, one in kubernetes(BASE) if one["kind"] == kind}


def workloads() -> list[Manifest]:
    return [*base("Deployment").values(), *base("StatefulSet").values()]


def container(workload: Manifest) -> dict[str, Any]:
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", OBJECTS)
def test_the_schema_of_the_api_server_allows_it(one: Manifest, version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    one = base("Deployment")["collector"]
    one["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(one, VERSIONS[0], strict=True)


@pytest.mark.parametrize("folder", ["base", "strimzi"])
def test_a_kustomization_names_every_file_beside_it_and_nothing_else(folder: str) -> None:
    (kustomization,) = documents(KUBERNETES / folder / "kustomization.yaml")
    named = {(KUBERNETES / folder / name).resolve() for name in kustomization["resources"]}
    beside = {path for path in (KUBERNETES / folder).glob("*.yaml") if path.name != "kustomization.yaml"}
    assert {path for path in named if path.suffix} == beside
    assert all(path.exists() for path in named)


def test_selectors_find_the_pods_they_are_meant_for() -> None:
    labels = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads()]
    for workload in workloads():
        assert workload["spec"]["selector"]["matchLabels"] == workload["spec"]["template"]["metadata"]["labels"]
    for service in base("Service").values():
        assert service["spec"]["selector"] in labels
    for budget in base("PodDisruptionBudget").values():
        assert budget["spec"]["selector"]["matchLabels"] in labels
    assert base("HorizontalPodAutoscaler")["collector"]["spec"]["scaleTargetRef"]["name"] in base("Deployment")
    assert base("StatefulSet")["aggregator"]["spec"]["serviceName"] in base("Service")


def test_the_settings_are_settings_and_fit_the_names_of_services() -> None:
    shared = base("ConfigMap")["metrics-settings"]["data"]
    namespace = documents(BASE / "kustomization.yaml")[0]["namespace"]
    settings = understood(shared)
    assert (settings.replication, settings.weak_kafka) == (3, "refuse")
    hosts = settings.allowed_hosts.split(",")
    for name in ("collectors", "query"):
        assert {name, f"{name}.{namespace}.svc.cluster.local"} <= set(hosts)
        assert name in base("Service")
    assert settings.peers == f"http://*.aggregators.{namespace}.svc.cluster.local:8080"


@pytest.mark.parametrize("workload", workloads(), ids=lambda one: one["metadata"]["name"])
def test_a_pod_is_nobody_drains_before_it_stops_and_keeps_its_name(workload: Manifest) -> None:
    pod, only = workload["spec"]["template"]["spec"], container(workload)
    assert pod["securityContext"]["runAsNonRoot"]
    assert only["securityContext"]["readOnlyRootFilesystem"]
    assert only["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert (only["livenessProbe"]["httpGet"]["path"], only["readinessProbe"]["httpGet"]["path"]) == (
        "/livez",
        "/readyz",
    )
    mounted = {mount["name"] for mount in only["volumeMounts"]}
    claimed = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())]
    assert mounted == {volume["name"] for volume in pod["volumes"]} | set(claimed)
    pause_s = int(only["lifecycle"]["preStop"]["exec"]["command"][1])
    settings = understood(base("ConfigMap")["metrics-settings"]["data"])
    assert pod["terminationGracePeriodSeconds"] > pause_s + settings.stop_delay_s + settings.stop_grace_s
    given = {one["name"]: one.get("value", "a-name") for one in only.get("env", ())}
    understood({name: value.replace("$(METRICS_INSTANCE_ID)", "a-name") for name, value in given.items()})
    assert ("METRICS_INSTANCE_ID" in given) == (workload["kind"] == "StatefulSet")


@pytest.mark.parametrize("workload", workloads(), ids=lambda one: one["metadata"]["name"])
def test_the_command_of_a_pod_is_one_of_ours(workload: Manifest) -> None:
    command = [sys.executable, "-m", "metrics_app", *container(workload)["args"], "--help"]
    assert subprocess.run(command, capture_output=True, check=False, cwd=Path("/")).returncode == 0


@pytest.mark.parametrize("folder", ["base", "strimzi"])
def test_kustomize_makes_objects_of_one_namespace_with_the_image_of_one_place(folder: str) -> None:
    program = shutil.which("kustomize")
    if program is None:
        pytest.skip("needs kustomize, which neither PyPI nor Debian has")
    made = subprocess.run([program, "build", KUBERNETES / folder], capture_output=True, text=True, check=True).stdout
    for one in yaml.safe_load_all(made):
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "metrics"
        if one["kind"] not in OPERATORS:
            kubernetes_validate.validate(one, VERSIONS[0], strict=True)
        if one["kind"] in ("Deployment", "StatefulSet"):
            assert container(one)["image"] == f"registry.example.com/metrics-app:{VERSION}"
