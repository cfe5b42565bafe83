"""Who proposes designs: the LLM agents of both stages, and the proposers they are compared with; their chat models."""
