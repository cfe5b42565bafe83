"""Run as a program: writes finished trials into records until it is stopped, and says each one that it has written."""

import sys

from conftest import finish, make_design

from memory.records import Records
from memory.tables import Run

database, run_id, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Records.open(database) as records:
    if run_id not in {run.id for run in records.runs()}:
        records.create_run(Run(id=run_id))
    for turn in range(count):
        view = finish(records, run_id, turn, make_design(ffn=(16, turn + 1)), 1.0 + turn)
        print(view.evaluation_key, flush=True)
