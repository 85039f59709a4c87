"""Tables of the search service: what the index holds, for operators to see. The index itself is on disk or in Elasticsearch."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BigInteger, Date, DateTime, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kit.db import create_metadata

metadata = create_metadata("search")


class Table(DeclarativeBase):
    """Base of the tables."""

    metadata = metadata
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012  SQLAlchemy reads this as it stands


class IndexDay(Table):
    """One index: the events of one UTC day in one engine."""

    __tablename__ = "index_day"

    engine: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    events: Mapped[int] = mapped_column(BigInteger)
    position: Mapped[str]
    """Feed cursor up to which every event of the day was in the index when the row was written."""
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
