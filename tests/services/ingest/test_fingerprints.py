"""Fingerprints: pinned values, what is variable and what is not, grouping and speed on real lines."""

from __future__ import annotations

import csv
import random
import time
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from services.ingest.fingerprints import fingerprint_bodies

LOGHUB = Path("/work/shared/data/loghub")
LOGHUB_FILES = ("Apache", "BGL", "HPC", "Hadoop", "Linux", "OpenSSH", "OpenStack", "Spark")


def template_of(body: str) -> str:
    fingerprints, templates = fingerprint_bodies([body])
    assert list(templates) == fingerprints
    return templates[fingerprints[0]]


# Fingerprints are stored with events. When one of these changes, every stored event loses its group: do not adapt them.
GOLDEN = {
    "": (0x2D06800538D394C2, ""),
    "session opened for user root by (uid=0)": (0x3FAD3A8115930DA5, "session opened for user <str> by (uid=<num>)"),
    "Failed password for invalid user admin from 10.0.0.1 port 34100 ssh2": (
        0x944EFD072879A60F,
        "Failed password for invalid user <str> from <ip> port <num> <id>",
    ),
    "connection from 211.167.68.59 (dsl.example.net) at Sat Jul  9 12:16:49 2005": (0xBE7C5492E1925869, "connection from <ip> (<host>) at <time>"),
    '10.11.10.1 "GET /v2/54fadb412c4e40cd/servers/detail HTTP/1.1" status: 200 len: 1893 time: 0.2477829': (
        0x4C3C461328F83B8E,
        '<ip> "GET <url>" status: <num> len: <num> time: <num>',
    ),
    "GET /orders/17?expand=items HTTP/1.1 503": (0xFE3CCA6F3828C18B, "GET <path> HTTP/<num>"),
    "IDoc status 51: Material M-17 does not exist in plant 1000": (0x5FE5F9E3EB9CCE8B, "IDoc status <num>: Material <id> does not exist in plant <num>"),
    "TIME_OUT: Time limit exceeded. (program SAPMSSY1)": (0x32BBB58125ACF39E, "TIME_OUT: Time limit exceeded. (program <id>)"),
    "sql error -10709 performing SEL on table T000": (0x336A3A43451A4694, "sql error <num> performing SEL on table <id>"),
    "volume is full: 99.8% of 512 GB used since 2024-01-02 10:11:12.123": (0xD444F46675768DC5, "volume is full: <num> of <num> used since <time>"),
    '{"order":17,"state":"shipped","items":[1,2,3]}': (0xCFBDF4BF0B402E00, '{"order":<num>,"state":<str>,"items":[<num>]}'),
    "https://example.com/a/b?c=1 returned 200 in 12 ms": (0x6FB09B7A6028473A, "<url> returned <num> in <num>"),
    "retry 3/5 of 4bf92f3577b34da6a3ce929d0e0e4736 uuid=123e4567-e89b-12d3-a456-426614174000 at 0x7f1c": (
        0xE2DAE670887AA431,
        "retry <num>/<num> of <hex> uuid=<uuid> at <hex>",
    ),
    "can't open file 'x y.txt' in C:\\Users\\bob\\file1.txt or /var/lib/x.dat": (0xB1753697CEE3492A, "can't open file <str> in <path> or <path>"),
    "listening on [::1]:8080 and fe80::1 for [email:0123456789ab]": (0xB2A6034FEF4C004C, "listening on [<ip>]:<num> and <ip> for <mask>"),
    "user=bob host=db1.example.com state=RUNNING retries=3": (0xF824CAA9B102047F, "user=<str> host=<str> state=RUNNING retries=<num>"),
    "Müller öffnet Tür 17 für 日本": (0xF8D4AFC5D198AB9C, "Müller öffnet Tür <num> für 日本"),
    "order 17 failed\njava.lang.IllegalStateException: no stock\n\tat a.B.c(B.java:42)": (
        0xE66C1C359D7AB268,
        "order <num> failed\njava.lang.IllegalStateException",
    ),
}


@pytest.mark.parametrize("body", GOLDEN)
def test_fingerprints_never_change(body: str) -> None:
    fingerprints, templates = fingerprint_bodies([body])
    assert (fingerprints[0], templates[fingerprints[0]]) == GOLDEN[body]


