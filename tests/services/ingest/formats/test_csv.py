"""CSV: headers, quoting, and rows that are sent in parts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.formats import FORMATS, detect_format
from services.ingest.formats.csv_table import DELIMITERS, MAX_QUOTED_LINES, cut_cells, read_header
from services.ingest.logfile import open_log_file
from tests.services.ingest.formats.samples import parse_records

CSV = FORMATS["csv"]
LOGHUB = Path("/work/shared/data/loghub")


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_every_delimiter_is_detected(delimiter: str) -> None:
    lines = [delimiter.join(cells) for cells in (("time", "level", "message"), ("2024-01-02T10:00:00Z", "ERROR", "a"), ("2024-01-02T10:00:01Z", "INFO", "b"))]
    assert detect_format(lines)[0].name == "csv"
    batch = parse_records("csv", CSV.split(lines))
    assert (batch.body, batch.severity_number) == (["a", "b"], [17, 9])


@pytest.mark.parametrize(
    "line",
    [
        "hello, world",
        "a,a",
        "A,a",
        "1,2",
        "only",
        "a,",
        ",b",
        "2024-01-02,10",
        "level=info,msg=x",
        '{"a":1,"b":2}',
        "a,b ",
        ",".join(f"c{n}" for n in range(600)),
        "a," + "b" * 70,
    ],
)
def test_what_is_no_header(line: str) -> None:
    assert read_header(line) is None


def test_prose_with_commas_is_no_table() -> None:
    assert detect_format(["Yes,no", "maybe,never", "so,what"])[0].name == "plain"


def test_unknown_names_above_values_are_a_table() -> None:
    assert detect_format(["Sensor,Unit,Reading", "a,C,21.5", "b,C,22"])[0].name == "csv"


def test_date_and_time_columns_make_the_timestamp() -> None:
    batch = parse_records("csv", CSV.split(["Date,Time,Level,Content", "2024-01-02,10:00:00.5,WARN,x"]))
    assert batch.timestamp == [1_704_186_000_500_000_000]
    assert not any(batch.attributes)
    assert batch.body == ["x"]


def test_a_row_without_its_header_is_read_as_plain_text() -> None:
    batch = parse_records("csv", ["2024-01-02 10:00:00,ERROR,order 17 failed", "nothing"])
    assert batch.timestamp[0]
    assert batch.body[1] == "nothing"


def test_a_quote_that_is_not_closed_costs_no_neighbour() -> None:
    rows = ['1,"open', *(f"{number},text {number}" for number in range(2, 2 * MAX_QUOTED_LINES))]
    batch = parse_records("csv", CSV.split(["order,message", *rows]))
    assert [attributes["order"] if attributes else None for attributes in batch.attributes] == list(range(1, 2 * MAX_QUOTED_LINES))
    assert batch.body[0] == '"open'
    few = parse_records("csv", CSV.split(["order,message", *rows[:3]]))
    assert few.body == ['"open', "text 2", "text 3"]


def test_a_quote_inside_of_a_bare_cell_is_text() -> None:
    batch = parse_records("csv", CSV.split(["disk,message", '5" disk,a', '3" disk,b']))
    assert batch.body == ["a", "b"]


def test_a_huge_quoted_cell_is_kept() -> None:
    text = "x" * 900_000
    (record,) = CSV.split(["order,message", f'1,"{text}"'])
    assert parse_records("csv", [record]).body == [text]


def test_a_file_is_read_in_pieces_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    rows = [f'2024-01-02T10:00:00Z,INFO,{number},"row ""{number}""\nof a table with some text to fill it up {"." * 60}"' for number in range(40_000)]
    path.write_text("\n".join(["time,level,order,message", *rows]) + "\n")
    file = open_log_file(path)
    assert file.format.name == "csv"
    pieces = list(file.pieces())
    assert len(pieces) > 1
    records = [record for piece in pieces for record in piece.records]
    batch = parse_records("csv", records)
    assert [attributes["order"] for attributes in batch.attributes if attributes] == list(range(40_000))
    assert batch.body[17].startswith('row "17"\nof a table')


@pytest.mark.skipif(not LOGHUB.is_dir(), reason=f"the loghub files are not at {LOGHUB}")
@pytest.mark.parametrize("name", ["Apache", "BGL", "Hadoop", "Linux", "OpenSSH", "OpenStack", "Spark"])
def test_real_tables_are_read_as_the_csv_module_reads_them(name: str) -> None:
    path = LOGHUB / name / f"{name}_2k.log_structured.csv"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    assert detect_format(lines)[0].name == "csv"
    batch = parse_records("csv", CSV.split(lines))
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [body.strip() for body in batch.body] == [row["Content"].strip() for row in rows]
    assert [str(attributes["EventId"]) for attributes in batch.attributes if attributes] == [row["EventId"] for row in rows]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet='a",\n 1', max_size=8), min_size=1, max_size=6), st.sampled_from(DELIMITERS))
def test_cells_come_out_as_they_were_written(cells: list[str], delimiter: str) -> None:
    row = delimiter.join('"' + cell.replace('"', '""') + '"' for cell in cells)
    assert cut_cells(row, delimiter) == cells


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet='a",\n', max_size=12), min_size=1, max_size=5))
def test_no_text_of_a_row_is_lost(rows: list[str]) -> None:
    lines = [line for row in rows for line in row.split("\n")]
    records = CSV.split(["order,message", *lines])
    assert all(any(line in record.split("\n") for record in records) for line in lines if line)


def test_a_time_is_found_whatever_its_column_is_called() -> None:
    batch = parse_records("csv", ["Zeit;Stufe;Meldung\n02.01.2024 10:00:00;FEHLER;abgelehnt", 'Nr;"Beginn";Art\n7;"2024-01-02 10:00:00";x', "Nr;Art\n7;10:00"])
    assert batch.timestamp == [1_704_186_000 * 10**9, 1_704_186_000 * 10**9, 0]
    assert batch.attributes[0] == {"Zeit": "02.01.2024 10:00:00", "Stufe": "FEHLER", "Meldung": "abgelehnt"}
