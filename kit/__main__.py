"""Entry point of the `elis` script. Loading a command takes a moment, in which Ctrl-C stops it without a traceback too."""

from __future__ import annotations

from importlib import import_module

INTERRUPTED = 130
"""Status of a shell command that SIGINT ended."""


def main() -> None:
    """Runs the command that `sys.argv` names."""
    try:
        import_module("kit.cli").main()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
