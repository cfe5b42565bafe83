"""What a run keeps for other machines at the address in its setting `artifacts`, and fetches where it is missing."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from graph.config import SearchConfig
from graph.context import RunContext
from graph.events import StageEvent
from graph.folder import Home
from graph.kept_prompts import agree_on_prompts, name_of_prompts
from tools.addresses import with_password
from tools.artifacts import Artifacts
from tools.errors import InputError
from tools.requests import Survey
from tools.sources import resolve_source
from tools.trial_folder import MODEL_FOLDER, has_weights

VARIABLE = "PENJING_ARTIFACTS"
"""A run's record has the address without a password; this has the whole of it."""


def address_of(setting: str | None) -> str | None:
    """The address with the password that the environment has for it, if any."""
    return None if setting is None else with_password(setting, VARIABLE)


def open_artifacts(setting: str | None) -> Artifacts | None:
    """The place, or None where nothing is kept elsewhere. Raises InputError where it cannot be used."""
    address = address_of(setting)
    return None if address is None else Artifacts.open(address)


def name_of_weights(evaluation_key: str) -> str:
    """Of the weights of an evaluation among the artifacts."""
    return f"evaluations/{_folder_of(evaluation_key)}/{MODEL_FOLDER}"


def _folder_of(evaluation_key: str) -> str:
    # A result that is one trial's alone has the folder of its design.
    return evaluation_key.partition("/")[0]


async def keep_weights(context: RunContext, needed: list[str], spare: list[str], required: bool = False) -> None:
    """Copy the weights of the evaluations that are needed, where they are here, and take the others away.

    What the user wrote for the agents meanwhile goes with them. A place that fails is told of and tried again after
    the next trial, or, where it is `required`, an InputError.
    """

    address = address_of(context.config.artifacts)
    if address is None:
        return

    def keep() -> None:
        artifacts = Artifacts.open(address)
        agree_on_prompts(artifacts, context.folder)
        there = artifacts.names("evaluations")
        for key in needed:
            folder = context.home.evaluation(_folder_of(key))
            if has_weights(folder):
                artifacts.keep(folder / MODEL_FOLDER, name_of_weights(key))
        for key in spare:
            if _folder_of(key) in there:
                artifacts.remove(name_of_weights(key))

    try:
        await asyncio.to_thread(keep)
    except InputError as error:
        if required:
            raise
        context.emit(StageEvent(run=context.run_id, stage="artifacts", message=str(error)))


def keep_or_fetch_prompts(config: SearchConfig, run_id: str) -> None:
    """Have the run's own templates and guidance as they were written last, wherever that was.

    Raises InputError where the place cannot be used.
    """
    artifacts = open_artifacts(config.artifacts)
    if artifacts is not None:
        agree_on_prompts(artifacts, Home(config.home).run(run_id))


async def fetch_weights(context: RunContext, folder: Path) -> None:
    """Have the weights of the evaluation with this folder here, where they are kept elsewhere."""

    def fetch() -> None:
        artifacts = open_artifacts(context.config.artifacts)
        if artifacts is not None:
            artifacts.fetch(name_of_weights(folder.name), folder / MODEL_FOLDER)

    await asyncio.to_thread(fetch)


async def keep_export(context: RunContext) -> None:
    """Copy the exported model, and say which survey it is from; a branch has its own from another run."""

    def keep() -> None:
        artifacts = open_artifacts(context.config.artifacts)
        if artifacts is not None:
            artifacts.keep(context.folder.export, f"runs/{context.run_id}/{context.folder.export.name}", renew=True)
            keep_survey(context, context.survey)

    await asyncio.to_thread(keep)


def keep_survey(context: RunContext, survey: Survey) -> None:
    """Write down for other machines which survey the run has.

    Raises InputError where it began with another one, so that its trials were measured otherwise.
    """
    artifacts = open_artifacts(context.config.artifacts)
    if artifacts is None:
        return
    text = artifacts.read(_name_of_survey(context.run_id))
    if text is not None and (before := Survey.model_validate_json(text)).key != survey.key:
        raise InputError(
            f"Run {context.run_id} was begun with other numbers ({before.compute}) than this machine gets "
            f"({survey.compute}), or its source or corpus has changed: resume it where it was begun."
        )
    artifacts.write(_name_of_survey(context.run_id), survey.model_dump_json(indent=1))


def find_survey(config: SearchConfig, run_id: str) -> bool:
    """Whether the run's survey is known here, with its source; what another machine wrote down is fetched.

    Its files and the corpus are not: growing needs them, exporting kept weights does not.
    """
    folder = Home(config.home).run(run_id)
    if folder.survey.is_file():
        return True
    artifacts = open_artifacts(config.artifacts)
    text = None if artifacts is None else artifacts.read(_name_of_survey(run_id))
    if text is None:
        return False
    found = Survey.model_validate_json(text)
    source = resolve_source(config.source, report=lambda *_: None, cache=config.cache / "sources")
    if source.fingerprint != found.source_fingerprint:
        raise InputError(
            f"{config.source} is another model here than the one that run {run_id} began with: export it where it was "
            "begun."
        )
    places = {"source_path": source.path, "folder": config.cache / "surveys" / found.key}
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.survey.write_text(found.model_copy(update=places).model_dump_json(indent=1))
    return True


def forget_artifacts(setting: str | None, run_id: str, evaluations: Iterable[str]) -> None:
    """Take away what is kept of a run and of these evaluations. Raises InputError where the place cannot be used."""
    artifacts = open_artifacts(setting)
    if artifacts is None:
        return
    for key in evaluations:
        artifacts.remove(name_of_weights(key))
    artifacts.remove(f"runs/{run_id}/best_model")
    artifacts.remove(name_of_prompts(run_id))
    artifacts.remove(f"runs/{run_id}")


def _name_of_survey(run_id: str) -> str:
    return f"runs/{run_id}/survey.json"
