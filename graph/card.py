"""The model card of a trial: what the records of its run say of it."""

from graph.context import RunContext
from graph.rungs import fidelity_of
from memory.views import TrialView
from tools.export.card_files import read_card
from tools.export.evaluation_rows import rows_of_measurement
from tools.export.model_card import Ancestor, Figure, ModelCard, Origin, PromptUsed, SearchFacts, TrainingFacts
from tools.export.origin import origin_of, public_name
from tools.export.source_export import evaluated_figures


def card_of_trial(context: RunContext, trial: TrialView) -> ModelCard:
    """Origin, training, search, lineage and figures of `trial`."""
    survey, data = context.survey, context.config.data
    text = f"validation part of {public_name(context.config.corpus)}, blocks of {data.block_length} tokens"
    measurement = trial.measurement
    measured = () if measurement is None else rows_of_measurement(measurement, survey.measurement, text, survey.compute)
    return ModelCard(
        name=f"trial {trial.number}",
        architecture=trial.architecture,
        origin=_origin(context),
        training=_training(context, trial),
        search=_search(context, trial),
        measurement=measurement,
        figures=(*measured, *_evaluated(context, trial)),
    )


def _origin(context: RunContext) -> Origin:
    survey = context.survey
    known = {
        "fingerprint": survey.source_fingerprint,
        "architecture": survey.architecture,
        "measurement": survey.measurement,
    }
    return origin_of(survey.source_path, context.config.source).model_copy(update=known)


def _training(context: RunContext, trial: TrialView) -> TrainingFacts:
    survey, config = context.survey, context.config
    fidelity = fidelity_of(trial) or config.ladder.fidelities[0]
    recipe, steps = config.recipe, config.ladder.steps(fidelity)
    repair = "second-order repair" if recipe.second_order_update else "no repair"
    cuts = "one cut" if recipe.drops == 1 else f"{recipe.drops} cuts on the way"
    measurement = trial.measurement
    return TrainingFacts(
        corpus=public_name(config.corpus),
        corpus_fingerprint=survey.corpus_fingerprint,
        method=(
            f"Pruned while it was trained: {recipe.warmup_steps} steps before and {steps} after the "
            f"cutting began, {cuts}, by {recipe.saliency} saliency with {repair}"
        ),
        tokens=0 if measurement is None else measurement.tokens,
        block_length=config.data.block_length,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        distillation=recipe.distillation,
        precision=survey.precision,
        hardware=survey.compute,
        seed=config.seed,
        seconds=None if measurement is None else measurement.seconds,
    )


def _search(context: RunContext, trial: TrialView) -> SearchFacts:
    trials = {entry.number: entry for entry in context.records.trials(context.run_id)}
    names = {prompt.hash: prompt.name for prompt in context.records.prompts()}
    asked = {call.prompt_hash for call in context.records.calls(context.run_id) if call.prompt_hash}
    asked |= {entry.prompt_hash for entry in trials.values() if entry.prompt_hash}
    return SearchFacts(
        run=context.run_id,
        trial=trial.number,
        trials=len(trials),
        stage=trial.stage,
        outcome=trial.outcome,
        chat_model=context.config.chat_model if asked else None,
        settings_fingerprint=context.config.fingerprint,
        lineage=tuple(_ancestor(trials[number]) for number in sorted(_reached(trial.number, trials))),
        prompts=tuple(
            PromptUsed(name=name, hash=hash) for name, hash in sorted((names.get(one, ""), one) for one in asked)
        ),
        created_at=trial.created_at,
    )


def _reached(number: int, trials: dict[int, TrialView]) -> set[int]:
    """The trial, its parent, the trials that it was based on, and theirs."""
    reached: set[int] = set()
    waiting = [number]
    while waiting:
        current = waiting.pop()
        if current in reached or current not in trials:
            continue
        reached.add(current)
        parent = trials[current].parent_number
        waiting += [*trials[current].based_on, *([] if parent is None else [parent])]
    return reached


def _ancestor(trial: TrialView) -> Ancestor:
    return Ancestor(
        trial=trial.number,
        stage=trial.stage,
        proposer=trial.proposer,
        parent=trial.parent_number,
        based_on=trial.based_on,
        parameters=trial.architecture.parameters,
        loss=trial.loss,
        prompt_hash=trial.prompt_hash,
        rationale=trial.rationale,
    )


def _evaluated(context: RunContext, trial: TrialView) -> tuple[Figure, ...]:
    """Evaluations of the run's own export, where that is this trial's."""
    folder = context.folder.export
    card = read_card(folder)
    if card is None or card.search is None or card.search.trial != trial.number:
        return ()
    return evaluated_figures(folder, context.config.cache)
