"""Run as a program: opens the vector store, says which folder it got, and holds it until its input ends."""

import sys
from pathlib import Path

from memory.rebuild import open_vectors
from memory.records import Records

database, shared, private = (Path(argument) for argument in sys.argv[1:])
with Records.open(database) as records, open_vectors(shared, private, records) as store:
    print(store.folder, sum(store.counts().values()), flush=True)
    sys.stdin.read()
