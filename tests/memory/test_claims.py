"""Free sentences read as claims, and how far designs move along them."""

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memory.claim_words import read_claim
from memory.claims import LEAST_MOVEMENT, Claim, Statement, layers_of
from tools.architecture import Architecture, FixedShape, LayerShape

DEPTH = 30
READ = {
    "Late layers need fewer FFN channels than early ones.": "fewer FFN channels in late layers than in early layers",
    "LATE LAYERS NEED FEWER FFN CHANNELS": "fewer FFN channels in late layers",
    "Keep more FFN channels in layers 0-4, because they are the most sensitive.": "more FFN channels in layers 0-4",
    "The last layers should have narrower FFN than other layers.": "fewer FFN channels in late layers than in the rest",
    "Use fewer key/value heads in layers 20\u201329": "fewer key/value heads in layers 20-29",
    "Reduce the intermediate size of the late layers to lower the loss.": "fewer FFN channels in late layers",
    "Wider FFN in layers 20 to 29 hurts.": "fewer FFN channels in layers 20-29",
    "Do not cut the FFN of the first 5 layers.": "more FFN channels in layers 0-4",
    "Avoid reducing attention heads in the last 10 layers": "more key/value heads in layers 20-29",
    "Good designs have fewer heads and FFN channels in late layers.": (
        "fewer FFN channels in late layers; fewer key/value heads in late layers"
    ),
    "Early layers need more KV heads and wider FFN": (
        "more key/value heads in early layers; more FFN channels in early layers"
    ),
    "Keep early FFN wide and narrow the late ones": (
        "more FFN channels in early layers; fewer FFN channels in late layers"
    ),
    "Early and middle layers keep 3 kv heads": "more key/value heads in early layers and middle layers",
    "Layers 0-4 and 25-29 need more channels": "more FFN channels in layers 0-4 and layers 25-29",
    "The middle layers are less sensitive, so cut their FFN width.": "fewer FFN channels in middle layers",
    "Designs with lower loss have wider FFN in middle layers": "more FFN channels in middle layers",
    "Late layers need fewer than 800 FFN channels.": "fewer FFN channels in late layers",
    "The hidden size should be reduced to 512.": "smaller hidden size",
    "Retain the feed-forward width of shallow blocks.": "more FFN channels in early layers",
    "All layers share fewer key/value heads.": "fewer key/value heads in all layers",
}


@pytest.mark.parametrize("sentence", READ)
def test_sentences_are_read(sentence: str) -> None:
    claim = read_claim(sentence, DEPTH)
    assert claim is not None and claim.in_words() == READ[sentence]


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "banana ffn ffn layer more less",
        "Larger models have lower loss.",
        "keep the early layers wide",
        "More parameters in early layers.",
        "Layers 10-19: 1024 channels",
        "Use more FFN channels in layers 40-50.",
        "Fewer heads and wider FFN in late layers",
        "More FFN channels and fewer FFN channels in late layers.",
        "Late layers do not need fewer channels.",
        "The hidden size of late layers should be smaller.",
        "Wider FFN in late layers does not help.",
        "Late layers need more channels than the attention.",
    ],
)
def test_what_is_not_understood_is_no_claim(sentence: str) -> None:
    assert read_claim(sentence, DEPTH) is None


BABBLE = (
    "late early layers layer 0-4 20 - 29 ffn channels kv heads more fewer than and not hurt hidden size keep narrow , "
    ". the rest because first last 5 wide reduce loss all"
)
WORDS = st.sampled_from(sorted(set(BABBLE.split())))


@settings(deadline=None)
@example("first 0-4")
@example("fewer heads in the last 0 layers")
@given(st.lists(WORDS, max_size=20).map(" ".join) | st.text(string.printable + "\u2013\u00e9\n", max_size=80))
def test_babble_is_read_or_not_and_never_raises(text: str) -> None:
    claim = read_claim(text, 4)
    if claim is not None:
        assert Claim.of_document(claim.model_dump(mode="json")) == claim
        assert claim.in_words()
        for statement in claim.statements:
            assert layers_of(statement.parts, 4), "a claim is about layers that there are"


def test_longest_babble_is_read_in_time() -> None:
    """A sentence has at most 120 characters, but not in every chat model's answer."""
    assert read_claim("the layers and " * 2000, DEPTH) is None


def design(ffn: tuple[int, ...], heads: tuple[int, ...] | None = None, hidden: int = 64) -> Architecture:
    return Architecture(
        fixed=FixedShape(model_type="llama", vocab_size=100, head_dim=8, tie_word_embeddings=True),
        hidden_size=hidden,
        layers=tuple(
            LayerShape(num_attention_heads=12, num_key_value_heads=kv, intermediate_size=width)
            for width, kv in zip(ffn, heads or (4,) * len(ffn), strict=True)
        ),
    )


def claim_of(sentence: str) -> Claim:
    claim = read_claim(sentence, 3)
    assert claim is not None
    return claim


@pytest.mark.parametrize(
    ("sentence", "after", "sign"),
    [
        ("Late layers need fewer FFN channels.", design((128, 128, 96)), 1),
        ("Late layers need fewer FFN channels.", design((128, 128, 160)), -1),
        ("Late layers need fewer FFN channels.", design((96, 128, 128)), 0),
        ("Late layers need fewer FFN channels.", design((128, 128, 127)), 0),
        ("Late layers need fewer FFN channels than other layers.", design((160, 160, 128)), 1),
        ("Late layers need fewer FFN channels than middle ones.", design((160, 128, 128)), 0),
        ("More heads in layers 0-1", design((128,) * 3, (6, 4, 4)), 1),
        ("Smaller hidden size", design((128,) * 3, hidden=56), 1),
        ("Early layers need more FFN channels and late layers fewer.", design((160, 128, 96)), 1),
        ("Early layers need more FFN channels and late layers fewer.", design((96, 128, 160)), -1),
        ("Early layers need more FFN channels and late layers fewer.", design((160, 128, 160)), 0),
        ("Early layers need more FFN channels and late layers fewer.", design((160, 128, 128)), 0),
    ],
)
def test_designs_move_with_a_claim_or_against_it(sentence: str, after: Architecture, sign: int) -> None:
    movement = claim_of(sentence).movement(design((128, 128, 128)), after)
    assert movement * sign > 0 if sign else movement == 0


WIDTHS = st.tuples(*[st.integers(8, 256)] * 3)


@given(WIDTHS, WIDTHS, st.sampled_from(["early", "middle", "late", "0-1", "all"]), st.sampled_from([(), ("rest",)]))
def test_movement_is_antisymmetric(
    one: tuple[int, ...], other: tuple[int, ...], part: str, than: tuple[str, ...]
) -> None:
    before, after = design(one), design(other)
    more, fewer = (
        Claim(statements=(Statement(quantity="intermediate_size", direction=way, parts=(part,), than=than),))
        for way in ("more", "fewer")
    )
    assert more.movement(before, after) == -more.movement(after, before) == -fewer.movement(before, after)
    assert more.movement(before, before) == 0
    assert more.movement(before, after) == 0 or abs(more.movement(before, after)) >= LEAST_MOVEMENT
