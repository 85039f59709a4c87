"""What callers see of an error, and what they do not.

    error                          signed-in caller               anonymous caller
    ElisError of a service         message, code, type, detail    the same: only login and refresh can raise one
    syntax, validation, variables  message, INVALID_ARGUMENT      "sign in first", UNAUTHENTICATED
    anything else                  "internal error", INTERNAL     the same

Every error carries `extensions { code, type, …detail, requestId }`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from typing import Any

import structlog
from graphql import ExecutionResult as GraphQLExecutionResult
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.types.execution import ExecutionResult, StreamExecutionResult

from kit.auth import current_principal
from kit.errors import DeadlineExceeded, ElisError, Internal, InvalidArgument, Unauthenticated
from kit.interceptors import request_id

log = structlog.get_logger()

_INTERNAL = Internal("internal error")
_ANONYMOUS = Unauthenticated("sign in first")


# What the parser and the validation quote of a request. Names of fields and types help; values may be secrets.
_VALUE = re.compile(
    r"(?P<lead>got invalid value ).*?(?= at '|; |$)|(?P<lead2>cannot represent [^:]*: |, found:? |, not (?=['\"])).*"
    r"|(?P<lead3>Value )'.*?'(?= does not exist)|(?P<lead4>^Syntax Error: [^'\"]*)['\"].*",
    re.DOTALL,
)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_NAME = re.compile(r".[$@]?\[*[_A-Za-z][\w.\[\]!]{0,99}.", re.ASCII)


def hide_values(message: str) -> str:
    """Returns a message of the GraphQL engine without the values of the request that it quotes; names stay."""
    kept = _VALUE.sub(lambda found: next(lead for lead in found.groups() if lead is not None) + "…", message)
    return _QUOTED.sub(lambda found: found.group() if _NAME.fullmatch(found.group()) else "'…'", kept)


def find_error(error: GraphQLError) -> ElisError:
    """Returns the error of `kit.errors` that a GraphQL error stands for, as far as its caller may know."""
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, ElisError):
        return cause
    if isinstance(cause, TimeoutError | asyncio.TimeoutError):
        return DeadlineExceeded("the time for the request ran out")
    if not isinstance(cause, GraphQLError):
        return _INTERNAL
    if current_principal.get() is None:
        return _ANONYMOUS
    return InvalidArgument(hide_values(error.message))


def describe(error: ElisError) -> dict[str, Any]:
    """Returns the `extensions` of an error."""
    detail = {name: value for name, value in error.detail.items() if name != "request_id"}
    return {**detail, "code": error.code, "type": type(error).__name__, "requestId": request_id.get()}


def present(error: GraphQLError) -> GraphQLError:
    """Returns what the caller sees of an error."""
    known = find_error(error)
    located = known is not _ANONYMOUS
    return GraphQLError(
        known.message,
        nodes=error.nodes if located else None,
        source=error.source if located else None,
        positions=error.positions if located else None,
        path=error.path if located else None,
        # Tools that read the result (metrics, the WebSocket's close codes) still find the class.
        original_error=known,
        extensions=describe(known),
    )


def record(errors: Iterable[GraphQLError]) -> None:
    """Logs the errors that are our fault, with their tracebacks."""
    for error in errors:
        if find_error(error) is _INTERNAL:
            log.error("resolver failed", path=error.path, exc_info=error.original_error)


class PresentErrors(SchemaExtension):
    """Replaces the errors of every result by what the caller may see."""

    def __init__(self) -> None:
        self._streamed = False

    def on_operation(self) -> Iterator[None]:
        """Covers results that are returned whole."""
        yield
        result = self.execution_context.result
        if not self._streamed and isinstance(result, GraphQLExecutionResult | ExecutionResult):
            _present_all(result)

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        """Covers results of operations over a WebSocket, before each one is sent."""
        self._streamed = True
        if isinstance(result, ExecutionResult):
            _present_all(result)
        yield


def _present_all(result: GraphQLExecutionResult | ExecutionResult) -> None:
    if result.errors:
        result.errors = [present(error) for error in result.errors]
