"""What commands say to a person: on stderr, so that stdout stays for the answer."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

console = Console(stderr=True, highlight=False)


def complain(message: str) -> None:
    """Prints one clear sentence that says what is wrong and what to do."""
    console.print(Text.assemble(("elis: ", "bold red"), message), soft_wrap=True)
