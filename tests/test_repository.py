"""The rules of the repository that no linter knows."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import pytest
import yaml

from docs.settings import list_settings, settings_class, write_page
from kit.settings import Settings
from kit.targets import TARGETS

ROOT = Path(__file__).parents[1]
PACKAGES = ("kit", "gateway", "services")
MAX_LINES = 400
LOCKS = ("requirements.lock", "requirements-dev.lock")
PAGES = sorted(path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
_PINNED = re.compile(r"([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)")


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


_IMPORT_ALL = """
import importlib, json, os, sys, threading
from pathlib import Path

before = dict(os.environ)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
process = Path("/proc/self")
links = [os.readlink(link) for link in process.glob("fd/*") if link.is_symlink() and os.path.lexists(link)]
print(json.dumps({
    "environment": sorted(set(os.environ.items()) ^ set(before.items())),
    "threads": [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()],
    "files": os.listdir(),
    "sockets": [link for link in links if link.startswith("socket")],
    "children": [child for path in process.glob("task/*/children") for child in path.read_text().split()],
}))
"""


def test_every_module_imports_without_effect(tmp_path: Path) -> None:
    """With an empty environment in an empty folder: no setting is read, nothing is opened, started or written."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in _sources(*PACKAGES) if "migrations" not in path.parts
    ]
    result = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, json.dumps(modules)],
        env={"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos' / 'gen'}"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert json.loads(result.stdout) == {"environment": [], "threads": [], "files": [], "sockets": [], "children": []}


def test_modules_are_short() -> None:
    """A module that does not fit into a head is split by noun."""
    lengths = {_name(path): len(path.read_text().splitlines()) for path in _sources(*PACKAGES, "docs", "benchmarks")}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_modules_are_nouns_of_the_domain() -> None:
    """None is a drawer for what has no place."""
    names = {path.stem for path in _sources(*PACKAGES, "tests", "benchmarks")} | {path.parent.name for path in _sources(*PACKAGES)}
    assert names & {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"} == set()


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_its_files(target: str) -> None:
    """Who knows one service knows all of them."""
    folder = ROOT.joinpath(*TARGETS[target].module.split("."))
    wanted = ["__init__.py", "__main__.py", "app.py", "settings.py"]
    if TARGETS[target].migrates:
        wanted += ["rpc.py", "models.py", "migrations/env.py", f"{ROOT}/protos/elis/{target}/v1/{target}.proto"]
    assert [name for name in wanted if not (folder / name).is_file()] == []


def test_only_identity_knows_a_protocol_in_kit() -> None:
    """See docs/decisions/0004."""
    knowing = {
        _name(path)
        for path in _sources("kit")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("elis.")
    }
    assert knowing == {"kit/identity.py"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_by_hash(name: str) -> None:
    """Each requirement has a version and hashes, and nothing says where it comes from."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
    for entry in entries:
        requirement, *hashes = [line.strip().removesuffix("\\").strip() for line in entry.splitlines()]
        assert _PINNED.match(requirement), requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), requirement
        assert "://" not in entry
        assert " @ " not in entry


def test_the_locks_agree_and_hold_what_is_declared() -> None:
    """The development lock is the other one and more; both hold every dependency of pyproject.toml."""
    pinned, pinned_for_development = (set(_PINNED.findall((ROOT / name).read_text())) for name in LOCKS)
    assert pinned <= pinned_for_development
    runtime, development = {name for name, _ in pinned}, {name for name, _ in pinned_for_development}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-") for text in requirements}

    groups = project["dependency-groups"]
    assert names(project["project"]["dependencies"]) | names(groups["build"]) <= runtime
    assert names(groups["dev"]) <= development
    assert set(project["build-system"]["requires"]) <= set(groups["build"]), "the build needs what the lock does not hold"


def test_the_licence_is_whole() -> None:
    """The text of Apache-2.0, as pyproject.toml names it."""
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_knows_the_version() -> None:
    """A version that nobody can read about is not a version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    """Files and headings; addresses of other sites are not asked."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} does not exist"
        assert not anchor or anchor in _anchors(target), f"{link} names no heading"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Text in backticks that looks like a path of this repository is one."""
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"elis-data"}
    for text in re.findall(r"`([\w./-]+/[\w./-]*)`", page.read_text()):
        if text.split("/")[0] in top:
            assert (ROOT / text).exists(), f"{text} does not exist"


def test_every_setting_says_what_it_is() -> None:
    """In the docstring below it; operations.md shows them."""
    settings = chain(list_settings(Settings), *(list_settings(settings_class(target)) for target in TARGETS))
    assert sorted({setting.variable for setting in settings if not setting.meaning}) == []


def test_the_settings_table_is_current() -> None:
    """`make docs` writes it."""
    assert write_page(check=True), "docs/operations.md is out of date: run make docs"


def _instructions() -> list[list[str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_builds_from_what_is_there() -> None:
    """Every source of a COPY exists and is let through by .dockerignore."""
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = [source for instruction in _instructions() if instruction[0] == "COPY" and "--from=build" not in instruction for source in instruction[1:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        verdicts = [not pattern.startswith("!") for pattern in ignore if fnmatch(source, pattern.lstrip("!"))]
        assert verdicts[-1] is False, f"{source} is ignored"


def test_the_image_is_not_root_and_runs_elis() -> None:
    """By number, as Kubernetes wants to see it, and the same number as the pods'."""
    last = {instruction[0]: instruction[1:] for instruction in _instructions()}
    pod = yaml.safe_load((ROOT / "k8s" / "base" / "pod.yaml").read_text())["spec"]["template"]["spec"]
    assert last["USER"] == [f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"]
    assert last["ENTRYPOINT"] == ['["elis"]']
    ports = {f"{port}/udp" if purpose.endswith("_udp") else f"{port}" for target in TARGETS.values() for purpose, port in target.ports.items()}
    assert set(last["EXPOSE"]) == ports


def test_compose_starts_stores_only() -> None:
    """On the loopback address and without a default password."""
    content = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert content["services"].keys() == {"postgres", "valkey"}
    assert all(port.startswith("127.0.0.1:") for service in content["services"].values() for port in service["ports"])
    assert ":?" in content["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"]


def test_make_explains_itself() -> None:
    """Every target but the parts of check is in the help."""
    text = (ROOT / "Makefile").read_text()
    phony = set(chain(*(line.split()[1:] for line in text.splitlines() if line.startswith(".PHONY:"))))
    help_text = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
    listed = {line.split()[0] for line in help_text.splitlines() if line.startswith("  ")}
    assert listed == {target for target in phony if not target.startswith("check-")}


@pytest.mark.parametrize(("python", "complaint"), [("", "is missing"), ("#!/bin/sh\ncase $2 in *version_info*) exit 1 ;; *) echo 3.9.2 ;; esac\n", "is 3.9.2")])
def test_make_says_which_python_it_needs(tmp_path: Path, python: str, complaint: str) -> None:
    """In one sentence, when there is none or only an old one."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "sh", "sed", "rm"):
        (programs / name).symlink_to(shutil.which(name) or name)
    if python:
        (programs / "python3").write_text(python)
        (programs / "python3").chmod(0o755)
    result = subprocess.run([programs / "make", "demo"], cwd=tmp_path, env={"PATH": str(programs)}, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode != 0
    sentence = result.stderr.splitlines()[0]
    assert sentence.startswith("elis: needs Python 3.11 or newer, but 'python3' " + complaint)
    assert "make PYTHON=" in sentence
    assert not (tmp_path / ".venv").exists()


def test_continuous_integration_is_a_script() -> None:
    """Executable, and bash understands it."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], timeout=20, check=True)
