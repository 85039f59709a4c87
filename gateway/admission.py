"""What happens to an operation before it runs: parse, admit its caller, measure, validate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import cast

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    NameNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
    specified_rules,
    validate,
)
from graphql import OperationType as GraphQLOperationType
from strawberry.extensions import SchemaExtension
from strawberry.types.graphql import OperationType

from gateway.context import Context
from gateway.limits import MAX_DOCUMENT_CHARACTERS, MAX_TOKENS, asks_for_schema, check_document, may_run_anonymously
from kit.client import deadline
from kit.errors import InvalidArgument, Unauthenticated

CACHED_DOCUMENTS = 500
"""Documents that are remembered parsed and validated: a frontend has tens of them."""


@dataclass(slots=True)
class Document:
    """A parsed document, and what is found out about it once."""

    node: DocumentNode
    open_to_all: bool
    """Whether anonymous callers may run it."""
    reads_schema: bool
    errors: list[GraphQLError] | None = None

    def validate(self, schema: GraphQLSchema) -> list[GraphQLError]:
        """Returns what is wrong with the document, without suggesting what would be right."""
        if self.errors is None:
            self.errors = check_document(self.node) or validate(schema, self.node, specified_rules, hide_suggestions=True)
        return self.errors


def parse_document(text: str) -> Document:
    """Returns a parsed document; raises GraphQLError for what is not one or is too large."""
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        raise GraphQLError(f"the document has more than {MAX_DOCUMENT_CHARACTERS} characters")
    try:
        node = parse(text, max_tokens=MAX_TOKENS)
    except RecursionError:
        raise GraphQLError("the document is nested too deeply") from None
    return Document(node, may_run_anonymously(node), asks_for_schema(node))


@lru_cache(CACHED_DOCUMENTS)
def _recall_document(schema: GraphQLSchema, text: str) -> Document:  # noqa: ARG001  what is remembered is valid for one schema
    return parse_document(text)


class Admit(SchemaExtension):
    """Lets an operation run only when its document is within the limits, valid, and open to its caller."""

    def __init__(self) -> None:
        self._document: Document | None = None
        self._unparsable: GraphQLError | None = None

    def on_operation(self) -> Iterator[None]:
        """Gives the operation a context of its own: a WebSocket runs many in one."""
        execution = self.execution_context
        execution.context = cast(Context, execution.context).for_operation()
        yield

    def on_parse(self) -> Iterator[None]:
        """Parses the document, or remembers it."""
        execution = self.execution_context
        try:
            self._document = _recall_document(execution.schema._schema, execution.query or "")
            execution.graphql_document = self._document.node
        except GraphQLError as error:
            # Errors are told where a document is validated, so one that is valid stands in until then.
            self._unparsable = error
            execution.graphql_document = _stand_in(execution.operation_name)
        yield

    def on_validate(self) -> Iterator[None]:
        """Refuses what this caller may not run at all, then what nobody may."""
        execution = self.execution_context
        refusal = _refuse(execution.context, self._document, execution.operation_type)
        if refusal is not None:
            execution.pre_execution_errors = [GraphQLError(refusal.message, original_error=refusal)]
        elif self._document is None:
            execution.pre_execution_errors = [self._unparsable or GraphQLError("the document was not parsed")]
        else:
            execution.pre_execution_errors = self._document.validate(execution.schema._schema)
        yield

    def on_execute(self) -> Iterator[None]:
        """Starts the clock of a query or mutation; a subscription lasts as long as its client likes."""
        context: Context = self.execution_context.context
        if self.execution_context.operation_type is not OperationType.SUBSCRIPTION and deadline.get() is None:
            deadline.set(monotonic() + context.timeout.total_seconds())
        yield


def _stand_in(name: str | None) -> DocumentNode:
    operation = OperationDefinitionNode(
        operation=GraphQLOperationType.QUERY,
        name=NameNode(value=name) if name is not None else None,
        variable_definitions=(),
        directives=(),
        selection_set=SelectionSetNode(selections=(FieldNode(name=NameNode(value="__typename"), arguments=(), directives=()),)),
    )
    return DocumentNode(definitions=(operation,))


def _refuse(context: Context, document: Document | None, operation_type: OperationType) -> InvalidArgument | Unauthenticated | None:
    if context.caller is None and (document is None or not document.open_to_all):
        return context.refusal
    if document is None:
        return None
    if operation_type is OperationType.SUBSCRIPTION and not context.socket:
        return InvalidArgument("a subscription needs a WebSocket (graphql-transport-ws)")
    if document.reads_schema and not context.introspection:
        return InvalidArgument("this ELIS does not show its schema")
    return None
