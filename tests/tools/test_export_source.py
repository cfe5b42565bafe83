"""Exports of model directories without a run: plain ones, padded ones, compact ones, and what is wrong with some."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.llama_cpp import source_architecture
from tools.architecture import Architecture, LayerShape
from tools.errors import InputError
from tools.export.card_files import read_card
from tools.export.compact import load_compact
from tools.export.compact_huggingface import export_compact
from tools.export.huggingface import export_huggingface
from tools.export.model_directory import open_directory
from tools.export.options import ExportOptions, export_options
from tools.export.report import ExportReport
from tools.export.source_export import export_source
from tools.requests import Progress
from tools.sources import load_model

Cut = Callable[[PreTrainedModel, Architecture, Architecture], None]

PROMPT = torch.arange(24).reshape(2, 12) * 7 % 320


def write(source: Path, destination: Path, **options: object) -> ExportReport:
    chosen = export_options(destination, **options)  # type: ignore[arg-type]
    return export_source(str(source), destination, chosen, destination.parent / "cache")


def mixed(source: Architecture) -> Architecture:
    layer = source.layers[0]
    per_group = layer.num_attention_heads // layer.num_key_value_heads
    widths = [(layer.num_key_value_heads, 40), (1, 96), (1, 8)]
    shapes = [
        LayerShape(num_attention_heads=g * per_group, num_key_value_heads=g, intermediate_size=w) for g, w in widths
    ]
    return source.with_layers(shapes)


def logits(directory: Path) -> torch.Tensor:
    with torch.no_grad():
        model = (
            load_compact(directory, directory) if (directory / "architecture.json").is_file() else load_model(directory)
        )
        found: torch.Tensor = model(PROMPT).logits
    return found


def copied(source: Path, destination: Path) -> Path:
    shutil.copytree(source, destination)
    return destination


def test_every_form_is_a_source_of_every_other(sources: dict[str, Path], cut_by_hand: Cut, tmp_path: Path) -> None:
    for family in ("llama-tied", "qwen3"):
        source, model = source_architecture(sources[family]), load_model(sources[family])
        design = mixed(source)
        cut_by_hand(model, source, design)
        with torch.no_grad():
            expected = model(PROMPT).logits
        folder = tmp_path / family
        folder.mkdir()
        export_huggingface(model, design, sources[family], folder / "padded")
        export_compact(model, design, sources[family], folder / "compact")
        for before in ("padded", "compact"):
            assert open_directory(folder / before).architecture == design
            for name, options in (("hf", {}), ("small", {"compact": True})):
                report = write(folder / before, folder / f"{before}-{name}", **options)
                assert (logits(report.path) - expected).abs().max() <= 1e-5, (family, before, name)
                assert report.padded == (name == "hf") and report.remote_code == (name == "small")
                assert report.parameters == design.parameters
            one = write(folder / before, folder / f"{before}.gguf", dtype="f32")
            assert one.class_name == ("qwen3" if family == "qwen3" else "deci")
        # The zeros of padding cost nothing on the way: both give the same file, byte for byte, but for their name.
        first, second = (gguf.GGUFReader(folder / f"{before}.gguf") for before in ("padded", "compact"))
        assert [(t.name, t.data.tobytes()) for t in first.tensors] == [
            (t.name, t.data.tobytes()) for t in second.tensors
        ]


def test_types_are_kept_or_changed(sources: dict[str, Path], tmp_path: Path) -> None:
    half = export_options(tmp_path / "half", dtype="bf16")
    export_source(str(sources["qwen2"]), tmp_path / "half", half, tmp_path / "cache")
    report = write(tmp_path / "half", tmp_path / "again")
    assert report.dtype == "bfloat16"
    assert {t.dtype for t in load_file(tmp_path / "again" / "model.safetensors").values()} == {torch.bfloat16}
    assert write(tmp_path / "half", tmp_path / "whole", dtype="float32").dtype == "float32"
    phases: list[Progress] = []
    options = export_options(tmp_path / "x.gguf", quantise="q8_0")
    export_source(str(tmp_path / "half"), tmp_path / "x.gguf", options, tmp_path / "cache", phases.append)
    assert phases[-1].phase == "writing tensors" and phases[-1].done == phases[-1].total - 1 > 10


def test_a_model_with_equal_layers_needs_no_code(sources: dict[str, Path], tmp_path: Path) -> None:
    report = write(sources["llama-tied"], tmp_path / "out", compact=True)
    assert not report.remote_code and not list((tmp_path / "out").glob("*.py"))
    assert "no code comes along" in report.notes()[0]


def test_several_files_of_one_model_share_a_directory(sources: dict[str, Path], tmp_path: Path) -> None:
    write(sources["llama-tied"], tmp_path / "out")
    write(sources["llama-tied"], tmp_path / "out", format="gguf")
    write(tmp_path / "out", tmp_path / "out", quantise="q8_0")
    card = read_card(tmp_path / "out")
    assert card is not None
    assert [file.name for file in card.files] == ["model.safetensors", "model.gguf", "model-Q8_0.gguf"]
    text = (tmp_path / "out" / "README.md").read_text()
    assert "`model-Q8_0.gguf`" in text and str(tmp_path) not in text + card.model_dump_json()
    with pytest.raises(InputError, match=r"model-Q8_0\.gguf exists already"):
        write(tmp_path / "out", tmp_path / "out", quantise="q8_0")
    write(tmp_path / "out", tmp_path / "out", quantise="q8_0", overwrite=True)
    with pytest.raises(InputError, match="another model's export"):
        write(sources["qwen2"], tmp_path / "out", quantise="q8_0", overwrite=True)
    fields = gguf.GGUFReader(tmp_path / "out" / "model.gguf").fields
    assert fields["general.base_model.0.name"].contents() == "llama-tied"


def test_a_card_is_believed_only_while_the_weights_are_its_own(sources: dict[str, Path], tmp_path: Path) -> None:
    write(sources["llama-tied"], tmp_path / "first")
    card = read_card(tmp_path / "first")
    assert card is not None
    write(tmp_path / "first", tmp_path / "second")
    kept = read_card(tmp_path / "second")
    assert kept is not None and kept.identity == card.identity and kept.origin == card.origin
    assert card.fingerprint is not None
    weights = load_file(tmp_path / "first" / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, tmp_path / "first" / "model.safetensors")
    write(tmp_path / "first", tmp_path / "third")
    changed = read_card(tmp_path / "third")
    assert changed is not None and changed.identity != card.identity
    assert changed.origin.name == "llama-tied", "where it comes from is still known"


def test_directories_that_are_no_models(sources: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no config\.json"):
        write(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match="There is no directory"):
        write(tmp_path / "nowhere" / "at" / "all", tmp_path / "out")
    other = copied(sources["llama-tied"], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(InputError, match="'gpt2' cannot be cut"):
        write(other, tmp_path / "out")
    (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 95}))
    with pytest.raises(InputError, match=r"gate_proj.weight in .* has shape \(96, 64\), but .* says \(95, 64\)"):
        write(other, tmp_path / "out")
    (other / "config.json").write_text(json.dumps(config))
    weights = load_file(other / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight"):
        write(other, tmp_path / "out")
    (other / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        write(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokenizers_that_do_not_match(sources: dict[str, Path], tmp_path: Path) -> None:
    other = copied(sources["qwen2"], tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["far"] = 320
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    for options in ({}, {"compact": True}, {"format": "gguf"}, {"quantise": "q8_0"}):
        with pytest.raises(InputError, match="has 321 tokens, but the model's embedding has 320"):
            write(other, tmp_path / "out", **options)
    (other / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="has no tokenizer"):
        write(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_takes_no_more(sources: dict[str, Path], tmp_path: Path) -> None:
    write(sources["llama-tied"], tmp_path / "there")
    before = {file.name: file.stat().st_ino for file in (tmp_path / "there").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands for the full disk: the system refuses in the middle of the weights.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        for options in ({}, {"compact": True}, {"quantise": "q8_0"}, {"format": "gguf"}):
            with pytest.raises(InputError, match=r"Cannot write .*enough space"):
                write(sources["llama-tied"], tmp_path / "new" / "deep", **options)
            with pytest.raises(InputError, match=r"Cannot write .*enough space"):
                write(sources["llama-tied"], tmp_path / "there", overwrite=True, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file.name: file.stat().st_ino for file in (tmp_path / "there").iterdir()} == before
    assert not (tmp_path / "new").exists()
    # Where the card cannot be written there is no file without one.
    (tmp_path / "taken" / "penjing.json").mkdir(parents=True)
    with pytest.raises(InputError, match="is a directory"):
        write(sources["llama-tied"], tmp_path / "taken", format="gguf")
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["penjing.json"]


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    assert export_options(tmp_path) == ExportOptions("hf", None)
    assert export_options(tmp_path / "x.gguf") == ExportOptions("gguf", "f16")
    assert export_options(tmp_path, quantise="Q4_K_M") == ExportOptions("gguf", "q4_k_m")
    assert export_options(tmp_path, "gguf", dtype="bfloat16").dtype == "bf16"
    assert export_options(tmp_path, dtype="f16").dtype == "float16"
    for options, words in (
        ({"format": "hf", "quantise": "q8_0"}, "written as gguf only"),
        ({"format": "gguf", "compact": True}, "different widths anyway"),
        ({"quantise": "q8_0", "compact": True}, "different widths anyway"),
        ({"quantise": "q8_0", "dtype": "f32"}, "leave out dtype"),
        ({"quantise": "q9"}, "no quantisation 'q9'; choose one of .*q8_0"),
        ({"dtype": "int8"}, "no dtype 'int8'; choose one of float32"),
    ):
        with pytest.raises(InputError, match=words):
            export_options(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="names a GGUF file"):
        export_options(tmp_path / "x.gguf", "hf")


def test_a_model_is_not_exported_over_itself(sources: dict[str, Path], tmp_path: Path) -> None:
    place = copied(sources["llama-tied"], tmp_path / "model")
    with pytest.raises(InputError, match="holds the source model itself"):
        write(place, place, overwrite=True)
    (place / "README.md").write_text("my own page")
    report = write(place, place, format="gguf")
    assert report.path == place / "model.gguf" and (place / "README.md").read_text() == "my own page"
    assert (place / "penjing.json").is_file() and not (place / "architecture.png").exists()


def test_what_prune_and_pretrain_left_is_told(
    sources: dict[str, Path], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.one_shot import PruneRequest, prune
    from tools.pretrain import PretrainRequest, pretrain
    from tools.settings import DataSettings, Recipe, WidthSettings

    common = {
        "source": str(sources["llama-tied"]),
        "corpus": str(corpus),
        "cache": tmp_path / "cache",
        "data": DataSettings(block_length=32, training_tokens=4096, validation_tokens=256),
        "widths": WidthSettings(ffn_multiple=8, hidden_multiple=8),
        "target_parameters": 100_000,
    }
    pruned = prune(PruneRequest(**common, method="magnitude", calibration_tokens=256, output=tmp_path / "pruned"))
    recipe = Recipe(warmup_steps=1, training_steps=3, batch_size=2, micro_batch_size=1)
    trained = pretrain(PretrainRequest(**common, tokens=32 * 2 * 6, recipe=recipe, output=tmp_path / "trained"))
    for name, parameters, words in (
        ("pruned", pruned.architecture.parameters, "Pruned once and not trained, by magnitude"),
        ("trained", trained.parameters, "Pruned while it was trained"),
    ):
        # The output folder of pretrain holds the model in a folder of its own.
        report = write(tmp_path / name, tmp_path / f"{name}-file", quantise="q8_0")
        assert report.parameters == parameters
        card = read_card(tmp_path / f"{name}-file")
        assert card is not None and card.training is not None and card.training.method.startswith(words)
        assert (card.origin.name, card.training.corpus) == ("llama-tied", "corpus.jsonl")
        assert card.figures[0].name == "validation loss" and card.figures[0].origin is not None
        text = (tmp_path / f"{name}-file" / "README.md").read_text()
        assert "## Training" in text and str(tmp_path) not in text + card.model_dump_json()
