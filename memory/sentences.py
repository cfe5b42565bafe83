"""Telling a sentence from babble: small language models write numbers and names in a row where they are to reason."""

import re

FEWEST_WORDS = 4
_WORD = re.compile(r"[^\W\d_]{2,}")
_LEAST_SHARE_OF_LETTERS = 0.6


def is_sentence(text: str) -> bool:
    """Whether a text has four different words, and letters for the most part.

    That is little: it says nothing of whether the words mean something. A lesson that is no sentence teaches nothing,
    and chat models repeat what they are shown.
    """
    words = {word.lower() for word in _WORD.findall(text)}
    marks = [mark for mark in text if not mark.isspace()]
    letters = sum(mark.isalpha() for mark in marks)
    return len(words) >= FEWEST_WORDS and letters >= _LEAST_SHARE_OF_LETTERS * len(marks)
