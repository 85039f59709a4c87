"""The Python that the virtual environment is made with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.interpreters import Interpreter, ask_interpreter, choose_interpreter, find_interpreters

SCRIPT = Path(__file__).resolve().parents[2] / "kit" / "interpreters.py"


def _interpreter(path: str, seconds: float) -> Interpreter:
    return Interpreter(path, (3, 12, 1), "", seconds)


@pytest.mark.parametrize(("seconds", "expected"), [([1.0, 0.7], 1), ([1.0, 0.95], 0), ([0.7, 1.0], 0), ([1.0, 0.8, 0.6], 2), ([1.0], 0)])
def test_the_first_python_unless_another_is_clearly_faster(seconds: list[float], expected: int) -> None:
    """A few hundredths are noise, and the person who arranged the path meant something by it."""
    found = [_interpreter(f"/{number}", each) for number, each in enumerate(seconds)]
    assert choose_interpreter(found) is found[expected]


def test_each_python_is_found_once(tmp_path: Path) -> None:
    """Two names of one interpreter are one; what is older or broken, or no program at all, is none."""
    folders = [tmp_path / name for name in ("first", "second", "missing")]
    for folder in folders[:2]:
        folder.mkdir()
        (folder / "python3").symlink_to(sys.executable)
        (folder / "python3.11").symlink_to(sys.executable)
    (folders[0] / "old").write_text('#!/bin/sh\necho \'{"path": "/old", "version": [3, 10, 4], "wheel": "", "seconds": 0.01}\'\n')
    (folders[0] / "broken").write_text("#!/bin/sh\nexit 3\n")
    for name in ("old", "broken"):
        (folders[0] / name).chmod(0o755)
    (folders[1] / "plain").write_text("no program")
    (found,) = find_interpreters(["old", "broken", "plain", "python3", "python3.11"], map(str, folders))
    assert found.version == sys.version_info[:3]
    assert found.seconds > 0
    assert os.path.samefile(found.path, os.path.realpath(sys.executable))


def test_an_interpreter_that_does_not_answer_is_none(tmp_path: Path) -> None:
    """So is one that is not there."""
    assert ask_interpreter(str(tmp_path / "python3")) is None


def test_the_environment_has_a_pip(tmp_path: Path) -> None:
    """Made without any download."""
    made = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "venv", os.path.realpath(sys.executable)], capture_output=True, text=True, timeout=120, check=False
    )
    assert made.returncode == 0, made.stderr
    answer = subprocess.run([tmp_path / "venv" / "bin" / "python", "-m", "pip", "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout.startswith("pip ")


def test_a_python_that_is_named_but_no_good(tmp_path: Path) -> None:
    """Is refused in one sentence, and nothing is made."""
    refused = subprocess.run([sys.executable, SCRIPT, tmp_path / "venv", tmp_path / "nothing"], capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"elis: {tmp_path / 'nothing'} is no Python 3.11 or newer")
    assert not (tmp_path / "venv").exists()
