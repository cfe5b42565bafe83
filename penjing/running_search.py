"""A search on a terminal: its progress while it runs, then what came out; how to go on where it was stopped."""

import contextlib
import json
import sys
from typing import TYPE_CHECKING

from penjing.approve_command import ask_here
from penjing.errors import SearchInterruptedError
from penjing.interruption import Interruption
from penjing.terminal import terminal

if TYPE_CHECKING:
    from graph.session import SearchSession


def drive_search(session: "SearchSession", as_json: bool) -> None:
    """Drive a search with a progress display, then say what came out."""
    from penjing.documents import show_document
    from penjing.progress import SearchProgress

    console = terminal(stderr=True)
    console.print(f"run {session.run_id}", highlight=False)
    already = len([trial for trial in session.trials() if trial.measurement is not None])
    asks = sys.stdin.isatty() and console.is_terminal
    events = session.stream()
    interruption = Interruption()
    try:
        with SearchProgress(console, session.config.trials, already) as progress:
            for event in events:
                interruption.hear(event)
                progress.show(event)
                if asks and event.kind == "approval" and not event.decision:
                    with progress.aside():
                        ask_here(session, event.trial, console)
    except KeyboardInterrupt:
        with contextlib.suppress(KeyboardInterrupt):
            events.close()
        raise SearchInterruptedError(f"penjing resume {session.run_id}") from None
    finally:
        # Before the first trial there is nothing to lose: a new search with better settings is the way on.
        stopped = session.record.status not in ("finished", "running") and session.record.imported_at is None
        if stopped and session.trials():
            console.print(f"To go on: penjing resume {session.run_id}", highlight=False)
    document = show_document(session)
    if as_json:
        print(json.dumps(document))
        return
    from penjing.tables import (
        cache_lines,
        forecast_lines,
        ledger_lines,
        print_next,
        result_table,
        rival_lines,
        verdict,
    )

    out, result = terminal(), document["result"]
    out.print(result_table(result["table"]))
    out.print(verdict(result["table"], session.config.asks_agents), highlight=False)
    lines = [
        *rival_lines(document["not_told_apart"]),
        *ledger_lines(document["ledger"]),
        *forecast_lines(document["forecasts"]),
        *cache_lines(document["cache"]),
    ]
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)
    print_next(out, session.run_id, result)
