"""A trial of the rules of teams before they are used: no pattern may make a batch expensive, or eat ordinary text.

RE2 makes every search linear, but replacing all matches searches once per match: a pattern that begins to match everywhere
and looks far ahead each time is still quadratic. So each pattern is run on texts made of its own literals, under a bound.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from time import thread_time
from typing import Final

from kit.errors import InvalidArgument
from services.ingest.masking.rules import MaskingRule

MAX_PATTERN: Final = 2_000
MAX_HINTS: Final = 32
MAX_HINT: Final = 64
TRIAL_CHARACTERS: Final = 65_536
TRIAL_SECONDS: Final = 0.6
"""CPU time for one text: far above the 0.2 s of a harmless pattern, far below the 2.5 s of one that looks at the rest of the text for each match."""
_MAX_TEXTS: Final = 12
_LITERAL: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_CLASSES: Final = re.compile(r"\\[pPdDwWsSbBnrtfvAzxQE]|[(]\?[^)]*?[:>)]")


class UnusableRule(InvalidArgument):
    """A masking rule would be too slow, or would mask ordinary text."""


def check_rule(rule: MaskingRule) -> None:
    """Raises UnusableRule when a team's rule is too large, too slow or masks single characters. Takes up to three seconds."""
    for what, text in (("pattern", rule.pattern), ("keys", rule.keys)):
        if len(text) > MAX_PATTERN:
            raise UnusableRule(f"the {what} of masking rule {rule.name} has {len(text)} characters, more than {MAX_PATTERN}")
        if "\x00" in text:
            raise UnusableRule(f"the {what} of masking rule {rule.name} holds a NUL; write \\x00")
    if len(rule.hints) > MAX_HINTS or any(len(hint) > MAX_HINT for hint in rule.hints):
        raise UnusableRule(f"masking rule {rule.name} has more than {MAX_HINTS} hints, or one longer than {MAX_HINT} characters")
    if not rule.pattern:
        return
    single = next((character for character in string.printable if _hides(rule, character)), None)
    if single is not None:
        raise UnusableRule(f"masking rule {rule.name} masks the single character {single!r}: ordinary text would be lost; make its pattern longer")
    for text in _adversaries(rule.pattern):
        started = thread_time()
        for match in rule.regex.finditer(text):
            match.span()
            if thread_time() - started > TRIAL_SECONDS:
                raise UnusableRule(
                    f"masking rule {rule.name} is too slow: {TRIAL_CHARACTERS} characters such as {text[:16]!r} take more than {TRIAL_SECONDS} s; "
                    "bound what stands between its ends, as in [^;]{1,100}"
                )


def _hides(rule: MaskingRule, text: str) -> bool:
    match = rule.regex.search(text)
    return match is not None and match.group() != ""


def _adversaries(pattern: str) -> Iterator[str]:
    """Returns texts made of what the pattern looks for."""
    literals = list(dict.fromkeys(_LITERAL.findall(_CLASSES.sub(" ", pattern))))
    characters = list(dict.fromkeys(character for character in pattern if character.isprintable() and character not in "\\()[]{}?*+|^$"))
    pieces = [*dict.fromkeys((*literals, *characters))][: _MAX_TEXTS - 4]
    for piece in (*pieces, "a", "0", "a0 ", "".join(literals)):
        if piece:
            yield (piece * (TRIAL_CHARACTERS // len(piece) + 1))[:TRIAL_CHARACTERS]
