"""Masking put together: one masker, its book of rules, its vault and its upkeep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry

from services.ingest.masking.book import RuleBook
from services.ingest.masking.hits import MaskingHits
from services.ingest.masking.keys import ValueSealer
from services.ingest.masking.masker import Masker
from services.ingest.masking.upkeep import MaskingUpkeep
from services.ingest.masking.vault import MaskingVault


@dataclass(frozen=True, slots=True)
class Masking:
    """The parts that a process uses; they share rules and keys."""

    masker: Masker
    book: RuleBook
    vault: MaskingVault
    upkeep: MaskingUpkeep


def assemble_masking(pool: asyncpg.Pool[Any], registry: CollectorRegistry, *, masking_keys: Sequence[bytes], seal_keys: Sequence[bytes]) -> Masking:
    """Puts masking together. The first of the keys is the current one, the others are older."""
    hits = MaskingHits(registry)
    masker = Masker(masking_keys[0], old_keys=masking_keys[1:], hits=hits)
    book = RuleBook(pool, masker)
    vault = MaskingVault(pool, ValueSealer(seal_keys), masker)
    return Masking(masker, book, vault, MaskingUpkeep(pool, book, hits, vault))
