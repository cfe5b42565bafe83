"""Perplexity as the field takes it, in three ways whose numbers cannot be compared, each with its labels.

- `seq-128`: windows of 128 tokens that do not overlap, as LLM-Pruner and FLAP report it;
- `seq-2048`: the same with 2,048 tokens, as SparseGPT and Wanda report it;
- `lm-eval-word`: EleutherAI's rolling log-likelihood of whole pages, per whitespace word.

The first two tokenise the whole text at once, predict all tokens of a window but its first, and drop the rest that
fills no window.
"""

import hashlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.evaluation.batch_size import fitting_batch_size
from tools.evaluation.evaluated_model import vocabulary_of
from tools.evaluation.evaluation_text import EvaluationText
from tools.evaluation.harness import require_harness, score, task_of_rows
from tools.evaluation.loaded_model import LoadedModel
from tools.evaluation.perplexity import block_losses
from tools.evaluation.result_cache import ResultCache
from tools.evaluation.results import Convention, PerplexityResult
from tools.requests import Progress, ReportProgress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOWS: dict[Convention, int] = {"seq-128": 128, "seq-2048": 2048}
_DIGITS = 5
_KEPT = "with the loss of each window"
"""What is kept of a windowed perplexity: results of before, without it, are not looked for."""


@dataclass(frozen=True)
class PerplexitySettings:
    """`max_length` is the context of `lm-eval-word` in tokens."""

    max_length: int
    batch_size: int | None
    seed: int


def perplexities(
    model: LoadedModel,
    text: EvaluationText,
    conventions: tuple[Convention, ...],
    settings: PerplexitySettings,
    cache: ResultCache,
    report: ReportProgress = lambda progress: None,
) -> tuple[PerplexityResult, ...]:
    """The perplexity of `text` in each convention; those in `cache` are taken from there.

    Raises InputError where lm-eval is needed and not installed.
    """
    results = []
    for convention in conventions:
        version = require_harness() if convention == "lm-eval-word" else ""
        key = [*model.computed_as, convention, text.sha256, settings.max_length if version else _KEPT, version]
        found = cache.find(PerplexityResult, f"perplexity-{convention}", key)
        if found is None:
            found = _measured(model, text, convention, settings, report)
            cache.keep(f"perplexity-{convention}", key, found)
        else:
            report(Progress(phase=f"perplexity {convention}, from the cache", done=1, total=1))
            # The same text may have another name by now.
            found = found.model_copy(update={"cached": True, "text": text.name})
        results.append(found)
    return tuple(results)


def _measured(
    model: LoadedModel,
    text: EvaluationText,
    convention: Convention,
    settings: PerplexitySettings,
    report: ReportProgress,
) -> PerplexityResult:
    report(Progress(phase=f"perplexity {convention}, tokenising", done=0, total=1))
    started = time.monotonic()
    if convention in WINDOWS:
        result = _windowed(model, text, convention, settings.batch_size, report)
    else:
        result = _rolling(model, text, settings, report)
    return result.model_copy(update={"seconds": time.monotonic() - started})


def _windowed(
    model: LoadedModel, text: EvaluationText, convention: Convention, batch_size: int | None, report: ReportProgress
) -> PerplexityResult:
    weights, tokenizer = model.parts
    length = WINDOWS[convention]
    ids, bos = _tokenised(tokenizer, text.joined)
    windows = len(ids) // length
    result = PerplexityResult(
        convention=convention,
        per="token",
        sequence_length=length,
        stride=length,
        bos=bos,
        text=text.name,
        text_sha256=text.sha256,
        text_bytes=text.bytes,
        precision=model.compute.precision,
    )
    context = context_length(weights.config)
    if context is not None and context < length:
        return result.model_copy(update={"note": f"the model's context is {context:,} tokens"})
    if windows == 0:
        return result.model_copy(update={"note": f"the text has {len(ids):,} tokens, less than one window"})
    blocks = np.asarray(ids[: windows * length], dtype=np.int32).reshape(windows, length)
    batch = batch_size or fitting_batch_size(length, vocabulary_of(weights), weights.device)
    losses: list[float] = []
    for start in range(0, windows, batch):
        losses += block_losses(weights, blocks[start : start + batch], batch, model.compute.precision).tolist()
        report(Progress(phase=f"perplexity {convention}", done=len(losses), total=windows))
    loss = math.fsum(losses) / windows
    covered = _covered_bytes(tokenizer, text.joined, windows * length)
    special = 1 if bos.startswith("first") else 0
    kept = {
        "windows_sha256": hashlib.sha256(blocks.astype("<i4").tobytes()).hexdigest(),
        "window_losses": tuple(round(one, _DIGITS) for one in losses),
    }
    result = result.model_copy(update={"tokens": windows * (length - 1), "windows": windows, **kept})
    return _with_loss(result, loss, loss, loss * (windows * length - special) / covered)


