"""Post-training methods: widths that meet a target, choices behind earlier cuts, and pruning from start to end."""

import json
import random
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.errors import InputError
from tools.evaluation.perplexity import validation_loss
from tools.families import architecture_from_config
from tools.one_shot import PRUNE_FILE, PruneRequest, PruneResult, prune
from tools.pretraining.corpus import prepare_corpus
from tools.pruning.blocks import blocks
from tools.pruning.criteria import CRITERIA, make_criterion
from tools.pruning.criteria.contract import LayerwiseCriterion
from tools.pruning.criteria.evidence import Calibration, gather
from tools.pruning.criteria.layerwise import choose_layer_after_layer
from tools.pruning.groups import PRUNING_TYPES, ffn_channel_parameters, query_heads_per_group
from tools.pruning.methods import METHODS, Method, method_named, prune_model, uniform_design
from tools.pruning.selection import plan_cut
from tools.pruning.surgery import cut
from tools.requests import Progress
from tools.settings import DataSettings, SpaceSettings, WidthSettings
from tools.sources import load_model

WIDTHS = WidthSettings(ffn_multiple=8, hidden_multiple=8)
DATA = DataSettings(block_length=32, training_tokens=2048, validation_tokens=256)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty short documents, all different."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    draw = random.Random(0)
    words = ("a", "gardener", "cuts", "the", "least", "branch", "while", "small", "trees", "grow")
    texts = [" ".join(draw.choices(words, k=50)) for _ in range(30)]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return path


def calibration() -> Calibration:
    batches = [torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    return Calibration(tuple(batches), nullcontext)


def no_report(phase: str, done: int, total: int) -> None:
    pass


def space_of(size: int, **widths: Any) -> SpaceSettings:
    return SpaceSettings(**(WIDTHS.model_dump() | widths), max_parameters=size)


def pruned(path: Path, method: Method, share: float, seed: int = 0, **widths: Any) -> tuple[Any, Architecture, int]:
    """The cut model, its architecture, and the target that it was cut to: `share` of the source."""
    model = load_model(path)
    source = architecture_from_config(model.config)
    target = round(share * source.parameters)
    design = prune_model(model, source, method, space_of(target, **widths), calibration(), 0.3, seed, no_report)
    return model, design, target


def test_every_method_says_what_it_is() -> None:
    for method in METHODS.values():
        assert method.criterion in CRITERIA and method.description and set(method.types) <= set(PRUNING_TYPES)
    asked = "llm-pruner llm-pruner-vector llm-pruner-mixed structured-obs wanda-sp wanda-sp-repaired flap magnitude"
    assert {*asked.split(), "random", "fisher", "penjing"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_meets_its_target(sources: dict[str, Path], name: str) -> None:
    """A legal model of at most the target, not more than one FFN step of a layer below it, that can be trained."""
    model, design, target = pruned(sources["llama-tied"], METHODS[name], 0.8)
    assert sum(parameter.numel() for parameter in model.parameters()) == design.parameters
    assert target - 8 * ffn_channel_parameters(design) < design.parameters <= target
    tokens = calibration().micro_batches[0]
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("share", [0.9, 0.85, 0.8, 0.75, 0.7, 0.65])
def test_a_global_ranking_comes_close_to_its_target(sources: dict[str, Path], share: float) -> None:
    """Also where the last step was a whole key/value group: what it freed too much is given back."""
    _, design, target = pruned(sources["llama-tied"], method_named("llm-pruner-global"), share)
    assert target - 8 * ffn_channel_parameters(design) < design.parameters <= target


def test_flap_leaves_its_biases_in_the_model(sources: dict[str, Path]) -> None:
    model, _, _ = pruned(sources["llama-tied"], METHODS["flap"], 0.7)
    assert any(block.down_proj.bias.abs().sum() > 0 for block in blocks(model))
    assert any(block.o_proj.bias.abs().sum() > 0 for block in blocks(model))
    assert all(block.up_proj.bias.abs().sum() == 0 for block in blocks(model))


def test_the_stem_is_judged_by_the_whole_model(sources: dict[str, Path]) -> None:
    """Layer after layer or not, the most salient stem channels stay, and their gains are made up for."""
    path = sources["llama-tied"]
    model, design, _ = pruned(path, method_named("wanda-sp-repaired", ["stem", "ffn"]), 0.8)
    source = load_model(path)
    criterion = make_criterion("activation", source)
    stem = criterion.saliency(gather(source, criterion, calibration(), True, no_report)).stem
    kept = np.sort(np.argsort(-stem, kind="stable")[: design.hidden_size])
    assert 0 < design.hidden_size < 64
    columns = source.get_parameter("model.embed_tokens.weight")[:, kept]
    torch.testing.assert_close(model.get_parameter("model.embed_tokens.weight"), columns)
    gains = [each.get_submodule("model.norm").get_parameter("weight") for each in (model, source)]
    ratio = (gains[0] / gains[1][kept]).detach()
    assert float(ratio.std()) < 1e-5 and abs(float(ratio.mean()) - 1) > 1e-4, "one factor, and not 1"


@pytest.mark.parametrize("family", ["llama-untied", "llama-mqa", "llama-biases", "mistral", "qwen2", "qwen3-biases"])
@pytest.mark.parametrize("name", ["llm-pruner", "structured-obs", "wanda-sp-repaired", "penjing"])
def test_every_family(sources: dict[str, Path], family: str, name: str) -> None:
    model, design, target = pruned(sources[family], METHODS[name], 0.85)
    assert sum(parameter.numel() for parameter in model.parameters()) == design.parameters <= target
    with torch.no_grad():
        assert torch.isfinite(model(input_ids=calibration().micro_batches[0]).logits).all()


@pytest.mark.parametrize("name", ["llm-pruner", "random", "structured-obs", "flap"])
def test_one_seed_one_result(sources: dict[str, Path], name: str) -> None:
    first, design, _ = pruned(sources["llama-tied"], METHODS[name], 0.8, seed=5)
    second, again, _ = pruned(sources["llama-tied"], METHODS[name], 0.8, seed=5)
    assert design == again
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["wanda-sp", "structured-obs", "penjing", "random"])
def test_types_can_be_chosen(sources: dict[str, Path], name: str) -> None:
    for types in (("stem",), ("ffn",), ("ffn", "stem"), ("attention", "stem")):
        _, design, target = pruned(sources["llama-untied"], method_named(name, types), 0.9)
        assert design.parameters <= target
        assert (design.hidden_size < 64) <= ("stem" in types)
        assert any(layer.intermediate_size < 96 for layer in design.layers) <= ("ffn" in types)
        assert any(layer.num_key_value_heads < 2 for layer in design.layers) <= ("attention" in types)


def test_multi_query_attention_loses_query_heads(sources: dict[str, Path]) -> None:
    only = method_named("llm-pruner", ["attention"])
    with pytest.raises(InputError, match="smallest model that can be reached by cutting attention"):
        pruned(sources["llama-mqa"], only, 0.9)
    _, design, target = pruned(sources["llama-mqa"], only, 0.9, attention_unit="query_head")
    assert design.parameters <= target
    assert all(layer.num_key_value_heads == 1 and layer.num_attention_heads < 8 for layer in design.layers)


def llama(depth: int = 4, groups: int = 3, ratio: int = 2, ffn: int = 96, hidden: int = 64) -> Architecture:
    shape = LayerShape(num_attention_heads=groups * ratio, num_key_value_heads=groups, intermediate_size=ffn)
    fixed = FixedShape(model_type="llama", vocab_size=128, head_dim=16, tie_word_embeddings=True)
    return Architecture(fixed=fixed, hidden_size=hidden, layers=(shape,) * depth)


def uniform(*types: str, spared: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))) -> Method:
    return Method("magnitude", "uniform", types, "none", "for a test", spared=spared)  # type: ignore[arg-type]


def width_without(width: int, multiple: int, share: Fraction) -> int:
    """The smallest multiple, or the whole width, that is not below what the share leaves."""
    legal: list[int] = [*range(multiple, width, multiple), width]
    return next(value for value in legal if value >= (1 - share) * width)


def by_trying(source: Architecture, types: tuple[str, ...], space: SpaceSettings) -> Architecture:
    """The first common share that meets the budget; all widths of the tests change at whole 360ths."""
    old = source.layers[0]
    for part in range(361):
        share = Fraction(part, 360)
        groups, ratio = old.num_key_value_heads, query_heads_per_group(old)
        if "attention" in types and space.attention_unit == "kv_group":
            groups = width_without(groups, 1, share)
        elif "attention" in types:
            ratio = width_without(ratio, 1, share)
        ffn = width_without(old.intermediate_size, 8, share) if "ffn" in types else old.intermediate_size
        hidden = width_without(source.hidden_size, 8, share) if "stem" in types else source.hidden_size
        shape = LayerShape(num_attention_heads=groups * ratio, num_key_value_heads=groups, intermediate_size=ffn)
        design = Architecture(fixed=source.fixed, hidden_size=hidden, layers=(shape,) * len(source.layers))
        if design.parameters <= space.max_parameters:
            return design
    raise AssertionError("no share meets the budget")


@settings(max_examples=20, deadline=None)
@given(
    share=st.floats(0.6, 0.99),
    types=st.sampled_from([("ffn",), ("attention", "ffn"), ("attention", "ffn", "stem"), ("stem",)]),
    ffn=st.sampled_from([96, 90]),
    unit=st.sampled_from(["kv_group", "query_head"]),
)
def test_uniform_widths(share: float, types: tuple[str, ...], ffn: int, unit: str) -> None:
    """The smallest common share that does, but for FFN steps that still fit, one a layer, first layers first."""
    source = llama(ffn=ffn)
    space = space_of(round(share * source.parameters), attention_unit=unit)
    design, expected = uniform_design(source, uniform(*types), space), by_trying(source, types, space)
    assert design.hidden_size == expected.hidden_size
    for layer, tried in zip(design.layers, expected.layers, strict=True):
        assert layer.num_key_value_heads == tried.num_key_value_heads
        assert layer.num_attention_heads == tried.num_attention_heads
        assert layer.intermediate_size >= tried.intermediate_size
    widths = [layer.intermediate_size for layer in design.layers]
    assert max(widths) - min(widths) <= 8 and sorted(widths, reverse=True) == widths
    assert all(width % 8 == 0 or width == ffn for width in widths)
    assert design.parameters <= space.max_parameters
    if "ffn" in types and min(widths) < ffn and ffn % 8 == 0:
        assert design.parameters > space.max_parameters - 8 * ffn_channel_parameters(design)


def test_uniform_keeps_whole_what_it_spares() -> None:
    """LLM-Pruner's scripts leave the first 4 and the last 2 of 32 layers alone."""
    source, method = llama(depth=32), METHODS["llm-pruner"]
    design = uniform_design(source, method, space_of(round(0.7 * source.parameters)))
    whole = [index for index, layer in enumerate(design.layers) if layer == source.layers[index]]
    assert whole == [0, 1, 2, 3, 30, 31]
    with pytest.raises(InputError, match="smallest model that can be reached"):
        uniform_design(source, method, space_of(round(0.2 * source.parameters)))


@pytest.mark.parametrize("family", ["llama-tied", "mistral", "qwen3"])
@pytest.mark.parametrize("damping", [None, 0.3])
def test_layers_are_judged_behind_the_cuts_before_them(
    sources: dict[str, Path], family: str, damping: float | None
) -> None:
    """What decided is what the finished model itself would say of the groups that stayed, and not the source's word."""
    model = load_model(sources[family])
    source = architecture_from_config(model.config)
    shape = source.layers[0].model_copy(
        update={"intermediate_size": 56, "num_key_value_heads": 2, "num_attention_heads": 4}
    )
    design = source.with_layers([shape] * 3)
    criterion = make_criterion("activation", model)
    assert isinstance(criterion, LayerwiseCriterion)
    dense = criterion.saliency(gather(model, criterion, calibration(), True, no_report))
    found = choose_layer_after_layer(model, source, design, criterion, calibration(), damping, no_report)
    after = criterion.saliency(gather(model, criterion, calibration(), True, no_report))
    plan = plan_cut(source, design, found)
    for index in range(3):
        kept, heads = plan.ffn[index], plan.query_heads[index]
        assert np.count_nonzero(after.ffn[index]) == 56 and np.count_nonzero(after.query_head[index]) == 4
        assert (after.ffn[index][kept] > 0).all() and (after.query_head[index][heads] > 0).all()
        if damping is None:
            np.testing.assert_allclose(found.ffn[index][kept], after.ffn[index][kept], rtol=1e-4)
            np.testing.assert_allclose(found.query_head[index][heads], after.query_head[index][heads], rtol=1e-4)
    np.testing.assert_allclose(found.query_head[0], dense.query_head[0], rtol=1e-4)
    assert not np.allclose(found.ffn[2], dense.ffn[2], rtol=1e-2)
    tokens = calibration().micro_batches[0]
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
        cut(model, plan)
        torch.testing.assert_close(model(input_ids=tokens).logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["wanda-sp", "structured-obs"])
def test_repair_brings_the_layer_nearer_to_what_it_was(sources: dict[str, Path], name: str) -> None:
    """The first layer's FFN, of which the inputs are the same in both: less squared error with the update."""
    path, tokens = sources["llama-tied"], calibration().micro_batches
    method = method_named(name, ["ffn"])

    def outputs(model: Any) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        handle = blocks(model)[0].down_proj.register_forward_hook(lambda _m, _i, output: seen.append(output))
        with torch.no_grad():
            for batch in tokens:
                model(input_ids=batch)
        handle.remove()
        return torch.cat(seen)

    source = outputs(load_model(path))
    errors = {}
    for kind in ("none", "second_order"):
        changed = Method(**(vars(method) | {"repair": kind, "scope": "uniform"}))
        model, _, _ = pruned(path, changed, 0.75)
        errors[kind] = float((outputs(model) - source).square().mean())
    assert errors["second_order"] < 0.9 * errors["none"]


def request_of(sources: dict[str, Path], corpus: Path, folder: Path, **changes: Any) -> PruneRequest:
    path = sources[changes.pop("family", "llama-tied")]
    plain: dict[str, Any] = {
        "source": str(path),
        "corpus": str(corpus),
        "method": "penjing",
        "target_parameters": 90_000,
        "calibration_tokens": 320,
        "data": DATA,
        "widths": WIDTHS,
        "output": folder / "out",
        "cache": folder / "cache",
        "precision": "float32",
    }
    return PruneRequest(**(plain | changes))


def quiet(progress: Progress) -> None:
    pass


@pytest.mark.parametrize("name", ["llm-pruner", "structured-obs", "flap", "penjing"])
def test_from_a_source_to_a_model_directory(sources: dict[str, Path], corpus: Path, tmp_path: Path, name: str) -> None:
    """transformers opens what was written, it has the loss that is reported, and prune.json holds all of it."""
    phases: list[str] = []
    request = request_of(sources, corpus, tmp_path, method=name)
    result = prune(request, lambda progress: phases.append(progress.phase))
    source = architecture_from_config(load_model(sources["llama-tied"]).config)
    assert result.before.parameters == source.parameters
    assert result.architecture.parameters == result.after.parameters <= 90_000
    assert result.calibration_tokens == 320 and result.validation_tokens % 32 == 0
    packed = prepare_corpus(str(corpus), sources["llama-tied"], DATA, tmp_path / "cache" / "corpora")
    dense = validation_loss(load_model(sources["llama-tied"]), packed.validation)
    assert result.before.loss == pytest.approx(dense, abs=1e-5)
    stock = AutoModelForCausalLM.from_pretrained(request.output)
    assert type(stock).__name__ == result.class_name
    assert sum(parameter.numel() for parameter in stock.parameters()) == result.file_parameters
    assert result.after.loss == pytest.approx(validation_loss(stock, packed.validation), abs=1e-4)
    assert (request.output / "tokenizer.json").is_file()
    assert PruneResult.model_validate_json((request.output / PRUNE_FILE).read_text()) == result
    assert [phase for phase in phases if phase.startswith("measuring")] == ["measuring, source", "measuring, pruned"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing half written is left"


def test_another_seed_is_other_calibration_text(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    losses = []
    for number, seed in enumerate((1, 1, 2)):
        request = request_of(sources, corpus, tmp_path, seed=seed, output=tmp_path / f"out{number}")
        losses.append(prune(request, quiet).after.loss)
    assert losses[0] == losses[1] != losses[2]


def test_calibration_takes_no_block_twice(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    result = prune(request_of(sources, corpus, tmp_path, calibration_tokens=10**9), quiet)
    packed = prepare_corpus(str(corpus), sources["llama-tied"], DATA, tmp_path / "cache" / "corpora")
    assert result.calibration_tokens == packed.train.size


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "sparsegpt"}, "no pruning method 'sparsegpt'; the methods are: llm-pruner, "),
        ({"target_parameters": 10**9}, "is not below the source, which has 149,952: lower"),
        ({"target_parameters": 9_000, "method": "llm-pruner"}, "cutting attention, ffn in these steps has "),
        ({"calibration_tokens": 31}, "31 calibration tokens are less than one block of 32"),
        ({"family": "qwen2", "method": "flap"}, "models of type 'qwen2' cannot hold"),
    ],
)
def test_bad_requests(
    sources: dict[str, Path], corpus: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        prune(request_of(sources, corpus, tmp_path, **changes), quiet)
    assert not (tmp_path / "out").exists()


def test_a_taken_output_directory(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not empty"):
        prune(request_of(sources, corpus, tmp_path), quiet)
    assert not (tmp_path / "cache").exists(), "refused before any work"
    (tmp_path / "out" / "thesis.txt").unlink()
    prune(request_of(sources, corpus, tmp_path), quiet)
    with pytest.raises(InputError, match="is a file"):
        prune(request_of(sources, corpus, tmp_path, output=tmp_path / "out" / PRUNE_FILE), quiet)


def test_the_smallest_size_that_is_named_can_be_reached(sources: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        prune(request_of(sources, corpus, tmp_path, target_parameters=10), quiet)
    smallest = int(str(refusal.value).split(" has ")[1].split()[0].replace(",", ""))
    result = prune(request_of(sources, corpus, tmp_path, target_parameters=smallest), quiet)
    assert result.after.parameters == smallest
