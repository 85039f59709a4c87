"""Chooses the Python that ELIS runs with, and makes the virtual environment. Run as `python3 kit/interpreters.py FOLDER [PYTHON]`.

Half of what ELIS costs is spent in the interpreter, and two builds of one version differ by a third: those of
distributions and of the official images are optimised with profiles, those that are compiled by hand often are not.
No build says reliably which it is, so each one on the path shows how fast it is.

Needs nothing but the standard library: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

OLDEST = (3, 11)
NAMES = ("python3", "python3.13", "python3.12", "python3.11")
WORTH_IT = 0.9
"""An interpreter is preferred to the first one of the path when it needs at most this share of its time."""
ANSWER_SECONDS = 20.0
_QUESTION = """
import glob, json, os, sys, time
try:
    import ensurepip
    wheels = glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), "_bundled", "pip-*.whl"))
except ImportError:
    wheels = []
def work():
    rows = [("k%d" % (number % 100), number) for number in range(20000)]
    counts = {}
    for key, number in rows:
        counts[key] = counts.get(key, 0) + number
    return len([key + ":" + key.upper() for key, number in rows if number % 3])
def timed():
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
seconds = min(timed() for _ in range(9)) if sys.version_info >= (3, 11) else 0.0
version = list(sys.version_info[:3])
print(json.dumps({"path": os.path.realpath(sys.executable), "version": version, "wheel": "".join(wheels[:1]), "seconds": seconds}))
"""


class Interpreter:
    """A Python that was found, and what it says of itself."""

    def __init__(self, path: str, version: tuple[int, ...], wheel: str, seconds: float) -> None:
        self.path = path
        self.version = version
        self.wheel = wheel
        """The pip that it brings along, or an empty string: on Debian that is a package of its own."""
        self.seconds = seconds
        """What a small piece of work took."""

    def __str__(self) -> str:
        return f"{self.path} (Python {'.'.join(map(str, self.version))})"


def find_interpreters(names: Iterable[str], folders: Iterable[str]) -> list[Interpreter]:
    """Returns the interpreters of these names in these folders that are new enough, in the order of the folders, each once."""
    found: dict[str, Interpreter] = {}
    for folder in folders:
        for name in names:
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK) and os.path.isfile(path) and (interpreter := ask_interpreter(path)) is not None:
                found.setdefault(interpreter.path, interpreter)
    return list(found.values())


def ask_interpreter(path: str) -> Interpreter | None:
    """Returns what an interpreter says of itself; None when it does not run or is too old."""
    try:
        answer = subprocess.run([path, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True).stdout
        said = json.loads(answer)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    version = tuple(said["version"])
    return Interpreter(said["path"], version, said["wheel"], said["seconds"]) if version >= OLDEST else None


def choose_interpreter(found: list[Interpreter]) -> Interpreter:
    """Returns the first one, unless another is clearly faster."""
    fastest = min(found, key=lambda interpreter: interpreter.seconds)
    return fastest if fastest.seconds <= found[0].seconds * WORTH_IT else found[0]


def make_environment(folder: Path, interpreter: Interpreter, wheel: str) -> None:
    """Makes the virtual environment with a pip in it, without any download. Raises CalledProcessError."""
    subprocess.run([interpreter.path, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, f"{wheel}/pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", wheel], check=True)


def main() -> int:
    """Makes the environment; says what it chose when that is not the first Python of the path, and what is missing."""
    parser = argparse.ArgumentParser(description="Makes a virtual environment with the fastest Python of this machine.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("python", nargs="?", default="", help="take this one instead")
    arguments = parser.parse_args()
    on_path = find_interpreters(NAMES, os.environ.get("PATH", os.defpath).split(os.pathsep))
    wanted = ask_interpreter(arguments.python) if arguments.python else None
    oldest = ".".join(map(str, OLDEST))
    if arguments.python and wanted is None:
        sys.stderr.write(f"elis: {arguments.python} is no Python {oldest} or newer; name one: make PYTHON=/path/to/python{oldest}\n")
        return 1
    if not (wanted or on_path):
        sys.stderr.write(f"elis: needs Python {oldest} or newer; install one or say where it is: make PYTHON=/path/to/python{oldest}\n")
        return 1
    chosen = wanted or choose_interpreter(on_path)
    wheel = chosen.wheel or next((interpreter.wheel for interpreter in on_path if interpreter.wheel), "")
    if not wheel:
        sys.stderr.write(f"elis: {chosen} brings no pip; install its venv module (on Debian: apt install python3-venv)\n")
        return 1
    if wanted is None and chosen is not on_path[0]:
        sys.stdout.write(f"taking {chosen}: {on_path[0].seconds / chosen.seconds:.1f} times as fast as {on_path[0]}\n")
    make_environment(arguments.folder, chosen, wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
