"""Projection pushdown: the rows of `events` travel from search to the answer as bytes.

The selection under `events { edges { cursor node { … } } }` tells which fields of an event a page needs and under
which names. Search returns each row as JSON with just these, and the rows are spliced into the answer without being
decoded. A selection that is not fully understood is None here, and goes through graphql-core field by field.
Both ways give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, GraphQLList, GraphQLResolveInfo, InlineFragmentNode
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from elis.search.v1 import search_pb2 as pb

EVENT_FIELDS: dict[str, str] = {
    "id": "event_id",
    "eventId": "event_id",
    "timestamp": "timestamp",
    "observedAt": "observed_at",
    "source": "source",
    "system": "system",
    "environment": "environment",
    "host": "host",
    "service": "service",
    "severityNumber": "severity_number",
    "severityText": "severity_text",
    "severity": "severity",
    "body": "body",
    "attributes": "attributes",
    "traceId": "trace_id",
    "spanId": "span_id",
    "fingerprint": "fingerprint",
}
"""GraphQL field of LogEvent to field of the message that search projects."""

_TYPENAME = "__typename"
_TYPENAME_VALUES = {"edge": b'"LogEventEdge"', "node": b'"LogEvent"'}

Selection = dict[str, list[FieldNode]]
"""Response name to the nodes that ask for it, in the order of the answer."""


@dataclass(frozen=True, slots=True)
class Projection:
    """What a page's rows consist of, and how an edge is written around one."""

    fields: tuple[pb.ProjectedField, ...]
    edge: tuple[tuple[bytes, str], ...]
    """Members of an edge in order: the encoded name with its colon, and what comes then: cursor, node or typename."""
    typename_first: bytes
    """What a row starts with instead of `{`."""
    typename_last: bytes
    """What a row ends with instead of `}`."""

    def splice(self, rows: Sequence[bytes], cursors: Sequence[str]) -> Splice:
        """Returns the JSON of the edges."""
        return Splice(orjson.Fragment(b"[" + b",".join(self._write_edge(row, cursor) for row, cursor in zip(rows, cursors, strict=True)) + b"]"))

    def _write_edge(self, row: bytes, cursor: str) -> bytes:
        parts = []
        for name, kind in self.edge:
            if kind == "cursor":
                parts.append(name + orjson.dumps(cursor))
            elif kind == "node":
                parts.append(name + self.typename_first + row[1:-1] + self.typename_last)
            else:
                parts.append(name + _TYPENAME_VALUES["edge"])
        return b"{" + b",".join(parts) + b"}"


@dataclass(frozen=True, slots=True)
class Splice:
    """The finished JSON of a list; the executor puts it into the answer as it is."""

    json: orjson.Fragment


class Executor(StrawberryGraphQLCoreExecutionContext):
    """graphql-core's executor, which takes a Splice for a list that is complete already, and suggests no names."""

    @classmethod
    def build(cls, *arguments: Any, **options: Any) -> Any:
        """Returns the executor of a request."""
        return super().build(*arguments, **{**options, "hide_suggestions": True})

    def complete_list_value(
        self, return_type: GraphQLList[Any], field_details_list: Any, info: GraphQLResolveInfo[Any], path: Any, result: Any, *rest: Any
    ) -> Any:
        """Completes a list, or takes the splice."""
        if isinstance(result, Splice):
            return result.json
        return super().complete_list_value(return_type, field_details_list, info, path, result, *rest)


def plan_projection(info: GraphQLResolveInfo[Any]) -> Projection | None:
    """Returns the projection of an `events` field; None when its selection is not one that is fully understood."""
    fragments = info.fragments
    connection = _collect(info.field_nodes, "EventConnection", fragments)
    edge_nodes = [nodes for nodes in connection.values() if nodes[0].name.value == "edges"] if connection is not None else []
    if len(edge_nodes) != 1:
        return None
    edge = _collect(edge_nodes[0], "LogEventEdge", fragments)
    if edge is None:
        return None
    members: list[tuple[bytes, str]] = []
    node_selection: Selection | None = None
    for name, nodes in edge.items():
        field = nodes[0].name.value
        if field == "node":
            if node_selection is not None:
                return None
            node_selection = _collect(nodes, "LogEvent", fragments)
            if node_selection is None:
                return None
        elif field not in ("cursor", _TYPENAME):
            return None
        members.append((_encode_name(name), {_TYPENAME: "typename"}.get(field, field)))
    return _plan_row(tuple(members), node_selection) if node_selection else None


def selects(info: GraphQLResolveInfo[Any], type_name: str, field: str) -> bool:
    """Whether a field's selection asks for a field of its type; when it is not fully understood, it may."""
    selection = _collect(info.field_nodes, type_name, info.fragments)
    return selection is None or any(nodes[0].name.value == field for nodes in selection.values())


def _plan_row(edge: tuple[tuple[bytes, str], ...], selection: Selection) -> Projection | None:
    fields: list[pb.ProjectedField] = []
    first = last = b""
    position = 0
    for position, (name, nodes) in enumerate(selection.items()):
        field = nodes[0].name.value
        if field == _TYPENAME:
            # Search knows no types: the name of this one is written around the row.
            member = _encode_name(name) + _TYPENAME_VALUES["node"]
            if position == 0:
                first = member + b","
            elif position == len(selection) - 1:
                last = b"," + member
            else:
                return None
        elif field in EVENT_FIELDS:
            fields.append(pb.ProjectedField(field=EVENT_FIELDS[field], response_name=name))
        else:
            return None
    return Projection(tuple(fields), edge, b"{" + first, last + b"}") if fields else None


def _collect(nodes: Sequence[FieldNode], type_name: str, fragments: dict[str, FragmentDefinitionNode]) -> Selection | None:
    """Returns the merged selection of field nodes on an object type; None when a directive or another type is involved."""
    collected: Selection = {}
    visited: set[str] = set()
    pending: list[Any] = [selection for node in nodes if node.selection_set for selection in node.selection_set.selections]
    while pending:
        node = pending.pop(0)
        if node.directives:
            return None
        if isinstance(node, FieldNode):
            collected.setdefault((node.alias or node.name).value, []).append(node)
            continue
        if isinstance(node, FragmentSpreadNode):
            name = node.name.value
            if name in visited:
                continue
            visited.add(name)
            fragment: InlineFragmentNode | FragmentDefinitionNode = fragments[name]
        else:
            fragment = node
        condition = fragment.type_condition
        if fragment.directives or (condition is not None and condition.name.value != type_name):
            return None
        pending[:0] = fragment.selection_set.selections
    return collected


def _encode_name(name: str) -> bytes:
    return b'"' + name.encode() + b'":'
