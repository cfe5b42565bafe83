"""How well lessons are found again by other words for the same thing, among many others of their kind.

PYTHONPATH=. python tests/memory/test_paraphrases.py    # prints the shares
"""

import random

import numpy as np

from memory.embeddings import embed_texts

PAIRS = (
    ("Narrow the FFN of the last eight layers.", "Make the feed-forward networks of the last 8 layers narrower."),
    ("Keep all key/value heads in the first layers.", "The first layers should keep their key/value heads."),
    ("Cut the hidden size a little rather than whole layers.", "A slightly smaller hidden size beats dropping layers."),
    ("Spread the cuts evenly over the depth.", "Distribute what is cut uniformly across the depth."),
    ("Widen layers 4 to 7, which are the most sensitive.", "Layers 4-7 are most sensitive, so give them more width."),
    ("Use fewer query heads where attention matters least.", "Where attention is of little use, remove query heads."),
    ("Restore the FFN width of layer 0.", "Give layer 0 its full FFN width back."),
    ("Middle layers can lose a third of their FFN channels.", "A third of the FFN channels in the middle can go."),
    ("The embedding takes too large a share of the budget.", "Too much of the budget is spent on the embedding."),
    ("Do not go below two key/value heads in any layer.", "Every layer needs at least two key/value heads."),
    ("Move parameters from late attention to early FFN.", "Shift the budget from attention late to FFN early."),
    ("Designs with a pyramid of widths were worse.", "A pyramidal profile of widths did worse."),
    ("Make the last layer as wide as that of the source.", "The last layer should have the width of the source."),
    ("Latency falls fastest when whole head groups go.", "Removing complete groups of heads lowers latency most."),
    ("Alternate wide and narrow FFN layers.", "Let wide FFN layers alternate with narrow ones."),
    (
        "Training was unstable with a very narrow first layer.",
        "A first layer that is very narrow made training unstable.",
    ),
    (
        "Small steps from the parent were better than large ones.",
        "Better results came from small changes to the parent.",
    ),
    ("Attention in the second half is redundant.", "The latter half has redundant attention."),
    ("Keep the FFN ratio at four times the hidden size.", "An FFN four times the hidden size should be kept."),
    ("Leave the stem alone and prune the blocks.", "Prune blocks, not the stem."),
)
_DO = ("Keep", "Narrow", "Widen", "Cut", "Restore", "Move", "Use fewer of", "Use more of")
_WHAT = ("the FFN channels", "the key/value heads", "the query heads", "the attention", "the hidden size", "the widths")
_WHERE = ("in the first layers", "in the middle", "in the last layers", "in layers {a}-{b}", "over the whole depth")


def others(count: int) -> list[str]:
    """So many lessons of the same kind that mean something else."""
    chance, found = random.Random(0), set[str]()
    while len(found) < count:
        first = chance.randrange(24)
        where = chance.choice(_WHERE).format(a=first, b=first + 5)
        found.add(f"{chance.choice(_DO)} {chance.choice(_WHAT)} {where}, to {64 * chance.randint(4, 24)}.")
    return sorted(found)


def ranks() -> list[int]:
    """For each paraphrase how many lessons are nearer to it than its own, of 20 with paraphrases and 500 others."""
    lessons = embed_texts([lesson for lesson, _ in PAIRS] + others(500))
    likeness = embed_texts([paraphrase for _, paraphrase in PAIRS]) @ lessons.T
    return [int((row > row[place]).sum()) for place, row in enumerate(likeness)]


def test_paraphrases_find_their_lesson() -> None:
    found = np.array(ranks())
    # By chance it would be one in 520. An embedding that reads no meaning misses those that share few words.
    assert (found == 0).mean() >= 0.75 and (found < 5).mean() >= 0.85


if __name__ == "__main__":
    places = np.array(ranks())
    print(f"first {np.mean(places == 0):.0%}, among the first five {np.mean(places < 5):.0%} of {len(PAIRS)}: {places}")
