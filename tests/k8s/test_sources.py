"""The manifest files as they lie there: checked on every machine, with or without kustomize."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import kubernetes_validate
import pytest

from tests.k8s.manifests import K8S, KUSTOMIZATIONS, name_of, read_documents


def _patches(folder: Path) -> set[Path]:
    patches = read_documents(folder / "kustomization.yaml")[0].get("patches", [])
    return {(folder / patch["path"]).resolve() for patch in patches if "path" in patch}


def _referenced(folder: Path) -> set[Path]:
    """Returns every path that a kustomization names."""
    content = read_documents(folder / "kustomization.yaml")[0]
    return _patches(folder) | {(folder / name).resolve() for key in ("resources", "components") for name in content.get(key, [])}


def _resources() -> list[Path]:
    """Returns the files that hold whole objects."""
    return sorted(path for folder in KUSTOMIZATIONS for path in _referenced(folder) - _patches(folder) if path.is_file())


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=name_of)
def test_everything_that_a_kustomization_names_exists(folder: Path) -> None:
    """A resource is a file or a folder with a kustomization of its own; a component is such a folder."""
    content = read_documents(folder / "kustomization.yaml")[0]
    for path in _referenced(folder):
        assert path.is_file() or (path / "kustomization.yaml").is_file(), f"{path} does not exist"
    for component in content.get("components", []):
        assert read_documents((folder / component / "kustomization.yaml").resolve())[0]["kind"] == "Component"


def test_no_manifest_is_forgotten() -> None:
    """Every file below k8s/ is named by a kustomization."""
    named = set(chain(*(_referenced(folder) for folder in KUSTOMIZATIONS)))
    files = {path.resolve() for path in K8S.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert files - named == set()


@pytest.mark.parametrize("path", _resources(), ids=lambda path: str(path.relative_to(K8S)))
def test_a_resource_has_no_unknown_field(path: Path) -> None:
    """Each file is a whole object by the Kubernetes schema in strict mode, before any patch."""
    for document in read_documents(path):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_no_secret_is_committed() -> None:
    """Secrets belong to the cluster."""
    for path in K8S.rglob("*.yaml"):
        for document in read_documents(path):
            assert document["kind"] != "Secret", path
            assert "secretGenerator" not in document, path
