"""Settings of the auth service."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from kit.settings import Settings

RECOMMENDED_ROUNDS = 600_000
"""OWASP Password Storage Cheat Sheet, PBKDF2-HMAC-SHA256."""


class AuthSettings(Settings):
    """What the auth service needs to know."""

    password_rounds: Annotated[int, Field(ge=10_000, le=10_000_000)] = RECOMMENDED_ROUNDS
    """PBKDF2 rounds of new password hashes. Fewer than the default is for tests and is warned about at every start."""
    access_token_lifetime: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(minutes=15))] = timedelta(minutes=10)
    """How long an access token is valid; a changed role or a disabled user ends it sooner."""
    refresh_lifetime: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=90))] = timedelta(days=30)
    """Absolute: counted from the login, however often the token was rotated."""
    login_attempts: Annotated[int, Field(ge=1, le=1_000)] = 5
    """Wrong passwords of one username before it has to wait."""
    login_window: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=1))] = timedelta(minutes=15)
    """How long wrong passwords count."""
