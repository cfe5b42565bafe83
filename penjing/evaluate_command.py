"""The command `penjing evaluate`: what one model knows, how well it predicts text, what it costs to run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penjing.errors import reported_errors

if TYPE_CHECKING:
    from tools.evaluate import EvaluateRequest, EvaluateResult

TasksOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Zero-shot tasks, with commas between; see --list. Default: the seven of EfficientLLM's average, or none "
        "where --perplexity or --edge stands alone.",
    ),
]
TaskDataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        envvar="PENJING_TASK_DATA",
        help="Folder of local task files like piqa.jsonl.gz; without it tasks come from the hub.",
    ),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the first items of each task.")]
PerplexityOption = Annotated[
    bool, typer.Option("--perplexity", help="Also take the perplexity, in the field's three conventions.")
]
EdgeOption = Annotated[
    bool, typer.Option("--edge", help="Also measure files, speed and memory on this machine, by torch and llama.cpp.")
]
TextOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Text for the perplexity; default: WikiText-2 raw test.")
]
LimitTokensOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Only the beginning of the text, like 20k tokens.")
]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model. Read it first.")
]
PrecisionOption = Annotated[str, typer.Option(help="auto, bfloat16 or float32.")]
BatchSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Sequences at once; default: as many as fit the memory.")
]


def evaluate(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Directory, GGUF file, hub name or embedded name.")
    ] = None,
    tasks: TasksOption = None,
    task_data: TaskDataOption = None,
    limit: LimitOption = None,
    perplexity: PerplexityOption = False,
    text: TextOption = None,
    limit_tokens: LimitTokensOption = None,
    edge: EdgeOption = False,
    dense: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Show the same figures of this model beside, like the source's.")
    ] = None,
    trust_remote_code: TrustOption = False,
    precision: PrecisionOption = "auto",
    batch_size: BatchSizeOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write evaluation.json into this folder.")
    ] = None,
    list_tasks: Annotated[bool, typer.Option("--list", help="List the tasks and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Evaluate any causal language model, ours or not; what is finished is kept and never paid for twice.

    [bold]Examples[/bold]: penjing evaluate my-model; penjing evaluate my-model --perplexity --limit-tokens 20k
    --dense smollm2-135m; penjing evaluate my-model --tasks piqa,copa --task-data benchmarks --limit 200
    """
    with reported_errors(as_json, debug):
        from tools.errors import InputError

        if list_tasks:
            _list_tasks(as_json)
            return
        if model is None:
            raise InputError("There is no model: name its directory or hub name, like penjing evaluate my-model.")
        request = request_of(
            model,
            tasks=tasks,
            task_data=task_data,
            limit=limit,
            perplexity=perplexity,
            text=text,
            limit_tokens=limit_tokens,
            edge=edge,
            trust_remote_code=trust_remote_code,
            precision=precision,
            batch_size=batch_size,
        ).model_copy(update={"dense": dense, "output": None if output is None else output.expanduser().absolute()})
        result = run(request)
        if as_json:
            print(result.model_dump_json())
        else:
            from penjing.evaluation_tables import print_evaluation

            print_evaluation(result)


def request_of(
    model: str,
    *,
    tasks: str | None,
    task_data: Path | None,
    limit: int | None,
    perplexity: bool,
    text: Path | None,
    limit_tokens: str | None,
    edge: bool,
    trust_remote_code: bool,
    precision: str,
    batch_size: int | None,
) -> "EvaluateRequest":
    """The request that the options stand for. Raises InputError for a size that is none."""
    from penjing.options import count_of
    from tools.evaluate import EvaluateRequest
    from tools.evaluation.results import CONVENTIONS

    named = None if tasks is None else tuple(name.strip() for name in tasks.split(",") if name.strip())
    return EvaluateRequest.model_validate(
        {
            "model": model,
            "tasks": () if named is None and (perplexity or edge) else named,
            "task_data": None if task_data is None else task_data.expanduser().absolute(),
            "limit": limit,
            "perplexity": CONVENTIONS if perplexity else (),
            "text": None if text is None else text.expanduser(),
            "limit_tokens": None if limit_tokens is None else count_of(limit_tokens, "--limit-tokens"),
            "edge": edge,
            "trust_remote_code": trust_remote_code,
            "precision": precision,
            "batch_size": batch_size,
        }
    )


def run(request: "EvaluateRequest") -> "EvaluateResult":
    """Evaluate with a bar for each phase."""
    from penjing.phases import shown_phases
    from tools.evaluate import evaluate as run_evaluation

    with shown_phases() as show:
        return run_evaluation(request, show)


def _list_tasks(as_json: bool) -> None:
    from tools.evaluation.tasks import SEVEN_TASKS, TASKS

    if as_json:
        rows = [
            {
                "task": task.name,
                "metrics": list(task.metrics),
                "chance": task.chance,
                "on_hub": task.harness_name is not None,
                "in_average": task.name in SEVEN_TASKS,
                "note": task.note,
            }
            for task in TASKS.values()
        ]
        print(json.dumps({"tasks": rows}))
        return
    width = max(map(len, TASKS))
    for task in TASKS.values():
        place = f"hub or local file, lm-eval's {task.harness_name}" if task.harness_name else "local file only"
        average = ", one of the seven" if task.name in SEVEN_TASKS else ""
        note = f"; {task.note}" if task.note else ""
        print(f"{task.name:{width}}  {', '.join(task.metrics)}; {place}{average}{note}")
