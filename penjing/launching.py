"""Ranks on one or several nodes: the torchrun command of each node, and the part of this one started.

Rank 0 writes to this terminal as a single process does. What the other ranks of a node write goes to files, which are
kept where a rank fails.
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from penjing.errors import FAILED
from tools.errors import InputError
from tools.lifeline import die_with_holder, lifeline

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

PEER_LOST = 75
"""Exit code of a rank that ended, without a word, since another one had."""
DEFAULT_PORT = 29400
_KILLED_BY_LAUNCHER = -15
_NOTES, _BAD_INPUT_FILE, _LIFELINE = "RANKS_OF_PENJING", "bad_input", "lifeline"


@dataclass(frozen=True)
class Launch:
    """`nodes` times `ranks_per_node` ranks of `penjing pretrain` with `arguments`; this is node `node_rank`."""

    nodes: int
    ranks_per_node: int
    node_rank: int
    endpoint: str | None
    """HOST:PORT at which node 0 is found by the others."""
    arguments: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises InputError where the parts do not go together."""
        if self.node_rank >= self.nodes:
            raise InputError(
                f"--node-rank {self.node_rank} does not go with --nnodes {self.nodes}: nodes count from 0."
            )
        if self.nodes > 1 and self.endpoint is None:
            raise InputError(
                "Several nodes need --rdzv-endpoint HOST:PORT: an address of node 0, and a free port there."
            )
        host, _, port = (self.endpoint or f"h:{DEFAULT_PORT}").partition(":")
        if not host or not (port or str(DEFAULT_PORT)).isdigit():
            raise InputError(f"--rdzv-endpoint {self.endpoint!r} must be HOST:PORT.")

    def command(self, node: int) -> list[str]:
        """The words of the command for one node."""
        words = ["torchrun", "--nnodes", str(self.nodes), "--nproc-per-node", str(self.ranks_per_node)]
        if self.endpoint is None:
            words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--local-addr", "127.0.0.1"]
        else:
            endpoint = self.endpoint if ":" in self.endpoint else f"{self.endpoint}:{DEFAULT_PORT}"
            words += ["--rdzv-backend", "static", "--rdzv-endpoint", endpoint, "--node-rank", str(node)]
        return [*words, "-m", "penjing.main", "pretrain", *self.arguments]

    def lines(self) -> list[str]:
        """The command of each node, to be pasted into a shell."""
        return [f"node {node}: {shlex.join(self.command(node))}" for node in range(self.nodes)]


def ranks_here() -> int:
    """One for each GPU of this machine, else one."""
    import torch

    return max(1, torch.cuda.device_count())


def start(launch: Launch) -> None:
    """Run this node's ranks to their end.

    Raises InputError for bad input of the ranks, and where the other nodes do not come, and typer.Exit, after one
    sentence, where a rank failed otherwise.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // launch.ranks_per_node)))
    _hush()
    options = parse_args(launch.command(launch.node_rank)[1:])  # type: ignore[no-untyped-call]
    config, entrypoint, arguments = config_from_args(options)
    logs = Path(tempfile.mkdtemp(prefix="penjing-ranks-"))
    os.environ[_NOTES] = str(logs)
    others: Any = dict.fromkeys(range(1, launch.ranks_per_node), Std.ALL)
    config.logs_specs = DefaultLogsSpecs(log_dir=str(logs), redirects=others or Std.NONE)
    try:
        with lifeline(logs / _LIFELINE):
            elastic_launch(config=config, entrypoint=entrypoint)(*arguments)
    except ChildFailedError as error:
        if (logs / _BAD_INPUT_FILE).is_file():
            raise InputError((logs / _BAD_INPUT_FILE).read_text()) from error
        on = "the same command on every node goes" if launch.nodes > 1 else "the same command goes"
        typer.echo(
            f"penjing: {_what_happened(error)}, and all ranks were stopped; {on} on from the last checkpoint.", err=True
        )
        typer.echo(f"What the ranks wrote is in {logs}.", err=True)
        raise typer.Exit(FAILED) from error
    except SignalException as error:
        typer.echo("penjing: Interrupted; the same command goes on from the last checkpoint.", err=True)
        raise typer.Exit(128 + int(error.sigval)) from error
    except (RendezvousError, TimeoutError, ConnectionError) as error:
        raise InputError(
            f"The {launch.nodes} nodes did not find each other at {launch.endpoint} ({' '.join(str(error).split())}): "
            "start the command of every node, and see that node 0 can be reached there."
        ) from error
    finally:
        del os.environ[_NOTES]
    shutil.rmtree(logs, ignore_errors=True)


def end_with_launcher() -> None:
    """In a rank: end at once when the launcher has ended, also where it was killed; elsewhere nothing."""
    notes = os.environ.get(_NOTES)
    if notes is not None:
        die_with_holder(Path(notes) / _LIFELINE)


def note_bad_input(sentence: str) -> bool:
    """In a rank: leave the sentence for the launcher, which says it once for all; False where there is none."""
    notes = os.environ.get(_NOTES)
    if notes is None:
        return False
    beside = Path(notes) / f"{_BAD_INPUT_FILE}.{os.getpid()}"
    beside.write_text(sentence)
    beside.replace(Path(notes) / _BAD_INPUT_FILE)
    return True


def _what_happened(error: "ChildFailedError") -> str:
    rank, failure = first_cause(error.failures.items())
    if failure.exitcode == PEER_LOST:
        return "A rank of another node ended"
    if failure.exitcode < 0:
        return f"Rank {rank} was killed by signal {-failure.exitcode}"
    return f"Rank {rank} failed with code {failure.exitcode}"


def first_cause(failures: "Iterable[tuple[int, ProcessFailure]]") -> "tuple[int, ProcessFailure]":
    """The failure that the others came of: rather a signal or an error of its own than the loss of a peer."""

    def order(item: "tuple[int, ProcessFailure]") -> tuple[int, float]:
        code = item[1].exitcode
        consequence = 2 if code == PEER_LOST else 1 if code in (_KILLED_BY_LAUNCHER, 143, 130) else 0
        return consequence, item[1].timestamp

    return min(failures, key=order)


def _hush() -> None:
    # What torchrun would say of a rank that failed is said in one sentence here.
    import logging

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)


def given_options(context: typer.Context, without: Iterable[str]) -> list[str]:
    """The options of the command that is running as they were typed, but for these."""
    words: list[str] = []
    for option in context.command.params:
        name, source = option.name, context.get_parameter_source(option.name or "")
        if name is None or name in without or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                words += [option.opts[0], str(one)]
    return words
