"""Runs, trials and results as tables for people."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from memory.objectives import Objective, figure
from memory.views import TrialView, ordinal
from tools.evaluation.paired import ERRORS
from tools.fidelity import fidelity_in_words

_DIGITS: dict[Objective, int] = {
    "parameters": 0,
    "loss": 4,
    "accuracy": 3,
    "latency_ms": 2,
    "memory_mb": 1,
    "file_mb": 1,
}
_RIVALS = 5
_STAGES = {"greedy": "greedy", "self_evolution": "evolution", "knowledge_distillation": "distillation"}


def result_table(rows: list[dict[str, Any]]) -> Table:
    """The final table of a search."""
    table = _table("Result")
    table.add_column("model")
    scored = any(row.get("accuracy") is not None for row in rows)
    for name in ("parameters", "loss", "perplexity", *(["accuracy"] if scored else []), "ms/token"):
        table.add_column(name, justify="right")
    for row in rows:
        name = row["name"] if row["trial"] is None else f"{row['name']}, trial {row['trial']}"
        name = f"{name} {row.get('measured_after') or ''}".rstrip()
        over = " over" if row.get("over_limit") else ""
        accuracy = [_number(row["accuracy"], 3)] if scored else []
        figures = (_number(row["loss"], 4), _number(row["perplexity"], 2), *accuracy)
        figures = (*figures, _number(row["latency_ms"], 1) + over)
        table.add_row(name, f"{row['parameters']:,}", *figures)
    return table


def trial_table(trials: list[TrialView]) -> Table:
    """One line for each trial."""
    table = _table("Trials")
    for name in ("trial", "stage", "proposal", "from"):
        table.add_column(name)
    scored = any(trial.accuracy is not None for trial in trials)
    # Once the surrogate knew enough: what it expected, in the unit of the figure that decides.
    expected = any(trial.expected_score is not None for trial in trials)
    figures = ("size", "forecast", *(["expected"] if expected else []), "cut loss", "loss")
    climbed = any(trial.ladder for trial in trials)
    for name in (*figures, *(["accuracy"] if scored else []), "ms"):
        table.add_column(name, justify="right")
    if climbed:
        table.add_column("measured after")
    for trial in trials:
        found = trial.measurement
        loss = _number(trial.loss, 4) if found is None or found.failure is None else found.failure.kind
        by_user = " by you" if trial.is_rejected else ""
        table.add_row(
            str(trial.number),
            _STAGES.get(trial.stage, trial.stage),
            trial.outcome + by_user + (", cached" if trial.cached else ""),
            "-" if trial.parent_number is None else str(trial.parent_number),
            f"{trial.architecture.parameters / 1e6:.1f}M",
            "-" if trial.forecast is None else f"{trial.forecast:.2g}",
            *([_expected(trial)] if expected else []),
            _number(found.loss_before_training if found else None, 4),
            loss,
            *([_number(trial.accuracy, 3)] if scored else []),
            _number(found.latency_ms if found else None, 1) + (" over" if trial.over_limit else ""),
            *([fidelity_in_words(trial.fidelity) if trial.fidelity else "-"] if climbed else []),
        )
    return table


def rung_table(trials: list[TrialView]) -> Table:
    """One line for each promotion, the highest rung first; losses of one rung compare."""
    table = _table("Promotions")
    for name in ("to", "trial", "place below"):
        table.add_column(name)
    table.add_column("loss", justify="right")
    table.add_column("before", justify="right")
    climbs = [(rung, trial) for trial in trials for rung in trial.rungs[1:]]
    for rung, trial in sorted(climbs, key=lambda climb: (-climb[0].rung, climb[1].number)):
        found = rung.measurement
        words = "not yet" if found is None else found.failure.kind if found.failure else _number(found.loss, 4)
        below = trial.rungs[rung.rung - 1].measurement
        place = f"{ordinal(rung.rank or 0)} of {rung.rivals}"
        before = _number(None if below is None else below.loss, 4)
        table.add_row(fidelity_in_words(rung.fidelity), str(trial.number), place, words, before)
    return table


def front_table(trials: list[TrialView], objectives: Sequence[Objective]) -> Table:
    """The Pareto front, one line for each trial on it."""
    table = _table("Pareto front")
    table.add_column("trial")
    for name in objectives:
        table.add_column(name, justify="right")
    for trial in trials:
        figures = [_number(figure(trial, name), _DIGITS[name]) for name in objectives]
        table.add_row(str(trial.number), *figures)
    return table


def run_table(runs: list[dict[str, Any]]) -> Table:
    """One line for each run."""
    table = Table(box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("run", min_width=20)
    for name in ("name", "status", "source", "corpus"):
        table.add_column(name)
    for name in ("trials", "best size", "best loss"):
        table.add_column(name, justify="right")
    for run in runs:
        status = f"{run['status']}, imported" if run["imported"] else run["status"]
        words = [run["run"], run["name"], status_words({**run, "status": status}), run["source"], run["corpus"]]
        trials = str(run["trials"]) if run["trials_wanted"] is None else f"{run['trials']} of {run['trials_wanted']}"
        size = "-" if run["best_parameters"] is None else f"{run['best_parameters'] / 1e6:.1f}M"
        table.add_row(*words, trials, size, _number(run["best_loss"], 4))
    return table


def status_words(run: dict[str, Any]) -> str:
    """How a run stands, and which trials wait for their user."""
    numbers = run["waiting"]
    if not numbers:
        return str(run["status"])
    return f"{run['status']}, waits for you: trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def ledger_lines(ledger: dict[str, Any]) -> list[str]:
    """What became of the agents' answers, as lines of text; nothing of them where no language model was asked."""
    why = "more was expected of another design of the turn"
    screened = [f"legal designs that were not paid for: {ledger['screened']} ({why})"] if ledger["screened"] else []
    if not ledger["calls"]:
        return screened

    def counted(*names: str) -> str:
        shares = {name: f" ({ledger['rates'][name]:.0%})" if ledger[name] else "" for name in names}
        return ", ".join(f"{ledger[name]} {name}{shares[name]}" for name in names)

    lines = [
        f"agents' answers: {ledger['raw']} raw, {counted('parsed', 'illegal', 'duplicate')}",
        f"agents' turns: {ledger['turns']}; {counted('valid', 'repaired', 'projected', 'rejected')}",
    ]
    if ledger["edited"] or ledger["rejected_by_user"]:
        by_user = f"rejected {ledger['rejected_by_user']}, edited {ledger['edited']}"
        lines.append(f"designs that you stopped before they were paid for: {by_user}")
    if ledger["faults"]:
        faults = ", ".join(f"{count} {kind}" for kind, count in ledger["faults"].items())
        lines.append(f"faults in {ledger['calls']} calls of the chat model: {faults}")
    if ledger["tool_calls"]:
        lines.append(f"calls of tools by the agents: {ledger['tool_calls']}")
    if ledger["judged"]:
        lines.append(f"turns that a judge took over: {ledger['judged']}")
    return [*lines, *screened]


