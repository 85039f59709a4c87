"""Limits on a document, checked before it is validated and long before anything runs.

One walk over the document, linear in its size however its fragments are nested: every fragment is measured once
and its figures are added wherever it is spread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

MAX_DOCUMENT_CHARACTERS = 65_536
MAX_TOKENS = 1_000
MAX_DEPTH = 10
MAX_ALIASES = 15
MAX_DIRECTIVES = 5
MAX_ROOT_FIELDS = 20
MAX_FIELDS = 500
_SATURATED = 1_000_000
"""Counts stop here: nested fragments would otherwise make numbers of thousands of digits."""

INTROSPECTION_FIELDS = frozenset({"__schema", "__type"})
ANONYMOUS_MUTATIONS = frozenset({"login", "refresh", "__typename"})
ANONYMOUS_QUERIES = frozenset({"__typename"})


@dataclass(frozen=True, slots=True)
class Measure:
    """What a selection set amounts to with all its fragments spread."""

    depth: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0
    root_fields: int = 0
    """Fields of the selection set itself."""

    def add(self, other: Measure) -> Measure:
        """Returns the measure of both, side by side."""
        return Measure(
            max(self.depth, other.depth),
            min(self.fields + other.fields, _SATURATED),
            min(self.aliases + other.aliases, _SATURATED),
            min(self.directives + other.directives, _SATURATED),
            min(self.root_fields + other.root_fields, _SATURATED),
        )


NOTHING = Measure()


class _Surveyor:
    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        self._measured: dict[str, Measure] = {}

    def measure(self, selections: SelectionSetNode | None) -> Measure:
        total = NOTHING
        for node in selections.selections if selections else ():
            if isinstance(node, FieldNode):
                inner = self.measure(node.selection_set)
                # Introspection has a depth rule of its own; its standard query is deeper than any of ours.
                depth = 1 if node.name.value in INTROSPECTION_FIELDS else inner.depth + 1
                total = total.add(Measure(depth, inner.fields + 1, inner.aliases + (node.alias is not None), inner.directives, 1))
            elif isinstance(node, InlineFragmentNode):
                total = total.add(self.measure(node.selection_set))
            elif isinstance(node, FragmentSpreadNode):
                total = total.add(self._measure_fragment(node.name.value))
            total = total.add(Measure(directives=len(node.directives or ())))
        return total

    def _measure_fragment(self, name: str) -> Measure:
        known = self._measured.get(name)
        if known is None:
            # A cycle is an error of validation; here it counts once.
            self._measured[name] = NOTHING
            fragment = self._fragments.get(name)
            known = NOTHING if fragment is None else self.measure(fragment.selection_set)
            self._measured[name] = known
        return known


def measure_document(document: DocumentNode) -> Measure:
    """Returns the measure of a document: the sum of its operations."""
    surveyor = _Surveyor(document)
    total = NOTHING
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            total = total.add(surveyor.measure(node.selection_set))
        total = total.add(Measure(directives=len(getattr(node, "directives", None) or ())))
    return total


def check_document(document: DocumentNode) -> list[GraphQLError]:
    """Returns an error for every limit that a document exceeds."""
    measure = measure_document(document)
    figures = (
        ("levels of fields", measure.depth, MAX_DEPTH),
        ("fields", measure.fields, MAX_FIELDS),
        ("aliases", measure.aliases, MAX_ALIASES),
        ("directives", measure.directives, MAX_DIRECTIVES),
        ("root fields", measure.root_fields, MAX_ROOT_FIELDS),
    )
    return [GraphQLError(f"the document has more than {limit} {what}", extensions={"limit": limit}) for what, count, limit in figures if count > limit]


def may_run_anonymously(document: DocumentNode) -> bool:
    """Whether a document holds nothing but what a caller without credentials may run."""
    for node in document.definitions:
        if not isinstance(node, OperationDefinitionNode):
            return False
        allowed = {"mutation": ANONYMOUS_MUTATIONS, "query": ANONYMOUS_QUERIES}.get(node.operation.value, frozenset())
        if not all(isinstance(field, FieldNode) and field.name.value in allowed for field in node.selection_set.selections):
            return False
    return True


def asks_for_schema(document: DocumentNode) -> bool:
    """Whether a document reads the schema."""
    return any(name in INTROSPECTION_FIELDS for name in _root_names(document))


def _root_names(document: DocumentNode) -> Iterable[str]:
    pending = [node.selection_set for node in document.definitions if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode)]
    while pending:
        for node in pending.pop().selections:
            if isinstance(node, FieldNode):
                yield node.name.value
            elif isinstance(node, InlineFragmentNode):
                pending.append(node.selection_set)
