"""`python -m tests.graph.dying CONFIG.json SEED`: a search whose process is killed again and again until it is done.

Each life goes on from what the last one left, lets one node of the graph finish and dies by SIGKILL at the next:
before it, in the middle of it, or when its work is done but nobody was told. Prints the run and its kills by place.
Lives are forks of this process, which has everything imported and nothing opened. What a life was told of, each result
of a trial with the row that it has then, stays in CONFIG.told, one line of JSON each.
"""

import json
import os
import random
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from langgraph.runtime import Runtime

import graph.builder as builder
import tools.one_shot
import tools.survey
import tools.trial  # noqa: F401 - imported once for all lives
from graph.config import SearchConfig
from graph.context import SearchContext
from graph.session import SearchSession
from graph.state import SearchState

PLACES = ("before", "middle", "after")
LONGEST_SECONDS = 0.5
"""How far into a node "middle" reaches; a node that is quicker dies with the next."""
MOST_LIVES = 1000


def die() -> None:
    """As kill -9 does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(place: str, delay: float) -> Callable[[Any], Any]:
    """A wrapper of nodes, of which the second that is entered is the last."""
    entered = 0

    def wrap(node: Callable[..., Awaitable[SearchState]]) -> Callable[..., Awaitable[SearchState]]:
        @wraps(node)
        async def run(state: Any, runtime: Runtime[SearchContext]) -> SearchState:
            nonlocal entered
            entered += 1
            if (entered == 2 and place == "before") or entered > 2:
                die()
            if entered == 2 and place == "middle":
                timer = threading.Timer(delay, die)
                timer.daemon = True
                timer.start()
            update = await node(state, runtime)
            if entered == 2 and place == "after":
                die()
            return update

        return run

    return wrap


def live(config: SearchConfig, run_file: Path, place: str, delay: float) -> None:
    """One life, from the last one's end."""
    traced, wrap = builder._traced, dying(place, delay)
    builder._traced = lambda node: traced(wrap(node))
    if run_file.is_file():
        session = SearchSession.resume(run_file.read_text(), config.home)
    else:
        session = SearchSession.start(config)
        run_file.write_text(session.run_id)
    told = os.open(run_file.with_suffix(".told"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for event in session.stream():
        if event.kind == "evaluation":
            key = session.trial(event.trial).evaluation_key
            line = json.dumps({"trial": event.trial, "key": key, "loss": event.loss})
            os.write(told, f"{line}\n".encode())


def main() -> None:
    """Lives until one ends by itself."""
    torch.set_num_threads(1)
    config = SearchConfig.model_validate_json(Path(sys.argv[1]).read_text())
    chance, run_file, kills = random.Random(int(sys.argv[2])), Path(sys.argv[1]).with_suffix(".run"), Counter[str]()
    for life in range(MOST_LIVES):
        place, delay = PLACES[life % len(PLACES)], chance.uniform(0, LONGEST_SECONDS)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                live(config, run_file, place, delay)
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            print(json.dumps({"run": run_file.read_text(), "kills": kills}))
            return
        if code != -signal.SIGKILL:
            sys.exit(f"life {life} ended by itself, with code {code}")
        kills[place] += 1
    sys.exit(f"not finished after {MOST_LIVES} lives")


if __name__ == "__main__":
    main()
