"""A random model of SmolLM2-135M's depth whose trials take seconds, and a corpus: for what is not about losses."""

import random
from pathlib import Path

_WORDS = ("pruning", "trains", "a", "small", "tree", "while", "it", "grows", "and", "the", "gardener", "cuts", "least")
_DOCUMENTS = 200
_SIZES = {
    "hidden_size": 72,
    "intermediate_size": 192,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


def small_corpus(folder: Path) -> Path:
    """A JSON-lines file of short documents, all different."""
    rng, path = random.Random(0), folder / "corpus.jsonl"  # noqa: S311 - text that is the same each time
    lines = (f'{{"text": "{number}: {" ".join(rng.choices(_WORDS, k=80))}"}}' for number in range(_DOCUMENTS))
    path.write_text("\n".join(lines) + "\n")
    return path


def small_source(folder: Path) -> Path:
    """A directory with weights and tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tools.quiet import quiet_transformers

    directory = folder / "source"
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**_SIZES))
    with quiet_transformers():
        model.save_pretrained(directory)
        PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), eos_token="<|end|>").save_pretrained(directory)  # noqa: S106
    return directory


def _tokenizer() -> "object":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(_WORDS)], trainer)
    return tokenizer
