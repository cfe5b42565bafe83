"""How much statistics read: every token while little is known, then a quarter of every fourth step's tokens.

Each reading costs something by itself, whatever it reads: kernels to start on a GPU, passes over the moments on a CPU.
So seldom and much is cheaper than often and little.
"""

ENOUGH_PER_INPUT = 8
"""So many tokens for each input of a layer, and the second moments of its inputs are known well."""
EVERY_STEPS = 4
"""From then on every fourth step is read, and stands for four."""
EVERY_TOKENS = 4
"""Of such a step every fourth token is read."""


def enough_seen(tokens: float, width: int) -> bool:
    """Whether the second moments of `width` inputs are known well from so many tokens."""
    return tokens >= ENOUGH_PER_INPUT * width


def token_stride(tokens: int, limit: int | None, sparsely: bool) -> int:
    """Every how many-th of the `tokens` of a micro-batch is read; each then stands for so many.

    At most `limit` are read where there is one; without, all are, or a quarter where they are read `sparsely`.
    """
    if limit is not None:
        return max(1, -(-tokens // limit))
    return EVERY_TOKENS if sparsely else 1
