"""Roles and what each may do. A role is a set of scopes; nothing else in ELIS looks at role names."""

from __future__ import annotations

from kit.errors import InvalidArgument

_VIEWER = frozenset(
    {
        "self:read",
        "self:write",
        "events:read",
        "sources:read",
        "statistics:read",
        "incidents:read",
        "templates:read",
    }
)
_ANALYST = _VIEWER | {"incidents:comment", "searches:write"}
_OPERATOR = _ANALYST | {
    "events:write",
    "events:reveal",
    "incidents:write",
    "rejected:read",
    "rejected:replay",
    "sources:write",
    "rules:write",
}
_ADMIN = _OPERATOR | {
    "users:read",
    "users:write",
    "keys:read",
    "keys:write",
    "audit:read",
    "flags:write",
    "retention:write",
}

ADMIN = "admin"
ROLES: dict[str, frozenset[str]] = {"viewer": _VIEWER, "analyst": _ANALYST, "operator": _OPERATOR, ADMIN: _ADMIN}

SERVICE_ROLE = "service"
SERVICE_SCOPES = frozenset(
    {
        "self:read",
        "blocks:read",
        "events:read",
        "sources:read",
        "templates:read",
        "statistics:read",
        "tokens:verify",
    }
)
SERVICES = frozenset({"gateway", "ingest", "search", "correlate"})
"""Targets that may ask for an identity of their own."""


def check_role(role: str) -> str:
    """Returns the role; raises InvalidArgument when there is none of that name."""
    if role not in ROLES:
        raise InvalidArgument(f"the role must be one of {', '.join(ROLES)}, not {role!r}", role=role)
    return role
