"""Masking rules as data, and the rules that every installation starts with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import orjson
import re2
from stdnum import iban, luhn, numdb

from kit.errors import InvalidArgument

MASK_PATTERN: Final = r"\[[a-z][a-z0-9_]{0,31}:[0-9a-f]{12}\]"
"""What a masked value looks like."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAX_PROGRAM_BYTES: Final = 4 * 1024 * 1024
_HINT_LENGTH: Final = 4
_HARMLESS = re.compile(r"\\[^AzQ]|\[\^")
_ANCHOR = re.compile(r"[\\^$]")
"""What ties an expression to the ends of a text, or may hide that, once the harmless is gone: other escapes and the heads of classes."""
_ODD_JSON: Final = r"\\|[:,\[]-?(?:[0-9][0-9.]*[eE]|0\.0000)"
"""What a text or a number is written as in JSON when it is written otherwise than by Python."""


@dataclass(frozen=True)
class MaskingRule:
    """One kind of value to hide. All fields are plain data, so that rules can be stored, listed and edited.

    `pattern` is a regular expression. Groups named `secret`, `secret2` … mark what is replaced; without them the whole match is.
    `validator` names an entry of VALIDATORS, or is empty.
    `look` is a regular expression of RE2 that finds a part of whatever the pattern finds, in plain text and where it is
    escaped as in JSON. `hints` say the same more simply: ASCII texts (any case; the first four characters count) without
    which the pattern cannot match; so do `shapes`, names of SHAPES, for runs of digits. They keep clean batches cheap. A rule
    with none of them is searched in every text.
    `keys` is a regular expression for names of attributes whose whole value is hidden; with it the pattern may be empty.
    `sealed` says that the values are kept encrypted and may be revealed. `linear` rules are those of a team: RE2 searches for
    them, whose time is linear in the text whatever the pattern; it knows neither look-around nor back-references.
    """

    name: str
    pattern: str
    validator: str = ""
    hints: tuple[str, ...] = ()
    look: str = ""
    shapes: tuple[str, ...] = ()
    keys: str = ""
    sealed: bool = False
    linear: bool = False

    def __post_init__(self) -> None:
        """Raises InvalidArgument when a field cannot be used."""
        if _NAME.fullmatch(self.name) is None:
            raise InvalidArgument(f"the name of a masking rule is 1 to 32 of a-z, 0-9 and _, not {self.name!r}")
        if self.validator and self.validator not in VALIDATORS:
            raise InvalidArgument(f"there is no validator {self.validator!r}; choose one of {', '.join(VALIDATORS)}")
        for hint in self.hints:
            if not hint or not hint.isascii():
                raise InvalidArgument(f"a hint is ASCII text, not {hint!r}")
        for shape in self.shapes:
            if shape not in SHAPES:
                raise InvalidArgument(f"there is no shape {shape!r}; choose one of {', '.join(SHAPES)}")
        if not self.pattern and not self.keys:
            raise InvalidArgument(f"masking rule {self.name} has neither a pattern nor keys")
        for text, engine in ((self.pattern, self._compile), (self.keys, self._compile), (self.look, _compile_linear)):
            try:
                compiled = engine(text)
            except (re.error, re2.error) as error:
                # RE2 gives its reason as bytes.
                reason = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else str(error)
                raise InvalidArgument(f"the pattern {text!r} of masking rule {self.name} is not a regular expression: {reason}") from None
            if text and compiled.search("") is not None:
                raise InvalidArgument(f"the pattern {text!r} of masking rule {self.name} matches the empty text")

    def _compile(self, text: str) -> Any:
        """Returns a compiled expression of this rule's engine; both have the methods of `re.Pattern` that masking uses."""
        return _compile_linear(text) if self.linear else re.compile(text)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The compiled pattern, of `re` or of RE2."""
        compiled: re.Pattern[str] = self._compile(self.pattern)
        return compiled

    @cached_property
    def key_regex(self) -> re.Pattern[str] | None:
        """The compiled expression for attribute names, or None."""
        return self._compile(self.keys) if self.keys else None

    @cached_property
    def first_look(self) -> str:
        """The look of the rule, made of its hints and shapes when it has none of its own; empty when it has neither."""
        if self.look:
            return self.look
        starts = {start for hint in self.hints for start in (hint[:_HINT_LENGTH], _encode_hint(hint[:_HINT_LENGTH]))}
        return "|".join([f"(?i:{re2.escape(start)})" for start in sorted(starts)] + [SHAPES[shape] for shape in self.shapes])

    def can_change(self, content: bytes) -> bool:
        """Says whether a rule of a team can change a JSON value, from its encoding: True may be a mistake, False is none."""
        return self._in_json is None or self._in_json.search(content) is not None

    @cached_property
    def _in_json(self) -> Any:
        """What is found in the JSON of whatever the rule changes; None when that cannot be told, as of anchors."""
        if _ANCHOR.search(_HARMLESS.sub("", self.pattern)) or _ANCHOR.search(_HARMLESS.sub("", self.keys)):
            return None
        looks = (_ODD_JSON, self.pattern, f'"(?:{self.keys})":' if self.keys else "")
        # Together they are as large as both: what could be compiled alone can be compiled so.
        return _compile_linear("|".join(f"(?:{look})" for look in looks if look), 3 * _MAX_PROGRAM_BYTES)

    @cached_property
    def secret_groups(self) -> tuple[int, ...]:
        """Numbers of the groups that mark what is replaced."""
        return tuple(number for name, number in self.regex.groupindex.items() if name.startswith("secret"))

    @cached_property
    def measure(self) -> Callable[[str], int] | None:
        """The validator: returns how many leading characters of a match are a real value, 0 for none."""
        return VALIDATORS[self.validator] if self.validator else None


def _compile_linear(text: str, max_bytes: int = _MAX_PROGRAM_BYTES) -> Any:
    options = re2.Options()
    options.log_errors = False  # the error says it
    options.max_mem = max_bytes
    return re2.compile(text, options)


def _encode_hint(text: str) -> str:
    return orjson.dumps(text).decode()[1:-1]


GAP: Final = re.compile(r"[ +-]|%20")
"""What stands between the groups of a number: a blank, also as in the address of a page, or a hyphen."""


def measure_card(text: str) -> int:
    """Returns the length of `text` when its digits are a card number of a known brand, length and check digit, else 0."""
    digits = GAP.sub("", text)
    if not luhn.is_valid(digits):
        return 0
    return len(text) if any(digits.startswith(heads) and len(digits) in lengths for heads, lengths in _BRANDS) else 0


_BRANDS: Final = (
    (("4",), (13, 16, 19)),  # Visa
    (("51", "52", "53", "54", "55", *map(str, range(2221, 2721))), (16,)),  # Mastercard
    (("34", "37"), (15,)),  # American Express
    (("6011", "644", "645", "646", "647", "648", "649", "65", "62"), (16, 17, 18, 19)),  # Discover, UnionPay
    (tuple(map(str, range(3528, 3590))), (16, 17, 18, 19)),  # JCB
    (("36", "38", "39", "300", "301", "302", "303", "304", "305"), (14, 16)),  # Diners Club
    (("5018", "5020", "5038", "5893", "6304", "6759", "6761", "6762", "6763"), (16, 17, 18, 19)),  # Maestro
)


_LETTER_VALUES: Final = str.maketrans({chr(55 + number): str(number) for number in range(10, 36)})
"""Letters as numbers, as the check digits of IBANs take them (ISO 7064, MOD 97-10): A is 10, Z is 35."""


def measure_iban(text: str) -> int:
    """Returns the length of the longest start of `text` that is an IBAN, in any case, cut at gaps; 0 when there is none."""
    ends = [len(text), *reversed([gap.start() for gap in GAP.finditer(text)])]
    for end in ends:
        number = GAP.sub("", text[:end]).upper()
        if _can_be_iban(number) and iban.is_valid(number):
            return end
    return 0


def _can_be_iban(number: str) -> bool:
    """Rules out most of what looks like an IBAN, such as hexadecimal ids, in one step: the check digits of the usual spelling."""
    usual = number.isascii() and number.isalnum()
    return not usual or int((number[4:] + number[:4]).translate(_LETTER_VALUES)) % 97 == 1


VALIDATORS: Final[dict[str, Callable[[str], int]]] = {"card": measure_card, "iban": measure_iban}
"""Checks by name. Each returns how many leading characters of the match are a real value."""

SHAPES: Final[dict[str, str]] = {
    "card": "[0-9]{4}(?:[0-9]{9}|[ -][0-9]{4}[ -][0-9]{4}|[ -][0-9]{6}[ -][0-9]{4})",
    "iban": "[A-Z]{2}[0-9]{2}[A-Z0-9 ]",
}
"""Looks for runs of digits (and capitals) by name."""

_ESCAPED = r"(?<=\\[bfnrt])|(?<=\\u00[0-9A-Fa-f]{2})|(?<=%[0-9A-Fa-f]{2})|(?<=[\[;][0-9]m)|(?<=[\[;][0-9]{2}m)|(?<=\[m)"
"""Behind an escape of JSON or of an address of a page, or a colour of a terminal: its last letter does not belong to what follows."""
_COLOUR = r"(?:\x1b\[[0-9;]{0,16}m)?"
_BLANK = r"(?:[ \t+]|%20)"
_QUOTE = r"(?:\\{0,15}[\"']|\\{1,3}u002[27]|%2[27]|&quot;|&#3[49];)"
_LONG_NAMES = (
    r"(?:pass(?:word|wd|phrase|code)|secret(?:[_-]?access[_-]?key|[_-]?key)?|client[_-]?secret|api[_-]?key|access[_-]?key(?:[_-]?id)?|"
    r"private[_-]?key|account[_-]?key|shared[_-]?access[_-]?key|encryption[_-]?key|signing[_-]?key|token|authorization|mysapsso2)"
)
"""Also behind other letters: dbpassword, accessToken. The short ones, pass and pwd, are not to be found in bypass."""
_CAMEL_NAMES = r"(?-i:(?<=[a-z])P(?:ass|wd))"
_ASSIGNS = rf"(?![A-Za-z]){_QUOTE}?{_COLOUR}{_BLANK}{{0,3}}(?:=>|[:=]|%3[ADad]|\\{{1,3}}u003[DAda])"
_DONE = rf"(?!{MASK_PATTERN}|\*{{2,}}|\.{{3,}})"
_SCHEME = rf"(?:(?:Bearer|Basic|Splunk|Digest|ApiKey|Token){_BLANK}+)"

# For looks, which read JSON too. There a quote has a backslash more, a tab is \t, and what stands before a name or a number
# may be the last letter of an escape. In any case: without regard to case Python takes four letters more for those of ASCII.
_LOOK_BLANK = r"(?:[ \t+]|\\t|%20)"
_LOOK_ASSIGNS = r"(?:\\*(?:[\"']|u002[27])|%2[27]|&quot;|&#3[49];)?(?:(?:\x1b|\\u001b)\[[0-9;]*m)?" + _LOOK_BLANK + r"{0,3}(?:=>|[:=]|%3[ADad]|\\+u003[DAda])"
_LOOK_NAMES = rf"(?:{_LONG_NAMES}|pass|pwd)".replace("i", "[iıİ]")
_NO_WORD = r"(?:[^A-Za-z0-9]|\\[bfnrt]|\\u00[0-9A-Fa-f]{2}|%[0-9A-Fa-f]{2}|[0-9\[]m)"
_NO_DIGIT = r"(?:[^0-9.]|\\u00[0-9A-Fa-f]{2}|%[0-9A-Fa-f]{2})"
_COUNTRIES = "|".join(country for _, country, *_ in numdb.get("iban").prefixes)
_LETTER = r"\x{80}-\x{10ffff}"

BUILT_IN_RULES: Final = (
    # https://user:secret@host, redis://:secret@host; also where the address is escaped in another or in JSON
    MaskingRule(
        "url_password",
        rf":(?:\\?/){{2}}[^\s/:@\"'\x1e]{{0,128}}:{_DONE}(?P<secret>[^\s/\"'\x1e]{{1,256}})@"
        rf"|%3[Aa]%2[Ff]%2[Ff][^\s%&\"'\x1e]{{0,128}}%3[Aa]{_DONE}(?P<secret2>[^\s&\"'\x1e]{{1,256}}?)%40",
        look=r":(?:\\*/){2}[^\s/:@\"'\x1e]*:[^\s/\"'\x1e]+@|%3[Aa]%2[Ff]%2[Ff][^\s%&\"'\x1e]*%3[Aa][^\s&\"'\x1e]+%40",
    ),
    # password=…, "passwd": "…", api_key: …, Authorization: Bearer …; PWD=/home is a folder.
    MaskingRule(
        "credential",
        rf"(?i)(?=[acempst])(?:{_LONG_NAMES}|(?:(?<![A-Za-z])|{_ESCAPED})(?:pass|(?P<folder>pwd))|{_CAMEL_NAMES}){_ASSIGNS}{_COLOUR}{_BLANK}{{0,3}}{_COLOUR}"
        rf"(?:(?P<quote>{_QUOTE}){_SCHEME}?{_DONE}(?!(?P=quote))(?:(?P<secret>[^\x1e]{{1,4096}}?)(?:(?<!\\)(?P=quote)|$)|(?P<secret2>[^\"'\\\x1e]{{1,4096}}))"
        rf"|(?!{_QUOTE}|{_BLANK}|\\)(?(folder)(?!/))(?:{_SCHEME}{_DONE}(?P<secret3>[^\s\"'&,;<>(){{}}|\\\x1b\x1e]{{1,4096}})"
        rf"|(?!{_SCHEME}){_DONE}(?P<secret4>[^\s\"'&,;<>(){{}}|\\\x1b\x1e]{{1,4096}})))",
        look=rf"(?i:{_LOOK_NAMES}){_LOOK_ASSIGNS}",
        keys=rf"(?i)(?:.*{_LONG_NAMES}|.*{_CAMEL_NAMES}|(?:.*[^A-Za-z])?(?:pass|pwd))",
    ),
    MaskingRule(
        "bearer",
        rf"(?i)(?:bearer|splunk){_BLANK}+{_DONE}(?P<secret>[A-Za-z0-9._~+/-]{{16,4096}}=*)",
        look=rf"(?i:(?:bearer|splunk){_LOOK_BLANK}+[A-Za-zıİ0-9._~+/-]{{16}})",
    ),
    MaskingRule(
        "private_key",
        r"-----BEGIN(?:[ +]|%20)(?:[A-Z0-9]{1,16}(?:[ +]|%20)){0,3}PRIVATE(?:[ +]|%20)KEY-----"
        r"(?P<secret>(?:[^-\x1e]|-(?!----)){16,16384}(?=-----END|$)|[A-Za-z0-9+/=\s\\%]{16,16384})",
        look="-----BEGIN(?:[ +]|%20)(?:[A-Z0-9]{1,16}(?:[ +]|%20)){0,3}PRIVATE(?:[ +]|%20)KEY-----",
    ),
    MaskingRule(
        "jwt",
        # Possessive, and with short headers: what looks like one long header of many beginnings is read from each of them.
        r"eyJ[A-Za-z0-9_-]{8,2048}+\.[A-Za-z0-9_-]{8,8192}+\.[A-Za-z0-9_-]{0,2048}",
        look=r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.",
    ),
    MaskingRule(
        "cloud_key",
        r"(?:AKIA|ASIA|AROA|AIDA|AGPA)[A-Z0-9]{16}(?![A-Za-z0-9])|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,2048}|gh[pousr]_[A-Za-z0-9]{36,255}"
        r"|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,255}|xox[abeoprs]-[A-Za-z0-9-]{10,255}|[sr]k_live_[A-Za-z0-9]{16,255}"
        r"|npm_[A-Za-z0-9]{36}|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}|(?<=[?&]sig=)[A-Za-z0-9%+/=]{20,255}",
        # Tens of what follows: longer counts that overlap make an automaton of very many states.
        look=r"(?:(?:AKIA|ASIA|AROA|AIDA|AGPA)[A-Z0-9]{6}|AIza|ya29\.|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|[sr]k_live_|npm_|SG\.|[?&]sig=)"
        r"[A-Za-z0-9_%+/=-]{10}",
    ),
    MaskingRule(
        "email",
        r"[\w.%+-]{1,64}(?:@|%40|\\{1,3}u0040)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}",
        look=rf"[\w.%+{_LETTER}-](?:@|%40|\\{{1,7}}u0040)(?:[\w{_LETTER}-]+\.)+[A-Za-z{_LETTER}]{{2}}",
    ),
    MaskingRule(
        "iban",
        rf"(?:(?<![A-Za-z0-9])|{_ESCAPED})[A-Za-z]{{2}}\d{{2}}"
        r"(?:(?:(?:[ +]|%20)[A-Za-z0-9]{4}){2,7}(?:(?:[ +]|%20)[A-Za-z0-9]{1,3})?|[A-Za-z0-9]{11,30})(?![A-Za-z0-9])",
        validator="iban",
        look=rf"{_NO_WORD}(?i:{_COUNTRIES})[0-9\p{{Nd}}]{{2}}(?:[A-Za-z0-9]{{11}}|(?:(?:[ +]|%20)[A-Za-z0-9]{{4}}){{2}})",
    ),
    MaskingRule(
        "card",
        r"(?:(?<![\d.%])|(?<=\\u00[0-9A-Fa-f]{2})|(?<=%[0-9A-Fa-f]{2}))"
        r"(?:[2-6]\d{3}(?P<gap>(?:[ +-]|%20)?)\d{4}(?P=gap)\d{4}(?P=gap)\d{4}(?:(?P=gap)\d{1,3})?"
        r"|3\d{3}(?P<gap2>(?:[ +-]|%20)?)\d{6}(?P=gap2)\d{4,5}|4\d{12})(?!\d)",
        validator="card",
        look=rf"{_NO_DIGIT}(?:[2-6][0-9]{{3}}(?:[0-9]{{12,15}}|(?:(?:[ +-]|%20)[0-9]{{4}}){{3}})"
        r"|3[0-9]{3}(?:[0-9]{10,11}|(?:[ +-]|%20)[0-9]{6}(?:[ +-]|%20)[0-9]{4,5})|4[0-9]{12})[^0-9]",
    ),
)
"""The rules that every installation starts with, in the order in which they are applied."""
