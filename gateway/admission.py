"""What happens to an operation before it runs: parse, admit its caller, measure, validate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from time import monotonic
from typing import cast

from graphql import DocumentNode, GraphQLError, GraphQLSchema, parse, specified_rules, validate
from strawberry.extensions import SchemaExtension
from strawberry.types.graphql import OperationType

from gateway.context import Context
from gateway.limits import MAX_DOCUMENT_CHARACTERS, MAX_TOKENS, asks_for_schema, check_document, may_run_anonymously
from kit.client import deadline
from kit.errors import InvalidArgument, Unauthenticated

CACHED_DOCUMENTS = 500
"""Documents that are remembered parsed and validated: a frontend has tens of them."""


@lru_cache(CACHED_DOCUMENTS)
def parse_document(text: str) -> DocumentNode:
    """Returns a parsed document; raises GraphQLError for what is not one or is too large."""
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        raise GraphQLError(f"the document has more than {MAX_DOCUMENT_CHARACTERS} characters")
    try:
        return parse(text, max_tokens=MAX_TOKENS)
    except RecursionError:
        raise GraphQLError("the document is nested too deeply") from None


@lru_cache(CACHED_DOCUMENTS)
def validate_document(schema: GraphQLSchema, document: DocumentNode) -> list[GraphQLError]:
    """Returns what is wrong with a document, without suggesting what would be right."""
    return check_document(document) or validate(schema, document, specified_rules, hide_suggestions=True)


class Admit(SchemaExtension):
    """Lets an operation run only when its document is within the limits, valid, and open to its caller."""

    def on_operation(self) -> Iterator[None]:
        """Gives the operation a context of its own: a WebSocket runs many in one."""
        execution = self.execution_context
        execution.context = cast(Context, execution.context).for_operation()
        yield

    def on_parse(self) -> Iterator[None]:
        """Parses the document, or remembers it."""
        execution = self.execution_context
        execution.graphql_document = parse_document(execution.query or "")
        yield

    def on_validate(self) -> Iterator[None]:
        """Refuses what this caller may not run at all, then what nobody may."""
        execution = self.execution_context
        context: Context = execution.context
        document = execution.graphql_document
        if document is None:
            raise GraphQLError("the request has no document")
        refusal = _refuse(context, document)
        if refusal is not None:
            execution.pre_execution_errors = [GraphQLError(refusal.message, original_error=refusal)]
        else:
            execution.pre_execution_errors = validate_document(execution.schema._schema, document)
        yield

    def on_execute(self) -> Iterator[None]:
        """Starts the clock of a query or mutation; a subscription lasts as long as its client likes."""
        context: Context = self.execution_context.context
        if self.execution_context.operation_type is not OperationType.SUBSCRIPTION and deadline.get() is None:
            deadline.set(monotonic() + context.timeout.total_seconds())
        yield


def _refuse(context: Context, document: DocumentNode) -> InvalidArgument | Unauthenticated | None:
    if context.caller is None and not may_run_anonymously(document):
        return Unauthenticated("sign in first")
    if not context.introspection and asks_for_schema(document):
        return InvalidArgument("this ELIS does not show its schema")
    return None
