"""Columns of records on their way from a receiver to a block."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Batch:
    """Records of one request, as columns of equal length; row i of every column is record i.

    A receiver fills what its protocol carries and leaves the rest at the column's "unknown" value.
    Formats, masking and quality then change the columns in place, a whole column at a time.
    """

    source: list[str] = field(default_factory=list)
    """Name of the sender; never empty when the batch reaches the pipeline."""
    body: list[str] = field(default_factory=list)
    """The text. A format may narrow it to the message once it has moved the rest into other columns."""
    timestamp: list[int] = field(default_factory=list)
    """Nanoseconds since 1970 as the sender says; 0 is unknown."""
    severity_number: list[int] = field(default_factory=list)
    """OpenTelemetry severity 1..24; 0 is unknown."""
    severity_text: list[str] = field(default_factory=list)
    """The sender's own word for the severity."""
    host: list[str] = field(default_factory=list)
    service: list[str] = field(default_factory=list)
    attributes: list[dict[str, Any] | None] = field(default_factory=list)
    """JSON-compatible values; None is the same as an empty object."""
    trace_id: list[str] = field(default_factory=list)
    """32 lower-case hexadecimal digits, or empty."""
    span_id: list[str] = field(default_factory=list)
    """16 lower-case hexadecimal digits, or empty."""

    def __len__(self) -> int:
        return len(self.body)

    def columns(self) -> tuple[list[Any], ...]:
        """Returns the columns themselves, in the order of the fields."""
        return (
            self.source,
            self.body,
            self.timestamp,
            self.severity_number,
            self.severity_text,
            self.host,
            self.service,
            self.attributes,
            self.trace_id,
            self.span_id,
        )

    def fields_of(self, row: int) -> dict[str, Any]:
        """Returns what is known of a record beside its source and text, by the name of the column."""
        names = [column.name for column in fields(self)]
        known = {name: column[row] for name, column in zip(names, self.columns(), strict=True) if name not in ("source", "body")}
        return {name: value for name, value in known.items() if value}

    def blank(self, rows: Collection[int]) -> None:
        """Empties rows but for their source, so that nothing in them can be read any more."""
        empty = Batch()
        empty.append("")
        for column, [nothing] in zip(self.columns()[1:], empty.columns()[1:], strict=True):
            for row in rows:
                column[row] = nothing

    def extend(self, other: Batch) -> None:
        """Adds the records of another batch."""
        for own, more in zip(self.columns(), other.columns(), strict=True):
            own.extend(more)

    def pick(self, rows: Sequence[int]) -> Batch:
        """Returns a batch of the given rows."""
        return Batch(*([column[row] for row in rows] for column in self.columns()))

    def append(
        self,
        body: str,
        *,
        source: str = "",
        timestamp: int = 0,
        severity_number: int = 0,
        severity_text: str = "",
        host: str = "",
        service: str = "",
        attributes: dict[str, Any] | None = None,
        trace_id: str = "",
        span_id: str = "",
    ) -> None:
        """Adds one record."""
        self.body.append(body)
        self.source.append(source)
        self.timestamp.append(timestamp)
        self.severity_number.append(severity_number)
        self.severity_text.append(severity_text)
        self.host.append(host)
        self.service.append(service)
        self.attributes.append(attributes)
        self.trace_id.append(trace_id)
        self.span_id.append(span_id)
