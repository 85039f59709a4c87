"""Following files: every record once, in order, through growth, rotation, truncation and crashes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.errors import InvalidArgument
from services.ingest import follower as follower_module
from services.ingest.follower import Follower, Portion
from services.ingest.positions import PositionFile


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is quiet is complete at once: the bounds of time are not what is tested here."""
    monkeypatch.setattr(follower_module, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(follower_module, "ROTATED_SECONDS", -1.0)


def open_follower(path: Path, format_name: str = "plain") -> Follower:
    return Follower(path, PositionFile(path.parent / "state" / "positions.json"), format_name)


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


def test_a_file_of_positions_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "positions.json").write_text("[1]")
    with pytest.raises(InvalidArgument, match="--positions"):
        PositionFile(tmp_path / "positions.json")


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
        st.tuples(st.sampled_from(["read", "read unacknowledged", "crash", "rotate"]), st.just(0)),
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
                    if (portion := follower.read()) is not None:
                        receive(portion)
                    file.write(" in parts\n")
        elif step == "rotate" and path.exists():
            if (portion := follower.read()) is not None:  # nobody can know of a file that came and went unread
                receive(portion)
            for place in range(rotations, 0, -1):
                (path.with_name(f"app.log.{place}")).rename(path.with_name(f"app.log.{place + 1}"))
            path.rename(path.with_name("app.log.1"))
            rotations += 1
            os.utime(path.with_name("app.log.1"), ns=(rotations, rotations))
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