def retrieved_lines(retrieved: Sequence[dict[str, Any]], run: str) -> list[str]:
    """What memory had put into the prompt of a trial, by kind, on one line; trials of `run` by their numbers alone."""
    kinds: dict[str, list[str]] = {}
    for row in retrieved:
        kinds.setdefault(row["kind"], []).append(str(row["id"]).removeprefix(f"{run}/"))
    words = [f"{kind} {', '.join(ids)}" for kind, ids in kinds.items()]
    return [f"  memory gave: {'; '.join(words)}"] if words else []


def pattern_lines(patterns: Sequence[dict[str, Any]], run: str) -> list[str]:
    """What agents named as patterns, what is tested of each, how it stands; trials of `run` by their numbers alone."""
    lines, untestable = [], 0
    for one in patterns:
        if one["claim"] is None:
            untestable += 1
            continue
        evidence = ", ".join(name.removeprefix(f"{run}/") for name in one["drawn_from"])
        counts = f"later trials: {one['support']} for it, {one['contradiction']} against"
        lines.append(f'"{one["text"]}"')
        lines.append(f"  {one['state']}: {one['claim']}; {counts}; drawn from trials {evidence}")
    if untestable:
        lines.append(f"not testable: {untestable}, whose words name no widths and direction")
    return ["Patterns", *lines] if lines else []


def forecast_lines(forecasts: dict[str, Any]) -> list[str]:
    """How well designs were ranked before they were paid for, on one line; none where too few were measured."""
    known = [
        f"{name} {found['rank_correlation']:.2f} ({found['trials']} trials)"
        for name, found in forecasts.items()
        if found["rank_correlation"] is not None
    ]
    return [f"forecasts' rank correlation with what was measured: {', '.join(known)}"] if known else []


def rival_lines(rivals: list[dict[str, Any]]) -> list[str]:
    """The trials that the validation text does not tell apart from the best, on one line; none where it tells all."""
    if not rivals:
        return []
    shown = [
        f"{one['trial']} ({one['difference']:+.4f}, standard error {one['error']:.4f})" for one in rivals[:_RIVALS]
    ]
    more = f" and {len(rivals) - _RIVALS} more" if len(rivals) > _RIVALS else ""
    word = "trial" if len(rivals) == 1 else "trials"
    return [f"not told apart from the best by the validation text: {word} {', '.join(shown)}{more}"]


