"""Reads the manifests of k8s/: the files as they are, and what kustomize makes of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
Manifest = dict[str, Any]

KUSTOMIZATIONS = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))
RENDERED = [folder for folder in KUSTOMIZATIONS if folder == K8S / "base" or (K8S / "overlays") in folder.parents]
"""What can be applied to a cluster; the other folders are parts of these."""


def name_of(folder: Path) -> str:
    """Returns the path of a folder below k8s/, as the name of a test case."""
    return str(folder.relative_to(K8S))


def read_documents(path: Path) -> list[Manifest]:
    """Returns the documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def find_renderer() -> list[str] | None:
    """Returns the command that renders a folder: the kubectl of the environment, else what is installed."""
    bundled = Path(sys.executable).with_name("kubectl")
    if bundled.exists():
        return [str(bundled), "kustomize"]
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build"]
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    return None


@cache
def render(folder: Path) -> tuple[Manifest, ...]:
    """Returns the objects that a folder renders to."""
    renderer = find_renderer()
    assert renderer is not None
    result = subprocess.run([*renderer, str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr
    return tuple(document for document in yaml.safe_load_all(result.stdout) if document is not None)


def of_kind(objects: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    """Returns the objects of a kind by name."""
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}
