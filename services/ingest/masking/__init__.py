"""Masking of secrets and personal data: rules as data, and the masker that applies them."""

from services.ingest.masking.masker import Masker, Preview
from services.ingest.masking.rules import BUILT_IN_RULES, VALIDATORS, MaskingRule

__all__ = ["BUILT_IN_RULES", "VALIDATORS", "Masker", "MaskingRule", "Preview"]
