"""Names that people give: one line of visible text."""

from __future__ import annotations

import unicodedata

from kit.errors import InvalidArgument

MAX_CHARACTERS = 128


def check_label(what: str, label: str) -> str:
    """Returns the text; raises InvalidArgument when it is empty, too long or has characters that cannot be seen."""
    if not label.strip():
        raise InvalidArgument(f"the {what} must not be empty")
    if len(label) > MAX_CHARACTERS:
        raise InvalidArgument(f"the {what} has at most {MAX_CHARACTERS} characters, not {len(label)}")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in label):
        raise InvalidArgument(f"the {what} must not contain control characters")
    return label