def _rolling(
    model: LoadedModel, text: EvaluationText, settings: PerplexitySettings, report: ReportProgress
) -> PerplexityResult:
    from lm_eval.tasks.wikitext import preprocess_wikitext

    from tools.evaluation.harness_model import HarnessModel

    weights, tokenizer = model.parts
    pages = text.pages
    context = min(settings.max_length, context_length(weights.config) or settings.max_length)
    configuration: dict[str, Any] = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "page",
        # The other metrics follow from this one; their own formulas overflow on text without spaces.
        "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    }
    if text.is_wikitext:
        # Its own task undoes WikiText's spaced punctuation, and counts words and bytes before it does.
        configuration["doc_to_target"] = preprocess_wikitext.wikitext_detokenizer
        configuration["process_results"] = lambda doc, found: {
            "bits_per_byte": preprocess_wikitext.process_results(doc, found)["bits_per_byte"]
        }
    judge = HarnessModel(weights, tokenizer, model.compute, context, settings.batch_size, _page_counter(pages, report))
    task = task_of_rows("wikitext", [{"page": page} for page in pages], configuration)
    scores = score(judge, task, "wikitext", None, settings.seed)
    nats = float(scores.metrics["bits_per_byte"] or math.nan) * math.log(2) * text.bytes
    # lm-eval counts the pieces between runs of white space, empty ones at the ends too.
    words = sum(len(re.split(r"\s+", page)) for page in pages)
    prefix = tokenizer.decode([judge.prefix_token_id])
    result = PerplexityResult(
        convention="lm-eval-word",
        per="word",
        sequence_length=context,
        stride=context,
        bos=f"{prefix} before each page",
        text=text.name,
        text_sha256=text.sha256,
        text_bytes=text.bytes,
        tokens=judge.tokens,
        words=words,
        windows=len(pages),
        precision=model.compute.precision,
    )
    return _with_loss(result, nats / judge.tokens, nats / words, nats / text.bytes)


def _with_loss(result: PerplexityResult, loss: float, per_unit: float, per_byte: float) -> PerplexityResult:
    """The result with its figures, from nats per token, per token or word, and per byte."""
    if not math.isfinite(loss):
        return result.model_copy(update={"note": "the model's loss is not finite"})
    perplexity = math.exp(min(per_unit, 700.0))
    return result.model_copy(update={"loss": loss, "perplexity": perplexity, "bits_per_byte": per_byte / math.log(2)})


def context_length(config: Any) -> int | None:
    """The most positions that the model was made for, where its config says so."""
    inner = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(inner, name, None)
        if value is not None:
            return int(value)
    return None


def _tokenised(tokenizer: "PreTrainedTokenizerBase", text: str) -> tuple[list[int], str]:
    """Tokens as the tokenizer makes them when nothing is said about special ones, and what that means for the BOS."""
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    if ids and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id:
        return ids, f"first window only ({tokenizer.bos_token})"
    return ids, "none"


def _covered_bytes(tokenizer: "PreTrainedTokenizerBase", text: str, tokens: int) -> int:
    """UTF-8 length of the text that the first `tokens` tokens stand for."""
    encoded = tokenizer(text, return_offsets_mapping=tokenizer.is_fast, verbose=False)
    if tokenizer.is_fast:
        return len(text[: encoded["offset_mapping"][tokens - 1][1]].encode())
    return len(str(tokenizer.decode(encoded["input_ids"][:tokens], skip_special_tokens=True)).encode())


def _page_counter(pages: list[str], report: ReportProgress) -> Callable[[], None]:
    done = 0

    def on_page() -> None:
        nonlocal done
        done += 1
        report(Progress(phase="perplexity lm-eval-word", done=done, total=max(done, len(pages))))

    return on_page
