"""Vectors of designs and of texts have the algebra that they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer

from memory.embeddings import ARCHITECTURE_DIMENSIONS, embed_architecture, embed_texts
from tools.architecture import Architecture, FixedShape, LayerShape

FIXED = FixedShape(model_type="llama", vocab_size=100, head_dim=8, tie_word_embeddings=True)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    groups = draw(st.integers(1, 3))
    layers = draw(
        st.lists(
            st.builds(
                lambda kv, ffn: LayerShape(
                    num_key_value_heads=kv, num_attention_heads=kv * groups, intermediate_size=64 * ffn
                ),
                st.integers(1, 4),
                st.integers(1, 8),
            ),
            min_size=1,
            max_size=70,
        )
    )
    return Architecture(fixed=FIXED, hidden_size=32 * draw(st.integers(1, 8)), layers=tuple(layers))


@given(architectures(), architectures())
def test_means_along_the_depth_are_kept(design: Architecture, reference: Architecture) -> None:
    vector = embed_architecture(design, reference)
    assert vector.shape == (ARCHITECTURE_DIMENSIONS,) and vector.dtype == np.float32
    widest = max(layer.intermediate_size for layer in reference.layers)
    mean = np.mean([layer.intermediate_size / widest for layer in design.layers])
    assert vector[-32:].mean() * np.sqrt(32) == pytest.approx(mean, rel=1e-5)


@given(architectures(), architectures(), st.integers(1, 4))
def test_repeating_every_layer_changes_only_the_depth(design: Architecture, source: Architecture, times: int) -> None:
    deeper = design.with_layers([layer for layer in design.layers for _ in range(times)])
    difference = embed_architecture(deeper, source) - embed_architecture(design, source)
    assert difference[1] == pytest.approx((times - 1) * len(design.layers) / len(source.layers), rel=1e-5)
    assert np.abs(np.delete(difference, 1)).max() < 1e-5


@given(architectures(), st.integers(1, 4))
def test_the_squared_distance_is_the_mean_squared_difference(source: Architecture, shrink: int) -> None:
    narrower = source.with_layers(
        [layer.model_copy(update={"intermediate_size": layer.intermediate_size // shrink}) for layer in source.layers]
    )
    distance = np.linalg.norm(embed_architecture(source, source) - embed_architecture(narrower, source))
    widest = max(layer.intermediate_size for layer in source.layers)
    lost = [
        (a.intermediate_size - b.intermediate_size) / widest
        for a, b in zip(source.layers, narrower.layers, strict=True)
    ]
    # Resampling to 32 positions averages neighbours, which can only bring designs nearer.
    assert distance <= np.sqrt(np.mean(np.square(lost))) + 1e-5
    assert distance >= np.mean(lost) - 1e-5


@settings(max_examples=30, deadline=None)  # the first call imports scikit-learn
@given(st.lists(st.text(max_size=60), max_size=5))
def test_texts_become_unit_vectors(texts: list[str]) -> None:
    vectors = embed_texts(texts)
    assert vectors.shape == (len(texts), 256) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60) | st.text("abW 0_'\n\u0130\u00df", max_size=30), min_size=1, max_size=5))
def test_texts_are_hashed_as_scikit_learn_does(texts: list[str]) -> None:
    words = HashingVectorizer(n_features=128, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")  # noqa: S106
    letters = HashingVectorizer(n_features=128, analyzer="char_wb", ngram_range=(3, 5))
    halves = np.concatenate([words.transform(texts).toarray(), letters.transform(texts).toarray()], axis=1)
    lengths = np.linalg.norm(halves, axis=1, keepdims=True)
    some = lengths[:, 0] > 0
    assert embed_texts(texts)[some] == pytest.approx(halves[some] / lengths[some], abs=1e-6)


def test_like_wordings_are_nearer() -> None:
    query, near, far = embed_texts(
        [
            "narrow the late FFN layers",
            "narrowing FFN widths of late layers helped",
            "use more key/value heads in the middle",
        ]
    )
    assert query @ near > query @ far + 0.1
