"""Search spaces: what may be varied, what is legal, and how a draft becomes a legal design."""

from tools.spaces.draft import DesignDraft, SpanDraft
from tools.spaces.pruned_lm import PrunedLMSpace

__all__ = ["DesignDraft", "PrunedLMSpace", "SpanDraft"]
