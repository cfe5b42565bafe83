"""Finding the processes in which trials are grown."""

import psutil


def workers_at_work() -> list[psutil.Process]:
    """Processes in which this one has trials grown, however they were started."""
    children = [child for child in psutil.Process().children(recursive=True) if child.is_running()]
    servers = {child.pid for child in children if "tools.fork_server" in child.cmdline()}
    forked = [child for child in children if child.ppid() in servers]
    return [*forked, *(child for child in children if "tools.worker_process" in child.cmdline())]
