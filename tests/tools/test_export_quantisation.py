"""Types and sizes under a mix, against a file that llama.cpp's own tool wrote and against its rules by hand."""

import subprocess
import sys
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.llama_cpp import source_architecture
from tools.architecture import Architecture, FixedShape, LayerShape
from tools.embedded import embedded_model_file
from tools.errors import InputError
from tools.export.quantisation import MIXES, bits_per_weight, predicted_file, predicted_tensors


def design(
    hidden: int, ffn: list[int], heads: int = 8, groups: int = 2, tied: bool = True, family: str = "llama"
) -> Architecture:
    fixed = FixedShape(model_type=family, vocab_size=1000, head_dim=64, tie_word_embeddings=tied)
    layers = [LayerShape(num_attention_heads=heads, num_key_value_heads=groups, intermediate_size=w) for w in ffn]
    return Architecture(fixed=fixed, hidden_size=hidden, layers=tuple(layers))


def types(architecture: Architecture, mix: str, kind: str) -> list[str]:
    return [tensor.written for tensor in predicted_tensors(architecture, mix) if f".{kind}." in f".{tensor.name}"]


def test_a_file_that_llama_cpp_wrote_is_predicted_tensor_by_tensor() -> None:
    reader = gguf.GGUFReader(embedded_model_file())
    found = {tensor.name: (tensor.tensor_type.name, int(tensor.n_bytes)) for tensor in reader.tensors}
    fields = {key: field.contents() for key, field in reader.fields.items() if key.startswith("llama.")}
    fixed = FixedShape(model_type="llama", vocab_size=49152, head_dim=64, tie_word_embeddings=True)
    layer = LayerShape(
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        intermediate_size=fields["llama.feed_forward_length"],
    )
    architecture = Architecture(fixed=fixed, hidden_size=fields["llama.embedding_length"], layers=(layer,) * 30)
    predicted = {tensor.name: (tensor.written, tensor.bytes) for tensor in predicted_tensors(architecture, "q4_1")}
    assert predicted == found
    file = predicted_file(architecture, "q4_1")
    assert file.bytes == embedded_model_file().stat().st_size - reader.data_offset
    # Its rows of 576 take no Q6_K, which the mix has for an embedding that is the head too.
    assert [(fallback.wanted, fallback.written, fallback.tensors) for fallback in file.fallbacks] == [
        ("Q6_K", "Q8_0", ("token_embd.weight",))
    ]


def test_the_layers_that_get_more_bits() -> None:
    wide = design(512, [1024] * 16)
    more = ["Q6_K" if at in (0, 1, 4, 7, 10, 13, 14, 15) else "Q4_K" for at in range(16)]
    assert types(wide, "q4_k_m", "attn_v") == types(wide, "q4_k_m", "ffn_down") == more
    assert types(wide, "q5_k_m", "ffn_down") == [kind.replace("Q4", "Q5") for kind in more]
    assert types(wide, "q4_k_s", "attn_v") == ["Q5_K"] * 4 + ["Q4_K"] * 12
    assert types(wide, "q4_k_s", "ffn_down") == ["Q5_K"] * 2 + ["Q4_K"] * 14
    assert types(wide, "q3_k_m", "attn_v") == ["Q5_K"] * 2 + ["Q4_K"] * 14
    assert types(wide, "q3_k_m", "ffn_down") == ["Q5_K"] + ["Q4_K"] * 15
    assert set(types(wide, "q3_k_m", "attn_output")) == {"Q4_K"}
    assert set(types(wide, "iq4_nl", "attn_v")) == {"Q5_K"}
    assert set(types(design(512, [1024] * 16, groups=4), "iq4_nl", "attn_v")) == {"IQ4_NL"}
    assert set(types(design(512, [256] * 80), "q4_k_m", "attn_v")) == {"Q5_K", "Q6_K"}
    for mix in MIXES:
        assert set(types(wide, mix, "attn_norm")) == {"F32"}
        assert predicted_file(wide, mix).fallbacks == ()
        assert predicted_file(wide, mix).growth == 0
    assert types(wide, "q4_k_m", "token_embd") == ["Q6_K"]
    untied = design(512, [1024] * 2, tied=False)
    assert types(untied, "q4_k_m", "token_embd") == ["Q4_K"]
    assert types(untied, "q4_k_m", "output") == ["Q6_K"]
    assert types(untied, "q8_0", "output") == ["Q8_0"]


