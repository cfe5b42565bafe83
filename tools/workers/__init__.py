"""Where candidates are evaluated: in this process, each in a subprocess, or on the nodes of a Ray cluster."""

from tools.workers.base import WorkerError, Workers
from tools.workers.choice import RaySettings, WorkersChoice, make_workers
from tools.workers.local import LocalWorkers
from tools.workers.processes import ProcessWorkers

__all__ = ["LocalWorkers", "ProcessWorkers", "RaySettings", "WorkerError", "Workers", "WorkersChoice", "make_workers"]
