"""The `elis` script is quiet when it is stopped before it has loaded its command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_INTERRUPTED = """
import sys
stopped = sys.argv[1]
class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == stopped:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interruption())
from kit.__main__ import main
sys.argv[1:] = ["ingest", "-h"]
main()
"""


@pytest.mark.parametrize("module", ["kit.cli", "sqlalchemy", "services.ingest.command"])
def test_ctrl_c_while_a_command_is_loaded_leaves_no_traceback(module: str) -> None:
    result = subprocess.run([sys.executable, "-c", _INTERRUPTED, module], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (result.returncode, result.stderr) == (130, "")