def test_a_published_file_of_another_model() -> None:
    """Gemma-3-270M as Q4_K_M, by llama.cpp's tool: rows of 640 do not fit, those of 1024 and 2048 do."""
    fixed = FixedShape(model_type="llama", vocab_size=262144, head_dim=256, tie_word_embeddings=True)
    layer = LayerShape(num_attention_heads=4, num_key_value_heads=1, intermediate_size=2048)
    gemma = Architecture(fixed=fixed, hidden_size=640, layers=(layer,) * 18)
    more = (0, 1, 4, 7, 10, 13, 15, 16, 17)
    assert types(gemma, "q4_k_m", "ffn_down") == ["Q6_K" if at in more else "Q4_K" for at in range(18)]
    assert types(gemma, "q4_k_m", "attn_v") == ["Q8_0" if at in more else "Q5_0" for at in range(18)]
    assert set(types(gemma, "q4_k_m", "attn_output")) == {"Q4_K"}
    assert types(gemma, "q4_k_m", "token_embd") == ["Q8_0"]
    for kind in ("attn_q", "attn_k", "ffn_gate", "ffn_up"):
        assert set(types(gemma, "q4_k_m", kind)) == {"Q5_0"}


def test_rows_that_do_not_fit() -> None:
    narrow = design(576, [1000, 1024, 1056, 1024], heads=9, groups=3)
    assert set(types(narrow, "q4_k_m", "attn_q")) == {"Q5_0"}
    assert types(narrow, "q4_k_m", "attn_v") == ["Q5_0", "Q5_0", "Q8_0", "Q8_0"]
    assert types(narrow, "q4_k_m", "ffn_down") == ["F16", "Q4_K", "Q8_0", "Q6_K"]
    assert set(types(narrow, "q5_k_m", "ffn_up")) == {"Q5_1"}
    assert set(types(narrow, "q3_k_m", "ffn_up")) == {"Q4_0"}
    assert types(narrow, "q8_0", "ffn_down") == ["F16", "Q8_0", "Q8_0", "Q8_0"]
    file = predicted_file(narrow, "q4_k_m")
    assert {(fallback.wanted, fallback.written, len(fallback.tensors)) for fallback in file.fallbacks} == {
        ("Q4_K", "Q5_0", 22),
        ("Q4_K", "F16", 1),
        ("Q6_K", "Q8_0", 4),
    }
    assert file.fallback_tensors == 27
    assert file.growth == pytest.approx(file.bytes / file.bytes_without_fallback - 1)
    assert 0.2 < file.growth < 0.4
    fitting = sum(t.parameters for t in predicted_tensors(narrow, "q4_k_m") if not t.fell_back)
    assert file.fallback_share == pytest.approx(1 - fitting / narrow.parameters)


def test_qwen3_is_sized_with_its_padding() -> None:
    mixed = design(256, [256, 512], family="qwen3")
    assert predicted_file(mixed, "f16").parameters > mixed.parameters
    assert predicted_file(design(256, [256, 512]), "f16").parameters == design(256, [256, 512]).parameters


@given(
    hidden=st.integers(2, 700),
    widths=st.lists(st.integers(1, 900), min_size=1, max_size=9),
    mix=st.sampled_from(sorted(MIXES)),
    tied=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_every_shape_has_a_type_that_fits(hidden: int, widths: list[int], mix: str, tied: bool) -> None:
    architecture = design(hidden, widths, tied=tied)
    tensors = predicted_tensors(architecture, mix)
    for tensor in tensors:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[tensor.written]]
        assert tensor.shape[-1] % block == 0
        assert tensor.bytes == tensor.parameters // block * size
        assert tensor.fell_back == (bits_per_weight(tensor.written) > bits_per_weight(tensor.wanted))
    file = predicted_file(architecture, mix)
    assert file.parameters == architecture.parameters
    assert file.bytes >= file.bytes_without_fallback
    assert file.fallback_tensors == sum(tensor.fell_back for tensor in tensors)


def test_unknown_mixes_and_the_cost_of_importing(sources: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"no quantisation 'q4'.*q4_k_m"):
        predicted_file(source_architecture(sources["qwen2"]), "q4")
    assert predicted_file(design(256, [256]), "Q4_K_M").mix == "q4_k_m"
    probe = "import sys, tools.export.quantisation; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
