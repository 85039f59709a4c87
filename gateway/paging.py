"""Relay connections over services that page with tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from kit.errors import InvalidArgument
from kit.paging import decode_token, encode_token

NodeT = TypeVar("NodeT")

PAGE_SIZE = 20
MAX_PAGE_SIZE = 100

First = Annotated[int, strawberry.argument(description="How many rows to return, 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="Cursor of the last row seen; the page starts behind it.")]


@strawberry.type(description="Where a page begins and ends.")
class PageInfo:
    """The Relay page info."""

    has_next_page: bool = strawberry.field(description="Whether there are rows after this page.")
    has_previous_page: bool = strawberry.field(description="Whether there are rows before this page.")
    start_cursor: str | None = strawberry.field(description="Cursor of the first row; null on an empty page.")
    end_cursor: str | None = strawberry.field(description="Cursor of the last row, for `after`; null on an empty page.")


@strawberry.type(description="A row of a page.")
class Edge(Generic[NodeT]):
    """The Relay edge."""

    cursor: str = strawberry.field(description="Position of the row, for `after`.")
    node: NodeT = strawberry.field(description="The row itself.")


@strawberry.type(description="A page of rows.")
class Connection(Generic[NodeT]):
    """The Relay connection."""

    edges: list[Edge[NodeT]] = strawberry.field(description="The rows of the page.")
    page_info: PageInfo = strawberry.field(description="Where the page begins and ends.")


@dataclass(frozen=True, slots=True)
class Row:
    """What an Edge shows."""

    cursor: str
    node: Any


@dataclass(frozen=True, slots=True)
class Page:
    """What a Connection shows."""

    edges: Sequence[Row]
    page_info: PageInfo


FetchPage = Callable[[int, str], Awaitable[tuple[Sequence[Any], str]]]
"""Asks a service for rows: (page size, page token) to (rows, next page token)."""


def check_first(first: int, largest: int = MAX_PAGE_SIZE) -> int:
    """Returns `first`; raises InvalidArgument when it is not 1 to `largest`."""
    if not 1 <= first <= largest:
        raise InvalidArgument(f"first must be 1 to {largest}, not {first}", first=first)
    return first


async def read_page(fetch: FetchPage, first: int, after: str | None) -> Page:
    """Returns a page of a service's list.

    The services give one token per page, Relay wants a cursor per row: a cursor is the token of a page and
    the number of its rows that have been seen.
    """
    check_first(first)
    token, skip = decode_token(after or "", str, int) or ("", 0)
    if not 0 <= skip <= MAX_PAGE_SIZE:
        raise InvalidArgument("the cursor is not one that ELIS gave")
    edges: list[Row] = []
    while True:
        rows, next_token = await fetch(min(first - len(edges) + skip, MAX_PAGE_SIZE), token)
        for number, row in enumerate(rows[skip:], skip + 1):
            ends_page = number == len(rows) and next_token
            edges.append(Row(encode_token(next_token, 0) if ends_page else encode_token(token, number), row))
        if not next_token or not rows or len(edges) >= first:
            break
        token, skip = next_token, max(skip - len(rows), 0)
    return Page(edges, describe_page([edge.cursor for edge in edges], has_next=bool(next_token), has_previous=after is not None))


def describe_page(cursors: Sequence[str], *, has_next: bool, has_previous: bool) -> PageInfo:
    """Returns the page info of a page with these cursors."""
    return PageInfo(
        has_next_page=has_next,
        has_previous_page=has_previous,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )
