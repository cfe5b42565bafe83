"""Model cards: what they say, what they leave out, and that the code in them runs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.errors import InputError
from tools.export.card_files import read_card, require_same_model, write_card
from tools.export.card_rendering import rendered
from tools.export.model_card import (
    Ancestor,
    CardFile,
    Figure,
    ModelCard,
    Origin,
    PromptUsed,
    SearchFacts,
    TrainingFacts,
)
from tools.export.options import export_options
from tools.export.origin import EMBEDDED, origin_of, public_name
from tools.export.quantisation import predicted_file
from tools.export.report import ExportReport
from tools.export.running import opens_in_mlx
from tools.export.source_export import export_source


def design(widths: tuple[int, ...], family: str = "llama", hidden: int = 64) -> Architecture:
    fixed = FixedShape(model_type=family, vocab_size=320, head_dim=16, tie_word_embeddings=True)
    layers = [LayerShape(num_attention_heads=4, num_key_value_heads=2, intermediate_size=width) for width in widths]
    return Architecture(fixed=fixed, hidden_size=hidden, layers=tuple(layers))


def card(**changes: object) -> ModelCard:
    origin = Origin(name="owner/base", on_hub=True, license="mit", license_found_in="the README.md of the model")
    whole = ModelCard(
        name="small",
        architecture=design((40, 40, 96)),
        origin=origin.model_copy(update={"architecture": design((96, 96, 96)), "fingerprint": "f" * 16}),
        training=TrainingFacts(corpus="text | more", method="Pruned while trained", tokens=1234, seed=3),
        search=SearchFacts(
            run="20261124-101112-abcd",
            trial=2,
            trials=3,
            stage="self_evolution",
            outcome="valid",
            chat_model="openai:gpt",
            settings_fingerprint="0" * 16,
            lineage=(
                ancestor(0, None, None, ("the least salient groups",)),
                ancestor(2, 0, "abc123", ("# deeper layers\nmatter | more",)),
            ),
            prompts=(PromptUsed(name="design", hash="abc123"),),
            created_at="2026-11-24T10:11:12Z",  # type: ignore[arg-type] # pydantic reads it
        ),
        figures=(Figure(name="piqa", value=0.625, standard_error=0.01, unit="acc", origin=0.7, settings="lm-eval"),),
        files=(file(),),
        created_at="2026-11-24T10:11:12Z",  # type: ignore[arg-type]
    )
    return whole.model_copy(update=changes)


def ancestor(trial: int, parent: int | None, prompt: str | None, rationale: tuple[str, ...]) -> Ancestor:
    return Ancestor(
        trial=trial,
        stage="self_evolution" if trial else "greedy",
        proposer="evolver" if trial else "greedy",
        parent=parent,
        parameters=50_000,
        loss=2.5,
        prompt_hash=prompt,
        rationale=rationale,
    )


def file(**changes: object) -> CardFile:
    values = {
        "name": "model.safetensors",
        "format": "safetensors",
        "class_name": "LlamaForCausalLM",
        "dtype": "float32",
        "bytes": 400_000,
        "parameters": 99_000,
        "padded": True,
        "remote_code": False,
    }
    return CardFile.model_validate(values | changes)


def header(text: str) -> dict[str, object]:
    assert text.startswith("---\n")
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_everything_known_is_said() -> None:
    text = rendered(card())
    assert header(text) == {
        "license": "mit",
        "base_model": "owner/base",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["penjing", "structured-pruning", "llama"],
    }
    for words in (
        "cut from [owner/base](https://huggingface.co/owner/base)",
        "| FFN channels | 40 to 96 | 96 |",
        "| 0 to 1 | 4 | 2 | 40 |",
        "| piqa, acc | 0.6250 ± 0.0100 | 0.7000 | lm-eval |",
        "| corpus | text \\| more |",
        "Trial 2 of 3 in run `20261124-101112-abcd`, stage self evolution",
        "| 2 | self evolution | 0 | 50,000 | 2.5000 | `abc123` |",
        "design `abc123`",
    ):
        assert words in text, words
    # An agent's words stay on their line: no heading comes of them.
    assert "- trial 2: # deeper layers matter | more" in text
    assert "{{" not in text and "None" not in text
    assert ModelCard.model_validate_json(card().model_dump_json()) == card()


def test_what_is_not_known_is_left_out() -> None:
    bare = card(origin=Origin(), training=None, search=None, figures=())
    text = rendered(bare)
    assert set(header(text)) == {"library_name", "pipeline_tag", "tags"}
    assert "licence of the base model is not known" in text
    for heading in ("## Evaluation", "## Training", "## Search", "base |"):
        assert heading not in text
    assert "structured-pruning" not in text


def test_remote_code_is_said_plainly() -> None:
    text = rendered(card(files=(file(remote_code=True, class_name="PenjingLlamaForCausalLM"),)))
    assert "[!WARNING]" in text and "modeling_penjing.py" in text
    assert text.count("trust_remote_code=True") >= 4
    assert "custom_code" in str(header(text)["tags"]) and "mlx" not in text


def test_fallbacks_are_listed() -> None:
    architecture = design((40, 40, 96))
    report = ExportReport(
        path=Path("x.gguf"),
        class_name="deci",
        parameters=architecture.parameters,
        file_parameters=architecture.parameters,
        padded=False,
        bytes=1000,
        weights_file="x.gguf",
        dtype="q4_k_m",
        prediction=predicted_file(architecture, "q4_k_m"),
    )
    written = CardFile.of(report)
    assert {(one.wanted, one.written) for one in written.fallbacks} >= {("Q4_K", "Q5_0"), ("Q4_K", "F16")}
    text = rendered(card(files=(written,)))
    assert "fell back to other types" in text and "larger for it" in text and header(text)["library_name"] == "gguf"
    assert "llama-server" in text, "transformers does not read deci"


def test_tools_that_would_compute_something_else_are_not_named() -> None:
    assert opens_in_mlx(file(), design((96,)), False)
    assert not opens_in_mlx(file(), design((96,), "mistral"), True)
    assert opens_in_mlx(file(), design((96,), "qwen2"), False)
    assert not opens_in_mlx(file(), design((96,), "qwen2", hidden=56), False)
    assert not opens_in_mlx(file(remote_code=True), design((96,)), False)
    assert "lm_eval --model hf" in rendered(card(architecture=design((96,), "qwen2", hidden=56)))


def test_where_a_model_comes_from(tmp_path: Path) -> None:
    folder = tmp_path / "local-model"
    folder.mkdir()
    assert origin_of(folder) == Origin(name="local-model")
    (folder / "LICENSE").write_text("\n   Apache License\n Version 2.0")
    assert (
        origin_of(folder).license == "apache-2.0" and origin_of(folder).license_found_in == "LICENSE beside the model"
    )
    (folder / "README.md").write_text("---\nlicense: gemma\n---\n# a model")
    assert origin_of(folder).license == "gemma"
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    assert origin_of(folder).license == "apache-2.0"
    assert origin_of(folder, "owner/model@main").name == "owner/model" and origin_of(folder, "owner/model").on_hub
    snapshot = tmp_path / "models--some-one--a.model" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    assert origin_of(snapshot).name == "some-one/a.model"
    assert origin_of(folder, "smollm2-135m") == EMBEDDED
    assert public_name("python-docs") == "python-docs" and public_name("owner/data") == "owner/data"
    assert public_name(str(tmp_path / "gone" / "text.jsonl")) == "text.jsonl"


def test_files_of_a_card(tmp_path: Path) -> None:
    write_card(tmp_path, card())
    assert sorted(found.name for found in tmp_path.iterdir()) == ["README.md", "architecture.png", "penjing.json"]
    assert read_card(tmp_path) == card()
    with Image.open(tmp_path / "architecture.png") as picture:
        assert picture.size[0] > 500 and len(picture.convert("RGB").getcolors(maxcolors=100_000) or []) > 3
    document = json.loads((tmp_path / "penjing.json").read_text())
    assert document["schema_version"] == 1 and document["search"]["prompts"] == [{"name": "design", "hash": "abc123"}]
    require_same_model(tmp_path, card(figures=()))
    with pytest.raises(InputError, match="holds another model's export, small"):
        require_same_model(tmp_path, card(architecture=design((40,))))
    # A page that somebody else wrote stays; a card of another version is none.
    (tmp_path / "penjing.json").write_text('{"schema_version": 99}')
    (tmp_path / "README.md").write_text("mine")
    write_card(tmp_path, card())
    assert (tmp_path / "README.md").read_text() == "mine" and read_card(tmp_path) == card()


def python_code(readme: str) -> dict[str, str]:
    """The Python code under each tool."""
    found = re.findall(r"\*\*([\w.-]+)\*\*[^\n]*\n\n```python\n(.*?)```", readme, re.DOTALL)
    return dict(found)


def test_the_code_in_a_card_runs(sources: dict[str, Path], tmp_path: Path) -> None:
    weights = sources["llama-tied"]
    source = tmp_path / "source"
    shutil.copytree(weights, source)
    programs: list[str] = []
    for name, options in (
        ("stock", export_options(tmp_path / "stock")),
        ("file", export_options(tmp_path / "file", quantise="q8_0")),
    ):
        export_source(str(source), tmp_path / name, options, tmp_path / "cache")
        code = python_code((tmp_path / name / "README.md").read_text())
        assert code, name
        programs += code.values()
    assert len(programs) == 3
    # In one process, as each of them loads torch.
    program = "\nprint('---')\n".join(programs)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(part.strip() for part in done.stdout.split("---\n"))
