"""A folder of tiny task files in the shared format, and rows of the same items as the hub has them."""

import json
from pathlib import Path
from typing import Any

ROWS: dict[str, list[dict[str, Any]]] = {
    "arc_easy": [
        {"query": "Which thing gives light?", "choices": ["a lamp", "a stone", "a spoon", "wool"], "gold": 0},
        {"query": "What do plants need?", "choices": ["coins", "water", "paper", "tin"], "gold": 1},
        {"query": "What falls from clouds?", "choices": ["sand", "rope", "rain", "a very long red brick"], "gold": 2},
        {"query": "Which animal flies?", "choices": ["a mole", "a trout", "a cow", "a swift"], "gold": 3},
        {"query": "What is frozen water?", "choices": ["ice", "steam", "oil", "smoke in the evening"], "gold": 0},
    ],
    "piqa": [
        {"query": "Cool a drink.", "choices": ["Put ice in it.", "Put it on the stove."], "gold": 0},
        {"query": "Dry wet hands.", "choices": ["Use more water.", "Use a clean towel and rub."], "gold": 1},
        {"query": "Open a jar.", "choices": ["Turn the lid.", "Turn the table around twice."], "gold": 0},
        {"query": "Sharpen a pencil.", "choices": ["Fold it.", "Use a knife or a sharpener."], "gold": 1},
    ],
    "openbookqa": [
        {"query": "A shadow is made when", "choices": ["light is blocked", "it rains", "birds sing", "ice"], "gold": 0},
        {"query": "Metal is good for", "choices": ["eating", "carrying heat", "sleep", "singing songs"], "gold": 1},
        {"query": "A seed becomes", "choices": ["a stone", "a cloud", "a plant", "a shoe"], "gold": 2},
    ],
    "boolq": [
        {"passage": "The sun is a star.", "question": "is the sun a star?", "choices": ["no", "yes"], "gold": 1},
        {"passage": "Bats are mammals.", "question": "are bats birds?", "choices": ["no", "yes"], "gold": 0},
        {"passage": "Ice floats.", "question": "does ice float?", "choices": ["no", "yes"], "gold": 1},
    ],
    "hellaswag": [
        {"query": "Cooking: A man Cuts", "choices": ["bread.", "the sky.", "time.", "a song of old."], "gold": 0},
        {"query": "Rowing: A boat Moves", "choices": ["up a tree.", "on.", "into a cup.", "by thought."], "gold": 1},
    ],
    "winogrande": [
        {
            "choices": ["The box fits no ball because the box", "The box fits no ball because the ball"],
            "continuation": "is too small.",
            "gold": 0,
        },
        {
            "choices": ["Ann thanked Eve since Ann", "Ann thanked Eve since Eve"],
            "continuation": "had helped.",
            "gold": 1,
        },
    ],
    "siqa": [
        {
            "context": "Kim lost a key.",
            "question": "What will Kim do?",
            "choices": ["sing", "look for it", "sleep"],
            "gold": 1,
        },
    ],
    "mmlu": [
        {"query": "What is 2 + 2?", "choices": ["3", "4", "5", "6"], "gold": 1, "subject": "elementary mathematics"},
        {"query": "Which is a gas?", "choices": ["air", "tin", "salt", "ink"], "gold": 0, "subject": "chemistry"},
    ],
    "copa": [
        {"query": "The glass fell, therefore", "choices": ["it broke.", "it sang."], "gold": 0},
        {"query": "The man was wet because", "choices": ["he read.", "it rained."], "gold": 1},
        {"query": "The lamp went out, therefore", "choices": ["the room was dark.", "he ate."], "gold": 0},
    ],
    "lambada_openai": [
        {"query": "The quick brown fox jumps over the lazy", "target": "dog"},
        {"query": "A cut model and the same model masked give the same", "target": "logits"},
    ],
}

HUB_ROWS: dict[str, list[dict[str, Any]]] = {
    "arc_easy": [
        {
            "question": row["query"],
            "choices": {"text": row["choices"], "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[row["gold"]],
        }
        for row in ROWS["arc_easy"]
    ],
    "piqa": [
        {"goal": row["query"], "sol1": row["choices"][0], "sol2": row["choices"][1], "label": row["gold"]}
        for row in ROWS["piqa"]
    ],
    "openbookqa": [
        {
            "question_stem": row["query"],
            "choices": {"text": row["choices"], "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[row["gold"]],
        }
        for row in ROWS["openbookqa"]
    ],
    "boolq": [
        {"passage": row["passage"], "question": row["question"].removesuffix("?"), "label": row["gold"]}
        for row in ROWS["boolq"]
    ],
    "hellaswag": [
        {
            "activity_label": row["query"].split(": ")[0],
            "ctx_a": row["query"].split(": ")[1].rsplit(" ", 1)[0],
            "ctx_b": row["query"].rsplit(" ", 1)[1].lower(),
            "endings": row["choices"],
            "label": str(row["gold"]),
        }
        for row in ROWS["hellaswag"]
    ],
    "winogrande": [
        {
            "sentence": f"{row['choices'][0].rsplit(' ', 1)[0]} _ {row['continuation']}",
            "option1": row["choices"][0].rsplit(" ", 1)[1],
            "option2": row["choices"][1].rsplit(" ", 1)[1],
            "answer": str(row["gold"] + 1),
        }
        for row in ROWS["winogrande"]
    ],
    "siqa": [
        {
            "context": row["context"],
            "question": row["question"],
            **dict(zip(("answerA", "answerB", "answerC"), row["choices"], strict=True)),
            "label": str(row["gold"] + 1),
        }
        for row in ROWS["siqa"]
    ],
    "mmlu": [{"question": row["query"], "choices": row["choices"], "answer": row["gold"]} for row in ROWS["mmlu"]],
}


def write_tasks(folder: Path, *names: str) -> Path:
    """Write the files of the tasks (all without names), as a folder of task data has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or tuple(ROWS):
        lines = [json.dumps({"id": f"{name}-{index}", **row}) for index, row in enumerate(ROWS[name])]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder
