"""The far end of a subprocess worker: `python -m tools.worker_process`.

Reads one request as a JSON line from stdin, writes progress and one result as JSON lines to stdout, and dies with its
parent: stdin stays open as a lifeline, its end is the end of this process. At SIGTERM it writes down how far it is.
"""

import json
import signal
import sys
from typing import Any

from tools.lifeline import EXIT_CODE, die_with_parent
from tools.stopping import Stop, WorkStoppedError
from tools.workers.serving import serve


def main() -> None:
    """Serve one request."""
    # What libraries print must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(kind: str, payload: Any) -> None:
        answers.write(json.dumps({kind: payload}) + "\n")
        answers.flush()

    line = sys.stdin.buffer.readline()
    if not line:
        # Nobody waits for it any more.
        return
    document = json.loads(line)
    die_with_parent(sys.stdin.buffer)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.heed)
    # A terminal sends Ctrl-C to all processes of a search: what becomes of the work is for its parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(document, say, stop)
    except WorkStoppedError:
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()
