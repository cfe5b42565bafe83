"""Run as a program: writes trials into records and vectors until it is stopped, and says each one that it then finds.

A trial is said once both have it and the nearest design to it, among those of its run, is itself.
"""

import sys
from pathlib import Path

from conftest import finish, make_design

from memory.rebuild import index_trials, open_vectors
from memory.records import Records
from memory.tables import Run

database, shared, private = (Path(argument) for argument in sys.argv[1:4])
run_id, count, lines = sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
with Records.open(database) as records, open_vectors(shared, private, records) as store:
    records.create_run(Run(id=run_id, source_architecture=make_design().model_dump(mode="json")))
    print(store.folder, flush=True)
    for turn in range(count):
        design = make_design(ffn=(16, turn + 1))
        rationale = [f"{run_id} says {turn} for the {line}th time" for line in range(lines)]
        view = finish(records, run_id, turn, design, 1.0 + turn, rationale=rationale)
        index_trials(records, store, run_id, [view.number])
        (found,) = store.nearest(design, make_design(), 1, {"run_id": run_id})
        if found.id != view.name:
            raise SystemExit(f"{view.name} was written, {found.id} was found")
        print(view.name, flush=True)
