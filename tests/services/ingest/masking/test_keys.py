"""Keys of masking as an operator sets them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.ingest.masking.keys import TokenKeys, ValueSealer
from services.ingest.settings import IngestSettings


def settings_with(**values: Any) -> IngestSettings:
    """Returns settings with what every process needs."""
    required = {"database_url": "x", "redis_url": "x", "service_secret": "s" * 64, "masking_key": "m" * 32, "seal_key": "0" * 64}
    return IngestSettings(**{**required, **values})


def test_former_keys_are_lists_in_one_text() -> None:
    settings = settings_with(masking_old_keys=f"{'a' * 32}, {'b' * 32},", seal_old_keys="1" * 64)
    assert settings.masking_keys == [b"m" * 32, b"a" * 32, b"b" * 32]
    assert settings.seal_keys == [bytes(32), b"\x11" * 32]
    assert settings_with().masking_keys == [b"m" * 32]
    assert settings_with().seal_keys == [bytes(32)]


@pytest.mark.parametrize("values", [{"masking_old_keys": "short"}, {"masking_old_keys": ",".join(str(n) * 32 for n in range(5))}, {"seal_old_keys": "g" * 64}])
def test_former_keys_that_are_none_are_refused_without_being_shown(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as caught:
        settings_with(**values)
    told = str(caught.value.errors(include_input=False, include_context=False))  # as a target tells it when it starts
    assert not any(value in told for value in values.values())


def test_a_former_key_that_is_the_current_one_makes_no_pair() -> None:
    keys = TokenKeys(b"m" * 32, [b"a" * 32, b"m" * 32, b"a" * 32])
    assert len(keys.older_tokens("email", "bob@example.com")) == 1
    assert keys.older_tokens("email", "Bob@Example.com") == keys.older_tokens("email", "bob@example.com")


def test_the_name_of_a_seal_key_tells_keys_apart_and_nothing_more() -> None:
    first, second = ValueSealer([bytes(32)]), ValueSealer([b"\x01" * 32])
    assert first.key_id == ValueSealer([bytes(32), b"\x01" * 32]).key_id != second.key_id
    assert first.seal("x", 1, "body") != first.seal("x", 1, "body")
