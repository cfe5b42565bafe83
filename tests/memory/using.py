"""Run as a program: opens a vector store, asks it and writes to it."""

import sys
from pathlib import Path

from memory.vectors import VectorStore

with VectorStore(Path(sys.argv[1])) as store:
    store.lessons("lesson 7", 3)
    store.add_lessons([(f"run-b/{index}/0", f"lesson {index}", {}) for index in range(900, 1200)])