def test_a_fingerprint_is_the_hash_of_its_template() -> None:
    fingerprints, templates = fingerprint_bodies(["order 1 failed", "order 22 failed", "order 3 placed"])
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert all(xxh3_64_intdigest(template.encode()) == fingerprint for fingerprint, template in templates.items())


def test_only_the_first_line_and_the_exception_classes_of_a_trace_count() -> None:
    java = "order 17 failed\njava.lang.IllegalStateException: no stock\n\tat a.B.c(B.java:{})\nCaused by: java.net.ConnectException: refused {}\n\t... 12 more"
    python = 'request failed\nTraceback (most recent call last):\n  File "x.py", line {}, in get\nKeyError: {}'
    assert (
        template_of(java.format(1, 2))
        == template_of(java.format(33, "elsewhere"))
        == "order <num> failed\njava.lang.IllegalStateException\njava.net.ConnectException"
    )
    assert template_of(python.format(1, 2)) == "request failed\nKeyError"
    assert template_of(java.format(1, 2)) != template_of(java.replace("ConnectException", "SocketException").format(1, 2))
    assert template_of("first\nsecond 1") == template_of("first") == template_of("\n  first  \nthird")


@settings(max_examples=200, deadline=None)
@given(bodies=st.lists(st.text(max_size=60), max_size=6))
def test_the_order_and_company_of_bodies_do_not_matter(bodies: list[str]) -> None:
    together, templates = fingerprint_bodies(bodies)
    alone = [fingerprint_bodies([body])[0][0] for body in bodies]
    assert together == alone
    assert all(0 <= fingerprint < 2**64 for fingerprint in together)
    assert set(templates) == set(together)


@settings(max_examples=200, deadline=None)
@given(body=st.from_regex(r"[a-z]{1,8}( [a-z0-9.:/=_\"-]{1,12}){0,6}", fullmatch=True), seed=st.integers(0, 2**32))
def test_which_digits_a_body_has_does_not_matter(body: str, seed: int) -> None:
    digits = random.Random(seed)
    other = "".join(str(digits.randrange(10)) if character.isdigit() else character for character in body)
    assert fingerprint_bodies([body])[0] == fingerprint_bodies([other])[0]


def test_long_lines_are_cut() -> None:
    assert template_of("a" * 5_000) == template_of("a" * 6_000)


needs_loghub = pytest.mark.skipif(not LOGHUB.is_dir(), reason=f"the loghub files are not at {LOGHUB}")


@needs_loghub
def test_grouping_of_real_lines() -> None:
    """Prints the share of lines whose group is exactly that of the labelled template; the rules are not tuned to these files."""
    accuracies = []
    for name in LOGHUB_FILES:
        with (LOGHUB / name / f"{name}_2k.log_structured.csv").open(encoding="utf-8", errors="replace") as file:
            rows = list(csv.DictReader(file))
        found: defaultdict[int, set[int]] = defaultdict(set)
        truth: defaultdict[str, set[int]] = defaultdict(set)
        for number, (fingerprint, row) in enumerate(zip(fingerprint_bodies([row["Content"] for row in rows])[0], rows, strict=True)):
            found[fingerprint].add(number)
            truth[row["EventId"]].add(number)
        labelled = {frozenset(members) for members in truth.values()}
        accuracies.append(sum(len(members) for members in found.values() if frozenset(members) in labelled) / len(rows))
        print(f"{name}: grouping accuracy {accuracies[-1]:.3f}, {len(found)} groups, {len(truth)} labelled")
    mean = sum(accuracies) / len(accuracies)
    print(f"mean grouping accuracy {mean:.3f}")
    assert mean > 0.6


@needs_loghub
def test_speed_on_real_lines() -> None:
    """Prints lines per second, first and again; asserts a fraction, so that only a broken cache fails on a busy machine."""
    bodies = []
    for name in LOGHUB_FILES:
        with (LOGHUB / name / f"{name}_2k.log_structured.csv").open(encoding="utf-8", errors="replace") as file:
            bodies += [row["Content"] + " " for row in csv.DictReader(file)]
    started = time.process_time()
    fingerprint_bodies(bodies)
    cold = len(bodies) / (time.process_time() - started)
    started = time.process_time()
    fingerprint_bodies(bodies)
    warm = len(bodies) / (time.process_time() - started)
    print(f"fingerprints: {cold:,.0f} lines/s at first, {warm:,.0f} lines/s again")
    assert cold > 20_000
    assert warm > 100_000
