"""`python -m tests.graph.clock_jumps CONFIG.json CLOCK`: a search while the machine's clock is set to and fro.

CLOCK is the file in which libfaketime, which is loaded into this process, finds how far off the clock is. Prints what
the test looks at.
"""

import json
import sys
import time
from datetime import datetime
from pathlib import Path

from graph.config import SearchConfig
from graph.session import SearchSession
from memory.records import Records
from tests.graph.test_replay import story

JUMPS = {"proposal": "-7200", "trial": "+86400", "evaluation": "-259200"}
"""When trial 1 is at this point, the clock is set to so many seconds beside the right time."""


def main() -> None:
    """Jumps at every point of trial 1, a stop, the second half three days earlier, and another run before that."""
    config, clock = SearchConfig.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    started, before, seen = time.monotonic(), datetime.now(), list[str]()
    session = SearchSession.start(config)
    for event in session.stream():
        point = event.kind if event.kind != "progress" else "trial"
        if getattr(event, "trial", None) == 1 and point in JUMPS and point not in seen:
            seen.append(point)
            clock.write_text(JUMPS[point] + "\n")
        if event.kind == "evaluation" and event.trial == 2:
            break
    clock.write_text("-600000\n")
    back_by = (before - datetime.now()).total_seconds()
    resumed = SearchSession.resume(session.run_id, config.home)
    resumed.run()
    clock.write_text("-900000\n")
    later = SearchSession.start(config.model_copy(update={"replay": None}))
    took = time.monotonic() - started
    with Records.open(config.home / "records.sqlite") as records:
        runs, latest = [run.id for run in records.runs()], records.run("latest").id
    traced = [span for root in resumed.trace() for _, span in root.walk()]
    document = {
        "seen": seen,
        "back_by": back_by,
        "story": story(resumed),
        "in_order": [runs, latest] == [[later.run_id, session.run_id], later.run_id],
        "trials": [trial.number for trial in resumed.trials()],
        "roots": [root.name for root in resumed.trace()],
        "spans": [span.name for span in traced],
        "seconds": [span.seconds for span in traced if span.seconds is not None],
        "evaluations": [
            evaluation.measurement["seconds"] for evaluation in resumed._records.evaluations(resumed.run_id)
        ],
        "calls": [call.seconds for call in resumed.calls()],
        "wall_clock": resumed.record.wall_clock_seconds,
        "took": took,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
