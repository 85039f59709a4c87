"""A cache with a bound that forgets what was not asked for lately."""

from __future__ import annotations

from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Generations(Generic[_Key, _Value]):
    """A bounded cache of two dictionaries: when the young one is full, it becomes the old one and the old one is dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.young: dict[_Key, _Value] = {}
        self.old: dict[_Key, _Value] = {}

    def get(self, key: _Key) -> _Value | None:
        """Returns the value of a key; a value that is found among the old ones becomes young."""
        value = self.young.get(key)
        if value is None:
            value = self.old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: _Key, value: _Value) -> None:
        """Keeps a value."""
        if len(self.young) >= self._limit:
            self.old, self.young = self.young, {}
        self.young[key] = value
