"""How many tokens statistics read: all while little is known, a sixteenth once much is, so that they cost little."""

ENOUGH_PER_INPUT = 8
"""So many tokens for each input of a layer, and the second moments of its inputs are known well."""
SPARSE = 16
"""From then on every sixteenth token is read, with sixteen times the weight."""


def token_stride(tokens: int, limit: int | None, seen: float, width: int) -> int:
    """Every how many-th of the `tokens` of a micro-batch is read; each then stands for so many.

    At most `limit` are read where there is one. Without, all are until `seen` reaches ENOUGH_PER_INPUT x `width`.
    """
    if limit is not None:
        return max(1, -(-tokens // limit))
    return SPARSE if seen >= ENOUGH_PER_INPUT * width and tokens >= SPARSE else 1
