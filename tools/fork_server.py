"""The process from which workers are forked: `python -m tools.fork_server SOCKET`.

It imports what every worker needs, once, and then only waits: for files to fork a worker with, whose standard input and
output is the first of them and whose errors go to the second, and for workers that end. Of both it sends word on the
socket whose number it is given. It ends when nobody holds the other end of that.

Nothing here may compute: threads of a computation do not come along through a fork.
"""

import gc
import json
import os
import select
import signal
import socket
import sys

from tools.imports import uncollected


def main() -> None:
    """Serve until the parent is gone; in each fork, its one request."""
    # What becomes of the work is for the parent to say, whoever gets the signals of a terminal or a scheduler.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with uncollected():
        import tools.survey
        import tools.trial  # noqa: F401
    # What is there stays for good, and is shared by all forks as long as nobody writes to it.
    gc.freeze()
    if _fork_on_request(socket.socket(fileno=int(sys.argv[1]))):
        from tools.worker_process import main as work

        work()


def _fork_on_request(parent: socket.socket) -> bool:
    """Returns True in every fork, and False here in the end."""
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        ready, _, _ = select.select([parent, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _tell_who_ended(parent)
        if parent in ready:
            words, files, _, _ = socket.recv_fds(parent, 16, 2)
            if not words:
                return False
            process = os.fork()
            if process == 0:
                signal.set_wakeup_fd(-1)
                for mine in (parent, woken, wakes):
                    mine.close()
                _become_worker(*files)
                return True
            for file in files:
                os.close(file)
            _say(parent, {"forked": process})


def _become_worker(channel: int, errors: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for file, number in ((channel, 0), (channel, 1), (errors, 2)):
        os.dup2(file, number)
    os.close(channel)
    os.close(errors)


def _tell_who_ended(parent: socket.socket) -> None:
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            return
        _say(parent, {"ended": process, "code": os.waitstatus_to_exitcode(status)})


def _say(parent: socket.socket, words: dict[str, int]) -> None:
    try:
        parent.send(json.dumps(words).encode())
    except (BrokenPipeError, ConnectionResetError):
        # The next word of a parent that is gone is its end.
        return


if __name__ == "__main__":
    main()
