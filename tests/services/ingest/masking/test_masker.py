"""Masking: what is hidden, what is not, tokens that join, and that masking twice changes nothing."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import InvalidArgument
from services.ingest.batch import Batch
from services.ingest.masking import BUILT_IN_RULES, Masker, MaskingRule

LOGHUB = Path("/work/shared/data/loghub")
KEY = b"a key of the tests, thirty-two b"
MASKER = Masker(KEY)
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

SECRETS = [
    ("email", "mail to Bob.Smith+x@Example.co.uk now", "Bob.Smith+x@Example.co.uk"),
    ("email", "用户 müller@firma.de wartet", "müller@firma.de"),
    ("card", "card 4111 1111 1111 1111 refused", "4111 1111 1111 1111"),
    ("card", "card=5555-5555-5555-4444;", "5555-5555-5555-4444"),
    ("card", "amex 3782 822463 10005 ok", "3782 822463 10005"),
    ("card", "pan 6011111111111117", "6011111111111117"),
    ("iban", "IBAN DE89 3704 0044 0532 0130 00 OK", "DE89 3704 0044 0532 0130 00"),
    ("iban", "from BE71 0961 2345 6769 SENT", "BE71 0961 2345 6769"),
    ("iban", "GB29NWBK60161331926819.", "GB29NWBK60161331926819"),
    ("jwt", f"token was {JWT}", JWT),
    ("cloud_key", "key AKIAIOSFODNN7EXAMPLE used", "AKIAIOSFODNN7EXAMPLE"),
    ("cloud_key", "AIzaSyA1234567890abcdefghijklmnopqrstuv ok", "AIzaSyA1234567890abcdefghijklmnopqrstuv"),
    ("cloud_key", "ghp_" + "a1B2" * 9 + " pushed", "ghp_" + "a1B2" * 9),
    ("cloud_key", "hook xoxb-123456789012-abcdefABCDEF", "xoxb-123456789012-abcdefABCDEF"),
    ("cloud_key", "GET /c/blob?sv=1&sig=abcDEF123%2F456ghiJKL789%3D&se=2", "abcDEF123%2F456ghiJKL789%3D"),
    ("url_password", "open https://bob:s3cr3t@db.example/x", "s3cr3t"),
    ("url_password", "redis://:p@ss@cache:6379/0", "p@ss"),
    ("credential", "login password=hunter2&x=1", "hunter2"),
    ("credential", '{"user":"bob","db_password": "a b c","x":1}', "a b c"),
    ("credential", "passwd='it is secret'", "it is secret"),
    ("credential", "Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
    ("credential", "api_key: 0123456789", "0123456789"),
    ("credential", "DefaultEndpointsProtocol=https;AccountKey=Zm9vYmFy+/==;x", "Zm9vYmFy+/=="),
    ("credential", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("credential", 'log "{\\"client_secret\\":\\"abc\\"}"', "abc"),
    ("bearer", "sent bearer 0123456789abcdefghij", "0123456789abcdefghij"),
    ("private_key", "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----", "\nMIIEowIBAAKCAQEA\n"),
    ("private_key", "-----BEGIN%20PRIVATE+KEY-----%0AMIIEowIBAAKCAQEA%0A-----END%20PRIVATE%20KEY-----", "%0AMIIEowIBAAKCAQEA%0A"),
    (
        "private_key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0A1B\n\nMIIE\n-----END RSA PRIVATE KEY-----",
        "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0A1B\n\nMIIE\n",
    ),
    ("private_key", "{key=-----BEGIN PRIVATE KEY-----\\nMIIEowIBAAKCAQEA cut - off", "\\nMIIEowIBAAKCAQEA cut - off"),
    # names of programs: letters before, hills of camels
    ("credential", '{"accessToken": "abc"}', "abc"),
    ("credential", "dbpassword=hunter2", "hunter2"),
    ("credential", "userPwd: hunter2", "hunter2"),
    ("credential", "AccountKey=/mFyZm9v+/==;x", "/mFyZm9v+/=="),
    ("credential", r'{"password": "a\"b\\c"}', r"a\"b\\c"),
    # colours of terminals
    ("credential", "\x1b[36mpassword\x1b[0m=hunter2\x1b[0m", "hunter2"),
    ("credential", '\x1b[35mpwd\x1b[39m: "hunter2"', "hunter2"),
    ("bearer", "\x1b[31mBearer 0123456789abcdefghij\x1b[0m", "0123456789abcdefghij"),
    ("iban", "\x1b[1;31mDE89370400440532013000\x1b[0m", "DE89370400440532013000"),
    # JSON as text, of any depth and of any writer
    ("credential", r'log {"m":"first\npwd=hunter2"}', "hunter2"),
    ("credential", r'log {"a":"{\"b\":\"{\\\"password\\\":\\\"hunter2\\\"}\"}"}', "hunter2"),
    ("credential", r'{"q":"password\u003dhunter2"}', "hunter2"),
    ("credential", r'{"m":"{\u0022password\u0022:\u0022hunter2\u0022}"}', "hunter2"),
    ("credential", "<v>{&quot;password&quot;:&quot;hunter2&quot;}</v>", "hunter2"),
    ("email", r'{"m":"to anna\u0040example.org"}', r"anna\u0040example.org"),
    ("iban", r'{"m":"to\nDE89370400440532013000"}', "DE89370400440532013000"),
    ("card", r'{"m":"\u00224111111111111111\u0022"}', "4111111111111111"),
    ("url_password", r'{"dsn":"mysql:\/\/root:s3cr3t@db\/x"}', "s3cr3t"),
    # addresses of pages
    ("email", "GET /login?user=anna%40example.org&x=1", "anna%40example.org"),
    ("credential", "GET /x?next=%2Flogin%3Fpassword%3Dhunter2&x=1", "hunter2"),
    ("credential", "GET /x?payload=%7B%22password%22%3A%22hunter2%22%7D", "hunter2"),
    ("credential", "GET /x?h=Authorization%3A%20Basic%20dXNlcjpwYXNz&x=1", "dXNlcjpwYXNz"),
    ("bearer", "GET /x?h=Bearer+0123456789abcdefghij&x=1", "0123456789abcdefghij"),
    ("card", "POST pan=4111+1111+1111+1111&x=1", "4111+1111+1111+1111"),
    ("card", "POST q=%204111111111111111", "4111111111111111"),
    ("iban", "POST to=DE89%203704%200044%200532%200130%2000&x=1", "DE89%203704%200044%200532%200130%2000"),
    ("url_password", "GET /x?u=https%3A%2F%2Fbob%3As3cr3t%40db.example%2Fx&y=1", "s3cr3t"),
    # names of files
    ("iban", "statement_DE89370400440532013000_2026.pdf", "DE89370400440532013000"),
    ("iban", "statement-de89370400440532013000.pdf", "de89370400440532013000"),
    ("cloud_key", "backup_AKIAIOSFODNN7EXAMPLE_old.csv", "AKIAIOSFODNN7EXAMPLE"),
    ("jwt", f"dump_{JWT}", JWT),
]


@pytest.mark.parametrize(("rule", "text", "secret"), SECRETS)
def test_secrets_are_replaced_by_tokens_of_their_rule(rule: str, text: str, secret: str) -> None:
    preview = MASKER.preview([text])
    start = text.index(secret)
    assert re.fullmatch(re.escape(text[:start]) + rf"\[{rule}:[0-9a-f]{{12}}\]" + re.escape(text[start + len(secret) :]), preview.texts[0])
    assert preview.counts == {rule: 1}


@pytest.mark.parametrize(
    "text",
    [
        "Failed password for root from 1.2.3.4 port 34100 ssh2",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0",
        "PWD=/root ; USER=root ; COMMAND=/bin/ls",
        "sap-password=....",
        "password=*****",
        "max_tokens: 100",
        "order 4111111111111112 has a wrong check digit",
        "id 1445144423722 and 1704189600123456789",
        "attempt_1445144423722_0020_m_000009_0",
        "DE00 3704 0044 0532 0130 00 is no IBAN",
        "at com.example@1a2b and @Override",
        "see http://example.com:8080/x@y",
        "2024-01-02 10:00:00.123 started",
        "bypass=1 compass: north",
        'password="" user="bob"',
        "GET /%40angular%2Fcore?redirect=https%3A%2F%2Fexample.org%2Fa",
        "trace de12345678901234 of ad0123456789abcdef0123456789abcd",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert MASKER.mask_text(text) == text


def test_equal_values_get_equal_tokens_and_the_key_decides() -> None:
    def token_of(text: str, masker: Masker = MASKER) -> str:
        found = re.search(r"\[\w+:[0-9a-f]{12}\]", masker.mask_text(text))
        assert found is not None
        return found.group()

    assert token_of("a Bob@example.com b") == token_of("bob@EXAMPLE.com")
    assert token_of("4111 1111 1111 1111") == token_of("4111111111111111")
    assert token_of("DE89370400440532013000") == token_of("DE89 3704 0044 0532 0130 00")
    assert token_of("bob@example.com") != token_of("alice@example.com")
    assert token_of("bob@example.com") != token_of("bob@example.com", Masker(b"another key"))


def test_equal_values_in_other_spellings_get_equal_tokens() -> None:
    for spellings in (
        ("anna@example.org", "Anna@Example.ORG", "anna%40example.org", r"anna\u0040example.org"),
        ("4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111+1111+1111+1111", "4111%201111%201111%201111"),
        ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "de89370400440532013000", "DE89%203704%200044%200532%200130%2000"),
    ):
        assert len(set(MASKER.preview(spellings).texts)) == 1


def test_a_batch_is_masked_in_bodies_and_nested_attributes() -> None:
    batch = Batch()
    batch.append("hello bob@example.com", source="s", attributes={"a": {"b": ["x", "bob@example.com", 7, None]}, "password": "hunter2", "n": 1.5})
    batch.append("clean", source="s", attributes={"db.password": 1234, "card": "4111111111111111", "token": "", "secret": None, "pin_token": True})
    batch.append("clean", source="s")
    batch.append("clean", source="s", attributes={"user": "bob", "text": 'say "password=x"'})
    counts = MASKER.mask_batch(batch).counts
    mail = re.findall(r"\[email:[0-9a-f]{12}\]", batch.body[0])[0]
    first, second, third, fourth = batch.attributes
    assert first is not None
    assert first["a"] == {"b": ["x", mail, 7, None]}
    assert first["password"].startswith("[credential:")
    assert first["n"] == 1.5
    assert second is not None
    assert second["db.password"].startswith("[credential:")
    assert second["card"].startswith("[card:")
    assert (second["token"], second["secret"], second["pin_token"]) == ("", None, True)
    assert third is None
    assert fourth is not None
    assert fourth["text"].startswith('say "password=[credential:')
    assert counts == {"email": 2, "credential": 3, "card": 1}
    assert batch.body[1:] == ["clean"] * 3
    again = (list(batch.body), list(batch.attributes))
    assert MASKER.mask_batch(batch).counts == Counter()
    assert (batch.body, batch.attributes) == again


def test_a_preview_changes_nothing() -> None:
    texts = ["password=x", "clean"]
    preview = MASKER.preview(texts)
    assert texts == ["password=x", "clean"]
    assert preview.texts[1] == "clean"
    assert preview.counts == {"credential": 1}


def test_the_separator_of_columns_in_a_text_hides_nothing() -> None:
    assert MASKER.preview(["a\x1eb password=x", "c", "bob@example.com\x1e"]).counts == {"credential": 1, "email": 1}
    batch = Batch()
    batch.append("x", source="s", attributes={"a": ["1", "\x1e", "2"], "b": "bob@example.com"})
    batch.append("x", source="s", attributes={"c": "password=x"})
    assert MASKER.mask_batch(batch).counts == {"email": 1, "credential": 1}


def test_own_rules_work_without_hints() -> None:
    masker = Masker(KEY, (*BUILT_IN_RULES, MaskingRule("customer", r"\bC-(?P<secret>\d{6})\b")))
    preview = masker.preview(["C-123456 paid", "none", "C-1 and bob@example.com"])
    assert re.fullmatch(r"C-\[customer:[0-9a-f]{12}\] paid", preview.texts[0])
    assert preview.counts == {"customer": 1, "email": 1}
    batch = Batch()
    batch.append("x", source="s", attributes={"id": "C-654321"})
    assert masker.mask_batch(batch).counts == {"customer": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "No", "pattern": "x"},
        {"name": "a", "pattern": "("},
        {"name": "a", "pattern": "x*"},
        {"name": "a", "pattern": "x", "validator": "nope"},
        {"name": "a", "pattern": "x", "shapes": ("nope",)},
        {"name": "a", "pattern": "x", "hints": ("",)},
        {"name": "a", "pattern": "x", "keys": "["},
    ],
)
def test_rules_that_cannot_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        MaskingRule(**fields)


def test_a_masker_needs_a_key_and_distinct_rules() -> None:
    with pytest.raises(InvalidArgument):
        Masker(b"")
    with pytest.raises(InvalidArgument):
        Masker(KEY, (MaskingRule("a", "x"), MaskingRule("a", "y")))


_PIECES = st.sampled_from(
    [
        *(secret for _, _, secret in SECRETS),
        *(
            "password=",
            "token: ",
            '"secret":"',
            "://u:",
            "@",
            "@example.com",
            "[email:0123456789ab]",
            "[credential:0123456789ab]",
            "Bearer ",
            '"',
            "'",
            "\\",
            "=",
            ":",
            " ",
        ),
        *("4111", "1111", "-", "DE89", "eyJ", "AKIA", "sig=", "&", "\x1e", "\n", "é", "x", ".", "authorization=", "pwd:", "[card:"),
    ]
)
_TEXTS = st.lists(st.one_of(_PIECES, st.text(max_size=6)), max_size=10).map("".join)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(_TEXTS, min_size=1, max_size=5))
def test_masking_masked_text_changes_nothing(texts: list[str]) -> None:
    once = MASKER.preview(texts).texts
    assert MASKER.preview(once).texts == once


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(_TEXTS, min_size=1, max_size=8), padding=st.sampled_from(["", "plain words and nothing else " * 200]))
def test_the_first_look_misses_nothing(texts: list[str], padding: str) -> None:
    """A column gives what its texts give one by one when every rule is tried on every text, in small and in large columns."""
    unhinted = Masker(KEY, [MaskingRule(rule.name, rule.pattern, rule.validator, keys=rule.keys) for rule in BUILT_IN_RULES])
    assert MASKER.preview([*texts, padding]).texts[:-1] == unhinted.preview(texts).texts


@settings(max_examples=100, deadline=None)
@given(
    value=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), _TEXTS.filter(lambda text: text.isprintable())),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abpwtoken_", max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_attributes_keep_their_shape_and_are_masked_once(value: Any) -> None:
    batch = Batch()
    batch.append("x", source="s", attributes={"value": value, "password": "hunter2"})
    MASKER.mask_batch(batch)
    once = batch.attributes[0]
    assert once is not None
    assert list(once) == ["value", "password"]
    assert "hunter2" not in str(once["password"])
    assert not MASKER.mask_batch(batch).hits
    assert batch.attributes[0] == once


@pytest.mark.skipif(not LOGHUB.is_dir(), reason=f"the loghub files are not at {LOGHUB}")
def test_clean_lines_are_cheap() -> None:
    """Prints the speed; asserts a tenth of what one core of a small machine does, so that only a broken first look fails."""
    lines = [line for path in sorted(LOGHUB.glob("*/*_2k.log")) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    best = float("inf")
    for _ in range(3):
        batch = Batch(body=list(lines), source=["s"] * len(lines), attributes=[None] * len(lines))
        started = time.process_time()
        MASKER.mask_batch(batch)
        best = min(best, time.process_time() - started)
    print(f"masking: {len(lines) / best:,.0f} lines/s")
    assert len(lines) / best > 40_000
