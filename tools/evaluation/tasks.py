"""The zero-shot tasks: their names, what chance gives, and how rows of a local file become prompts.

A task is either taken from the hub in EleutherAI's own definition (`harness_name`), or its rows come from a local file
and `prompt` completes a task configuration of lm-eval. Where the public task is meant, both ask in the same words.
"""

import difflib
from dataclasses import dataclass, field
from typing import Any

from tools.errors import InputError

SEVEN_TASKS = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "winogrande")
"""The tasks whose average EfficientLLM reports (arXiv 2502.06663, Table 2); MMLU stands beside them there."""

_ACC = ("acc",)
_ACC_AND_NORM = ("acc", "acc_norm")
_OPEN_CHOICE: dict[str, Any] = {"doc_to_target": "gold", "doc_to_choice": "choices"}
_PARTIAL: dict[str, Any] = {"doc_to_text": "gold", "doc_to_choice": "choices", "doc_to_target": "continuation"}
_QUESTION: dict[str, Any] = {"doc_to_text": "Question: {{query}}\nAnswer:", **_OPEN_CHOICE}
_QUERY: dict[str, Any] = {"doc_to_text": "query", **_OPEN_CHOICE}
_SOCIAL: dict[str, Any] = {"doc_to_text": "Q: {{context}} {{question}}\nA:", **_OPEN_CHOICE}


@dataclass(frozen=True)
class ZeroShotTask:
    """One task.

    `metrics` are lm-eval's names; `acc_norm` divides log-likelihoods by the characters of the choice. `chance` is the
    accuracy of guessing, as a share. lm-eval defines the task as `harness_name`, in `harness_folder` of its own.
    `fields` are what a row of a local file must have. `official` is False for tasks that only share the name or the
    idea of a public one; `note` says how they differ.
    """

    name: str
    chance: float
    metrics: tuple[str, ...]
    prompt: dict[str, Any] = field(repr=False)
    fields: tuple[str, ...] = ("query", "choices", "gold")
    harness_name: str | None = None
    harness_folder: str = ""
    official: bool = True
    note: str = ""


_TASKS = (
    ZeroShotTask("arc_easy", 0.25, _ACC_AND_NORM, _QUESTION, harness_name="arc_easy", harness_folder="arc"),
    ZeroShotTask("arc_challenge", 0.25, _ACC_AND_NORM, _QUESTION, harness_name="arc_challenge", harness_folder="arc"),
    ZeroShotTask(
        "boolq",
        0.5,
        _ACC,
        {"doc_to_text": "{{passage}}\nQuestion: {{question}}\nAnswer:", **_OPEN_CHOICE},
        fields=("passage", "question", "choices", "gold"),
        harness_name="boolq",
        harness_folder="super_glue/boolq",
    ),
    ZeroShotTask("hellaswag", 0.25, _ACC_AND_NORM, _QUERY, harness_name="hellaswag", harness_folder="hellaswag"),
    ZeroShotTask("openbookqa", 0.25, _ACC_AND_NORM, _QUERY, harness_name="openbookqa", harness_folder="openbookqa"),
    ZeroShotTask("piqa", 0.5, _ACC_AND_NORM, _QUESTION, harness_name="piqa", harness_folder="piqa"),
    ZeroShotTask(
        "siqa",
        1 / 3,
        _ACC,
        _SOCIAL,
        fields=("context", "question", "choices", "gold"),
        harness_name="social_iqa",
        harness_folder="siqa",
    ),
    ZeroShotTask(
        "winogrande",
        0.5,
        _ACC,
        _PARTIAL,
        fields=("choices", "continuation", "gold"),
        harness_name="winogrande",
        harness_folder="winogrande",
    ),
    ZeroShotTask(
        "mmlu",
        0.25,
        _ACC,
        {
            "description": "The following are multiple choice questions (with answers) about {{subject}}.\n\n",
            "doc_to_text": "{{query.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
            "D. {{choices[3]}}\nAnswer:",
            "doc_to_target": "gold",
            "doc_to_choice": ["A", "B", "C", "D"],
        },
        fields=("query", "choices", "gold", "subject"),
        harness_name="mmlu",
        harness_folder="mmlu/default",
    ),
    ZeroShotTask(
        "siqa_2way",
        0.5,
        _ACC_AND_NORM,
        _SOCIAL,
        fields=("context", "question", "choices", "gold"),
        official=False,
        note="two of Social IQa's three choices",
    ),
    ZeroShotTask(
        "commonsense_qa_4way",
        0.25,
        _ACC_AND_NORM,
        _QUESTION,
        official=False,
        note="four of CommonsenseQA's five choices, scored by their words and not by letters",
    ),
    ZeroShotTask(
        "copa",
        0.5,
        _ACC,
        _QUERY,
        official=False,
        note="COPA's validation items as the file words them, no public prompt",
    ),
    ZeroShotTask(
        "winograd_wsc273",
        0.5,
        _ACC,
        _PARTIAL,
        fields=("choices", "continuation", "gold"),
        official=False,
        note="Winograd schemas as the file fills them in, scored by their shared ending",
    ),
    ZeroShotTask(
        "lambada_openai",
        0.0,
        _ACC,
        {"output_type": "loglikelihood", "doc_to_text": "query", "doc_to_target": "{{' ' + target}}"},
        fields=("query", "target"),
        official=False,
        note="last word of a passage as the file splits it, right where the greedy answer is exactly it",
    ),
)

TASKS: dict[str, ZeroShotTask] = {task.name: task for task in _TASKS}


def task_named(name: str) -> ZeroShotTask:
    """The task of that name, also by lm-eval's own name. Raises InputError with the nearest names."""
    for task in _TASKS:
        if name in (task.name, task.harness_name):
            return task
    near = difflib.get_close_matches(name.lower(), TASKS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"the tasks are: {', '.join(TASKS)}."
    raise InputError(f"There is no task {name!r}; {hint}")
