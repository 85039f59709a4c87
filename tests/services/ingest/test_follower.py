"""Following files: every record once, in order, through growth, rotation, truncation and crashes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.errors import InvalidArgument
from services.ingest import follower as follower_module
from services.ingest.follower import Follower, Portion
from services.ingest.positions import Position, PositionFolder


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is quiet is complete at once: the bounds of time are not what is tested here."""
    monkeypatch.setattr(follower_module, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(follower_module, "ROTATED_SECONDS", -1.0)


def open_follower(path: Path, format_name: str = "plain") -> Follower:
    return Follower(path, PositionFolder(path.parent / "state"), format_name)


def drain(follower: Follower) -> list[str]:
    """Returns everything that is new, acknowledged."""
    records: list[str] = []
    idle = 0
    while idle < 3:
        portion = follower.read()
        if portion is None:
            idle += 1
            continue
        records += portion.records
        follower.acknowledge(portion)
    return records


def test_what_is_appended_comes_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\ntwo\n")
    follower = open_follower(path)
    assert drain(follower) == ["one", "two"]
    with path.open("a") as file:
        file.write("three\nfo")
    assert drain(follower) == ["three"]
    with path.open("a") as file:
        file.write("ur\n")
    assert drain(follower) == ["four"]


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    follower = open_follower(tmp_path / "app.log")
    assert follower.read() is None
    (tmp_path / "app.log").write_text("hello\n")
    assert drain(follower) == ["hello"]


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\n")
    follower = open_follower(path)
    assert drain(follower) == ["one"]
    path.rename(tmp_path / "app.log.1")
    path.write_text("three\n")
    with (tmp_path / "app.log.1").open("a") as file:
        file.write("two\nno line end")
    assert drain(follower) == ["two", "no line end", "three"]


def test_files_that_rotated_while_nobody_followed_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\n")
    follower = open_follower(path)
    assert drain(follower) == ["one"]
    follower.close()
    path.rename(tmp_path / "app.log.2")
    os.utime(tmp_path / "app.log.2", ns=(1, 1))
    (tmp_path / "app.log.1").write_text("two\n")
    os.utime(tmp_path / "app.log.1", ns=(2, 2))
    path.write_text("three\n")
    assert drain(open_follower(path)) == ["two", "three"]


@pytest.mark.parametrize("content", ["new\n", "a new first line that is longer than what was there\n"])
def test_a_file_that_was_copied_and_emptied_begins_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "app.log"
    path.write_text("one line that is long\ntwo\n")
    follower = open_follower(path)
    assert len(drain(follower)) == 2
    path.write_text(content)  # the same inode
    assert drain(follower) == [content.strip()]


@pytest.mark.parametrize("banner", ["", "x" * 300 + "\n"], ids=["", "with the same first lines"])
@pytest.mark.parametrize("away", [False, True], ids=["while it is followed", "while nobody follows"])
def test_what_was_not_read_of_an_emptied_file_comes_from_its_copy(tmp_path: Path, banner: str, away: bool) -> None:
    path = tmp_path / "app.log"
    path.write_text(f"{banner}one\n")
    follower = open_follower(path)
    assert drain(follower)[-1] == "one"
    with path.open("a") as file:
        file.write("two\nthree without an end")
    shutil.copyfile(path, tmp_path / "app.log.1")
    path.write_text("")
    if away:
        follower.close()
        path.write_text(f"{banner}four, and it is longer than what there was before\n")
        follower = open_follower(path)
    assert drain(follower)[:2] == ["two", "three without an end"]
    path.write_text(f"{banner}four, and it is longer than what there was before\n")
    assert (drain(follower) or ["four, and it is longer than what there was before"])[-1] == "four, and it is longer than what there was before"


def test_what_was_on_its_way_is_sent_from_the_copy_of_an_emptied_file(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\ntwo\n")
    follower = open_follower(path)
    portion = follower.read()
    assert portion is not None
    shutil.copyfile(path, tmp_path / "app.log-20261124")
    path.write_text("three\n")
    again = follower.read()
    assert again is not None
    assert (again.records, again.scope) == (portion.records, portion.scope)
    assert drain(follower) == ["one", "two", "three"]


def test_only_the_rotated_files_of_a_log_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "app[1].log"
    path.write_text("one\n")
    follower = open_follower(path)
    assert drain(follower) == ["one"]
    path.rename(tmp_path / "app[1].log.1")
    for name in ("app[1].log-audit", "app[1].log.err", "app[1].log.2.gz", "app1.log.1"):
        (tmp_path / name).write_text(f"another log: {name}\n")
    (tmp_path / "app[1].log.bak").write_text("one\n")  # a copy of what was read
    (tmp_path / "app[1].log-20261124").write_text("two\n")
    path.write_text("three\n")
    assert drain(follower) == ["two", "three"]


def test_files_that_were_filled_since_are_read_when_the_known_one_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\n")
    os.utime(path, ns=(1, 1))
    follower = open_follower(path)
    assert drain(follower) == ["one"]
    follower.close()
    path.unlink()
    (tmp_path / "app.log.1").write_text("two\n")
    os.utime(tmp_path / "app.log.1", ns=(2, 2))
    path.write_text("three\n")
    follower = open_follower(path)
    assert drain(follower) == ["two", "three"]
    assert "is another file than before" in follower.notes[0]


def test_a_file_that_was_made_again_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("x" * 300 + "\none\n")
    follower = open_follower(path)
    assert drain(follower)[-1] == "one"
    follower.close()
    path.write_text("x" * 300 + "\ntwo and more\n")  # the same inode, as after removing it and making it again
    assert drain(open_follower(path))[-1] == "two and more"


def test_a_renamed_file_is_found_whatever_its_name_is(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\n")
    follower = open_follower(path)
    assert drain(follower) == ["one"]
    follower.close()
    with path.open("a") as file:
        file.write("two\n")
    path.rename(tmp_path / "app-2026-11-24.log")
    path.write_text("three\n")
    assert drain(open_follower(path)) == ["two", "three"]


def test_a_link_leads_to_the_folder_where_the_file_rotates(tmp_path: Path) -> None:
    (tmp_path / "pod").mkdir()
    real, path = tmp_path / "pod" / "0.log", tmp_path / "shop.log"
    real.write_text("one\n")
    path.symlink_to(real)
    follower = open_follower(path)
    assert drain(follower) == ["one"]
    follower.close()
    with real.open("a") as file:
        file.write("two\n")
    real.rename(tmp_path / "pod" / "0.log.20261124-101010")
    real.write_text("three\n")
    assert drain(open_follower(path)) == ["two", "three"]


def test_zeros_in_front_of_what_a_writer_adds_to_an_emptied_file_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\n")
    follower = open_follower(path)
    assert drain(follower) == ["one"]
    path.write_bytes(b"\0" * 4_000 + b"two\n")
    assert drain(follower) == ["two"]


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
def test_a_line_without_an_end_is_sent_in_pieces_of_whole_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str) -> None:
    monkeypatch.setattr(follower_module, "PIECE_BYTES", 11)
    path = tmp_path / "app.log"
    path.write_text(character * 20 + "\n")
    assert "".join(drain(open_follower(path))) == character * 20


def test_a_stack_trace_that_arrives_in_parts_is_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "QUIET_SECONDS", 3600.0)
    path = tmp_path / "app.log"
    path.write_text("first\nfailed\njava.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)\n")
    follower = open_follower(path)
    assert drain(follower) == ["first"]
    with path.open("a") as file:
        file.write("\tat a.B.d(B.java:2)\nafter\n")
    assert drain(follower) == ["failed\njava.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)\n\tat a.B.d(B.java:2)"]


def test_a_stamp_holds_for_lines_that_come_later(tmp_path: Path) -> None:
    path = tmp_path / "dev_w0"
    path.write_text('trc file: "dev_w0", trc level: 1, release: "745"\nM Sun Aug 18 17:17:45 2019\nM  first\n')
    follower = open_follower(path, "sap_dev_trace")
    (first,) = drain(follower)
    with path.open("a") as file:
        file.write("M  second\n")
    (second,) = drain(follower)
    assert second == first.replace("first", "second")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_wide_text_is_cut_between_characters(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "app.log"
    text = "eins ĊĊ zwei\nvier fünf\nsechs"
    path.write_bytes(text.encode(encoding))
    follower = open_follower(path)
    assert drain(follower) == ["eins ĊĊ zwei", "vier fünf"]
    with path.open("ab") as file:
        file.write("!\n".encode(encoding))
    assert drain(follower) == ["sechs!"]


def test_audit_records_without_line_ends_are_cut_by_length(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    records = [f"2AU12021111608590{number}".ljust(200, "x") for number in range(4)]
    path.write_text("".join(records)[:-50])
    follower = open_follower(path, "sap_audit_log")
    assert drain(follower) == records[:3]
    with path.open("a") as file:
        file.write(records[3][-50:])
    assert drain(follower) == records[3:]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(InvalidArgument, match="binary"):
        open_follower(path, "").read()


def test_positions_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "positions.json").write_text("[1]")
    with pytest.raises(InvalidArgument, match="--positions"):
        PositionFolder(tmp_path / "positions.json")
    positions = PositionFolder(tmp_path / "positions")
    positions.keep(tmp_path / "app.log", Position("app.log"))
    (kept,) = (tmp_path / "positions").iterdir()
    kept.write_text("[1]")
    with pytest.raises(InvalidArgument, match="--positions"):
        positions.of(tmp_path / "app.log")


def test_a_file_is_followed_by_one_program_only(tmp_path: Path) -> None:
    PositionFolder(tmp_path).claim(tmp_path / "app.log")
    claim = "import sys, pathlib; from services.ingest.positions import PositionFolder as P; P(pathlib.Path(sys.argv[1])).claim(pathlib.Path(sys.argv[2]))"
    for name, taken in (("app.log", True), ("other.log", False)):
        done = subprocess.run([sys.executable, "-c", claim, str(tmp_path), str(tmp_path / name)], capture_output=True, text=True, check=False)
        assert (done.returncode != 0) is taken
        assert ("is followed by another program already" in done.stderr) is taken


def test_a_file_that_was_only_looked_at_is_known_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "QUIET_SECONDS", 3600.0)
    path = tmp_path / "app.log"
    path.write_text("held back, since a stack trace may follow\n")
    follower = open_follower(path)
    assert drain(follower) == []
    follower.close()
    path.rename(tmp_path / "app.log.1")
    assert drain(open_follower(path)) == ["held back, since a stack trace may follow"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 5)),
        st.tuples(st.just("half"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["read", "read unacknowledged", "crash", "rotate", "copy and empty"]), st.just(0)),
    ),
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_with_keys_that_recognise_resends_every_record_counts_once(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    path = tmp_path_factory.mktemp("follow") / "app.log"
    follower = open_follower(path)
    taken: dict[tuple[bytes, str], list[str]] = {}
    written: list[str] = []
    number = rotations = 0
    moment = time.time_ns()

    def touch(place: Path) -> None:
        """Gives a file a time of its own: those of the system are too coarse for a test."""
        nonlocal moment
        moment += 1_000_000
        os.utime(place, ns=(moment, moment))

    def receive(portion: Portion) -> None:
        taken.setdefault((portion.scope, "\n".join(portion.records)), portion.records)

    for step, count in steps:
        if step in ("write", "half"):
            with path.open("a") as file:
                for _ in range(count):
                    number += 1
                    written.append(f"event {number}")
                    file.write(f"event {number}\n")
                if step == "half":
                    number += 1
                    written.append(f"event {number} in parts")
                    file.write(f"event {number}")
                    file.flush()
                    touch(path)
                    if (portion := follower.read()) is not None:
                        receive(portion)
                    file.write(" in parts\n")
            touch(path)
        elif step in ("rotate", "copy and empty") and path.exists() and path.stat().st_size:
            if (portion := follower.read()) is not None:  # nobody can know of a file that came and went unread
                receive(portion)
            for place in range(rotations, 0, -1):
                (path.with_name(f"app.log.{place}")).rename(path.with_name(f"app.log.{place + 1}"))
            if step == "rotate":
                path.rename(path.with_name("app.log.1"))
            else:
                shutil.copyfile(path, path.with_name("app.log.1"))
                touch(path.with_name("app.log.1"))
                path.write_text("")
                touch(path)
            rotations += 1
        elif step == "crash":
            follower.close()
            follower = open_follower(path)
        elif (portion := follower.read()) is not None:
            receive(portion)
            if step == "read":
                follower.acknowledge(portion)
    while (portions := [follower.read() for _ in range(4)]) != [None] * 4:
        portion = next(portion for portion in portions if portion is not None)
        receive(portion)
        follower.acknowledge(portion)
    follower.close()
    assert [record for records in taken.values() for record in records] == written
