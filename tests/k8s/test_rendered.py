"""What kustomize makes of base, overlays and their combinations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from pydantic import SecretStr

from docs.settings import list_settings, settings_class
from kit.targets import TARGETS
from tests.k8s.manifests import K8S, RENDERED, Manifest, find_renderer, name_of, of_kind, render

OLDEST, NEWEST = "1.33.0", kubernetes_validate.latest_version()
"""Versions of Kubernetes that the manifests are for."""
GRPC_TARGETS = [name for name, target in TARGETS.items() if "grpc" in target.ports]

Objects = tuple[Manifest, ...]
needs_renderer = pytest.mark.skipif(find_renderer() is None, reason="neither kubectl nor kustomize is installed; test_sources.py checks the files")


@pytest.fixture(params=[pytest.param(folder, id=name_of(folder), marks=needs_renderer) for folder in RENDERED])
def objects(request: pytest.FixtureRequest) -> Objects:
    """The objects of one folder."""
    folder: Path = request.param
    return render(folder)


def _pod(workload: Manifest) -> Any:
    return workload["spec"]["template"]["spec"]


def _container(workload: Manifest) -> Any:
    (container,) = _pod(workload)["containers"]
    return container


def _workloads(objects: Objects) -> dict[str, Manifest]:
    return {**of_kind(objects, "Deployment"), **of_kind(objects, "Job")}


def test_linux_always_renders() -> None:
    """The development lock brings kubectl there, so that nothing below is skipped."""
    assert sys.platform != "linux" or find_renderer() is not None


def test_every_object_is_valid(objects: Objects) -> None:
    """By the schema of the API server, unknown fields refused."""
    for item in objects:
        kubernetes_validate.validate(item, NEWEST, strict=True)


@needs_renderer
def test_the_oldest_supported_kubernetes_knows_every_field() -> None:
    """Production has every object that there is."""
    for item in render(K8S / "overlays" / "production"):
        kubernetes_validate.validate(item, OLDEST, strict=True)


def test_every_target_has_its_deployment(objects: Objects) -> None:
    """It runs `elis run <target>` and opens the ports of the target table."""
    deployments = of_kind(objects, "Deployment")
    assert deployments.keys() == TARGETS.keys()
    for name, target in TARGETS.items():
        container = _container(deployments[name])
        assert container["args"] == ["run", name]
        assert {port["name"].replace("-", "_"): port["containerPort"] for port in container["ports"]} == target.ports


def test_every_service_reaches_a_pod(objects: Objects) -> None:
    """Each selects the pods of one target and names ports that these have; every port of every target is served."""
    deployments, served = of_kind(objects, "Deployment"), set()
    for service in of_kind(objects, "Service").values():
        (label, target), *others = service["spec"]["selector"].items()
        assert label == "app.kubernetes.io/name"
        assert not others
        labels = deployments[target]["spec"]["template"]["metadata"]["labels"]
        assert labels[label] == target == deployments[target]["spec"]["selector"]["matchLabels"][label]
        ports = {port["name"]: port["containerPort"] for port in _container(deployments[target])["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
            served.add((target, port["name"]))
    assert served == {(name, purpose.replace("_", "-")) for name, target in TARGETS.items() for purpose in target.ports}


def test_callers_see_every_pod(objects: Objects) -> None:
    """Addresses are those of headless services, in the form that makes gRPC resolve all of their pods."""
    services = of_kind(objects, "Service")
    (settings,) = of_kind(objects, "ConfigMap").values()
    for name in GRPC_TARGETS:
        assert services[name]["spec"]["clusterIP"] == "None"
        assert settings["data"][f"ELIS_ADDRESSES__{name.upper()}"] == f"dns:///{name}:{TARGETS[name].ports['grpc']}"


def test_settings_exist_and_none_is_missing(objects: Objects) -> None:
    """What the pods are given is declared by a settings class, and what a class requires is given, secrets as secrets."""
    (config,) = of_kind(objects, "ConfigMap").values()
    declared = {name: {setting.variable: setting for setting in list_settings(settings_class(name))} for name in TARGETS}
    assert config["data"].keys() <= set().union(*declared.values())
    for name, deployment in of_kind(objects, "Deployment").items():
        environment = {variable["name"]: variable["valueFrom"] for variable in _container(deployment)["env"]}
        assert environment.keys() <= declared[name].keys()
        required = {variable for variable, setting in declared[name].items() if setting.default == "required"}
        assert required <= environment.keys() | config["data"].keys()
        secret = {f"ELIS_{field.upper()}" for field, info in settings_class(name).model_fields.items() if info.annotation is SecretStr}
        for variable in secret & environment.keys():
            # A pod starts without a secret that is not required.
            optional = {} if variable in required else {"optional": True}
            assert environment[variable]["secretKeyRef"] == {"name": "elis-secrets", "key": variable} | optional
        assert _container(deployment)["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]


def test_pods_keep_to_the_restricted_profile(objects: Objects) -> None:
    """Pod Security "restricted", and more: no writable root, no token of the cluster."""
    for workload in _workloads(objects).values():
        pod, container = _pod(workload), _container(workload)
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {"emptyDir", "persistentVolumeClaim"}


def test_every_container_says_what_it_needs(objects: Objects) -> None:
    """Requests for the scheduler and the autoscaler, a limit for memory, an image of the overlay."""
    for workload in _workloads(objects).values():
        resources = _container(workload)["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert "memory" in resources["limits"]


@pytest.mark.parametrize("name", GRPC_TARGETS)
def test_grpc_targets_are_probed_by_the_health_protocol(objects: Objects, name: str) -> None:
    """Readiness asks for the whole, liveness only for the process: a lost database restarts nothing."""
    container = _container(of_kind(objects, "Deployment")[name])
    port = TARGETS[name].ports["grpc"]
    assert container["readinessProbe"]["grpc"] == {"port": port}
    assert container["livenessProbe"]["grpc"] == container["startupProbe"]["grpc"] == {"port": port, "service": "live"}


def test_the_gateway_is_probed_over_http(objects: Objects) -> None:
    """As DESIGN names the paths."""
    container = _container(of_kind(objects, "Deployment")["gateway"])
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_pods_leave_quietly(objects: Objects) -> None:
    """The grace period has room for the pause before the stop and for what is in flight."""
    for name, deployment in of_kind(objects, "Deployment").items():
        pause = _container(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = settings_class(name).model_fields["drain_timeout"].default.total_seconds()
        assert _pod(deployment)["terminationGracePeriodSeconds"] > pause + 2 * drain


def test_autoscalers_fit_their_targets(objects: Objects) -> None:
    """One per target where there are any; a target that keeps a folder has one pod, the old one gone first."""
    autoscalers, deployments = of_kind(objects, "HorizontalPodAutoscaler"), of_kind(objects, "Deployment")
    assert autoscalers.keys() in ({}.keys(), TARGETS.keys())
    for name, autoscaler in autoscalers.items():
        spec = autoscaler["spec"]
        assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert 1 <= spec["minReplicas"] <= spec["maxReplicas"]
        assert "replicas" not in deployments[name]["spec"]
    assert deployments["search"]["spec"]["strategy"] == {"type": "Recreate"}
    assert autoscalers == {} or autoscalers["search"]["spec"]["maxReplicas"] == 1


def test_disruption_budgets_never_block_a_drain(objects: Objects) -> None:
    """One pod of a target may always go."""
    budgets = of_kind(objects, "PodDisruptionBudget")
    assert budgets.keys() == TARGETS.keys()
    for name, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}


def test_volumes_are_claimed_where_they_are_mounted(objects: Objects) -> None:
    """Every claim exists and is used, every mount has its volume."""
    claims = set()
    for workload in _workloads(objects).values():
        volumes = {volume["name"]: volume for volume in _pod(workload)["volumes"]}
        assert {mount["name"] for mount in _container(workload)["volumeMounts"]} == volumes.keys()
        claims |= {volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if "persistentVolumeClaim" in volume}
    assert claims == of_kind(objects, "PersistentVolumeClaim").keys()


def test_schemas_are_migrated_by_a_job(objects: Objects) -> None:
    """With the same image and settings as the targets."""
    job = of_kind(objects, "Job")["migrate"]
    assert _container(job)["args"] == ["migrate"]
    images = {_container(workload)["image"] for workload in _workloads(objects).values()}
    assert len(images) == 1


@needs_renderer
@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_overlays_enforce_the_restricted_profile(overlay: str) -> None:
    """Their namespace refuses pods that want more, and everything lies in it."""
    rendered = render(K8S / "overlays" / overlay)
    (namespace,) = of_kind(rendered, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {item["metadata"]["namespace"] for item in rendered if item["kind"] != "Namespace"} == {namespace["metadata"]["name"]}


@needs_renderer
def test_production_survives_a_lost_node() -> None:
    """Everything but the index, which has one writer, has two pods at least, spread over nodes."""
    rendered = render(K8S / "overlays" / "production")
    for name, autoscaler in of_kind(rendered, "HorizontalPodAutoscaler").items():
        assert autoscaler["spec"]["minReplicas"] >= (1 if name == "search" else 2)
        (spread,) = _pod(of_kind(rendered, "Deployment")[name])["topologySpreadConstraints"]
        assert spread["topologyKey"] == "kubernetes.io/hostname"
