"""Tokenises the documents of one side and packs them into blocks."""

from typing import TYPE_CHECKING

import numpy as np

from tools.errors import InputError
from tools.pretraining.blocks import Blocks
from tools.pretraining.documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Packer:
    """Collects tokens until there are as many whole blocks of `block_length` as `limit` tokens allow.

    `bytes` counts the UTF-8 length of the text behind the collected tokens where `count_bytes` is set. Raises
    InputError where the limit is below one block.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        limit: int,
        block_length: int,
        purpose: str,
        count_bytes: bool = False,
    ) -> None:
        if limit < block_length:
            raise InputError(
                f"The limit of {limit} {purpose} tokens is below one block of {block_length} tokens; raise "
                f"{purpose}_tokens or lower block_length."
            )
        self.wanted = limit // block_length * block_length
        self.tokens = self.documents = self.bytes = 0
        self._tokenizer, self._length, self._purpose, self._count_bytes = tokenizer, block_length, purpose, count_bytes
        self._pieces: list[Blocks] = []

    @property
    def full(self) -> bool:
        return self.tokens >= self.wanted

    def add(self, document: Document) -> None:
        """Tokenise a document and append it, followed by the end-of-text token where it is complete."""
        encoded = self._tokenizer(
            document.text, add_special_tokens=False, return_offsets_mapping=self._count_bytes, verbose=False
        )
        ids = np.asarray(encoded["input_ids"], dtype=np.int32)
        room = self.wanted - self.tokens
        if self._count_bytes:
            end = len(document.text) if len(ids) <= room else encoded["offset_mapping"][room - 1][1]
            self.bytes += len(document.text[:end].encode())
        if document.complete and self._tokenizer.eos_token_id is not None:
            ids = np.append(ids, np.int32(self._tokenizer.eos_token_id))
        self.documents += 1
        self.tokens += min(len(ids), room)
        self._pieces.append(ids[:room])

    def blocks(self, name: str) -> Blocks:
        """What was collected as [blocks, block_length]. Raises InputError where it is less than one block."""
        count = self.tokens // self._length
        if count == 0:
            raise InputError(
                f"The corpus {name} has only {self.tokens} tokens for {self._purpose}, and one block needs "
                f"{self._length}; give more text or lower block_length."
            )
        return np.concatenate(self._pieces)[: count * self._length].reshape(count, self._length)
