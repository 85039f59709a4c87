"""Masking of secrets and personal data: rules as data, and the masker that applies them."""

from services.ingest.masking.masked import Masked, SealedText
from services.ingest.masking.masker import Masker, Preview
from services.ingest.masking.rules import BUILT_IN_RULES, VALIDATORS, MaskingRule
from services.ingest.masking.ruleset import RuleSet

__all__ = ["BUILT_IN_RULES", "VALIDATORS", "Masked", "Masker", "MaskingRule", "Preview", "RuleSet", "SealedText"]