def cache_lines(cached: dict[str, Any]) -> list[str]:
    """What was not paid for again, on one line; none where everything was new."""
    if not cached["hits"]:
        return []
    trials = "1 trial" if cached["hits"] == 1 else f"{cached['hits']} trials"
    return [f"from cache, not paid for again: {trials}, {cached['seconds_saved']:,.0f} s saved"]


def budget_table(budget: dict[str, Any]) -> Table:
    """What is spent of each part of the budget."""
    table = _table("Budget")
    shared = bool(budget["trials"]["shared"])
    for name in ("", "spent", "cap", *(["shared"] if shared else [])):
        table.add_column(name, justify="right" if name else "left")
    rows = (("trials", 0), ("llm_tokens", 0), ("usd", 4), ("evaluation_seconds", 1), ("wall_clock_seconds", 1))
    for name, digits in rows:
        spent, cap = budget[name]["spent"], budget[name]["cap"]
        calls = f"unknown for {budget['unpriced_calls']} calls"
        table.add_row(
            name.replace("llm", "LLM").replace("usd", "USD").replace("_", " "),
            calls if spent is None else _number(spent, digits),
            "-" if cap is None else f"{cap:,.10g}",
            *([_number(budget[name]["shared"], digits)] if shared else []),
        )
    return table


def verdict(rows: list[dict[str, Any]], agents: bool = True) -> str:
    """Whether the search beat the baseline inside it, in one sentence; `agents`: whether any turn was theirs."""
    named = {row["name"]: row for row in rows}
    greedy, best = named.get("saliency-greedy design"), named["best of the search"]
    if greedy is None or greedy["loss"] is None:
        return "The saliency-greedy design could not be grown, so there is no baseline."
    if greedy.get("over_limit"):
        return f"The saliency-greedy design is over the limit ({greedy['over_limit']}), so there is no baseline."
    if best["trial"] == greedy["trial"]:
        whose = "The agents'" if agents else "The judge's"
        return f"{whose} designs did not beat the saliency-greedy design."
    if greedy.get("measured_after") != best.get("measured_after"):
        return (
            f"The best was measured {best['measured_after']}; the saliency-greedy design did not come so far, and its "
            f"loss {greedy['measured_after']} does not compare."
        )
    foreign = agents and best.get("stage") == "judge"
    author = " It is no design of the agents: a judge made it." if foreign else ""
    loss = f"loss {best['loss'] - greedy['loss']:+.4f}"
    if best.get("accuracy") is not None and greedy.get("accuracy") is not None:
        errors = [row["accuracy_stderr"] for row in (best, greedy) if row["accuracy_stderr"] is not None]
        margin = f" (standard errors {' and '.join(f'{error:.3f}' for error in errors)})" if len(errors) == 2 else ""
        accuracy = f"accuracy {best['accuracy'] - greedy['accuracy']:+.3f}{margin}"
        return f"Best against saliency-greedy design: {accuracy}, {loss} (one seed, same tokens).{author}"
    error = best.get("difference_error")
    if error is None:
        return f"Best against saliency-greedy design: {loss} (one seed, same tokens).{author}"
    told = ""
    if abs(best["loss"] - greedy["loss"]) < ERRORS * error:
        told = " The validation text does not tell them apart: more of it would (data.validation_tokens)."
    loss = f"{loss}, standard error {error:.4f}"
    return f"Best against saliency-greedy design: {loss} (one seed, same tokens).{told}{author}"


def print_next(console: Console, run: str, result: dict[str, Any]) -> None:
    """Where the model is, how large its file is, and the commands to type next."""
    export, size = result["export"], result["exported_parameters"]
    design = next(row["parameters"] for row in result["table"] if row["name"] == "best of the search")
    padding = f" ({size:,} parameters with padding; gguf keeps {design:,})" if size != design else ""
    console.print(f"\nExported model: {export}{padding}", highlight=False, soft_wrap=True)
    if (reached := result.get("budget_reached")) is not None:
        console.print("The budget ended the search. To go on with more:", highlight=False)
        console.print(f"  penjing resume {run} --set budget.{reached}=MORE", highlight=False)
    console.print("Type next:", highlight=False)
    console.print(f"  penjing show {run}", highlight=False)
    console.print(f"  penjing export {run} my-model", highlight=False)
    console.print(f"  penjing export {run} my-model --format gguf", highlight=False)
    load = f"from transformers import pipeline; print(pipeline('text-generation', '{export}')('Once upon'))"
    console.print(f'  .venv/bin/python -c "{load}"', highlight=False, soft_wrap=True, markup=False)


def _table(title: str) -> Table:
    """A table that fits 80 columns."""
    return Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)


def _expected(trial: TrialView) -> str:
    if trial.expected_score is None:
        return "-"
    loss = trial.goal.objective == "loss"
    return _number(trial.expected_score if loss else -trial.expected_score, 4 if loss else 3)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
