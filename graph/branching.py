"""A branch: another run that goes on from where a run stood after a trial, under other prompts or settings."""

import asyncio
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from langchain_core.runnables import RunnableConfig

from graph.artifacts import find_survey, keep_or_fetch_prompts
from graph.builder import make_graph
from graph.checkpoints import open_checkpoints
from graph.config import SearchConfig
from graph.folder import Home
from memory.records import Records
from memory.tables import Run
from tools.errors import InputError
from tools.fidelity import FidelitySettings
from tools.settings import GoalSettings

MEASURING = {
    "source",
    "corpus",
    "data",
    "recipe",
    "space",
    "seed",
    *GoalSettings.model_fields,
    *FidelitySettings.model_fields,
}
"""Settings by which the trials so far were measured or allowed: a branch keeps them."""


def branch_run(records: Records, run: Run, at: int, config: SearchConfig) -> str:
    """Record a branch of `run` that stands where it stood after trial `at`, with `config`; its id.

    Raises:
        InputError: the run has no such trial, or does not stand after it, or `config` measures otherwise.
    """
    before = SearchConfig.model_validate({**run.config, "home": config.home})
    _require_same_measure(before, config)
    trial = records.trial(run.id, at)
    state = _in_a_thread(_state_after, before, run.id, at)
    if trial.measurement is None or state is None:
        raise InputError(
            f"Run {run.id} never went on from trial {at}, so there is nothing to branch from; "
            f"`penjing show {run.id}` lists its trials."
        )
    branch = Run(
        id=f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        name=config.name or f"branch of {run.id} at {at}",
        status="interrupted",
        config=config.model_dump(mode="json"),
        fingerprint=f"{config.fingerprint}@{run.fingerprint}/{at}",
        source=run.source,
        corpus=run.corpus,
        source_architecture=run.source_architecture,
        branch_of=run.id,
        branch_at=at,
        first_turn=state["turn"],
    )
    if not find_survey(before, run.id):
        raise InputError(f"Run {run.id} has no survey here; `penjing resume {run.id}` goes on.")
    old, new = Home(config.home).run(run.id), Home(config.home).run(branch.id)
    keep_or_fetch_prompts(before, run.id)
    new.path.mkdir(parents=True)
    shutil.copyfile(old.survey, new.survey)
    if old.guidance.is_file():
        shutil.copyfile(old.guidance, new.guidance)
    if old.prompts.is_dir():
        shutil.copytree(old.prompts, new.prompts)
    _in_a_thread(_begin, config, branch.id, state)
    records.begin_branch(branch)
    return branch.id


def _require_same_measure(old: SearchConfig, new: SearchConfig) -> None:
    before, after = old.deciding(), new.deciding()
    changed = sorted(name for name in MEASURING & after.keys() if before.get(name) != after.get(name))
    if changed:
        raise InputError(
            f"A branch keeps what its trials were measured by: {', '.join(changed)} cannot change; start a new search."
        )


async def _state_after(config: SearchConfig, run_id: str, at: int) -> dict[str, Any] | None:
    """The state as `remember` first left it with trial `at` evaluated."""
    found = None
    async with open_checkpoints(Home(config.home).run(run_id), config.checkpoints) as checkpoints:
        graph = make_graph(checkpoints)
        # Newest first.
        async for snapshot in graph.aget_state_history(_thread(run_id)):
            if snapshot.next == ("decide",) and at in snapshot.values.get("evaluated", []):
                found = dict(snapshot.values)
    return found


async def _begin(config: SearchConfig, run_id: str, state: dict[str, Any]) -> None:
    async with open_checkpoints(Home(config.home).run(run_id), config.checkpoints) as checkpoints:
        graph = make_graph(checkpoints)
        # Why the old run ended, if it did, need not end this one: `decide` looks anew.
        values: Any = {**state, "stop": "", "reached": ""}
        await graph.aupdate_state(_thread(run_id), values, as_node="remember")


def _thread(run_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": run_id}}


def _in_a_thread(work: Any, *arguments: Any) -> Any:
    # A notebook's thread has a loop that runs already.
    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(lambda: asyncio.run(work(*arguments))).result()
