"""The graph that LangGraph's own tools are pointed to."""

import importlib
import json
from pathlib import Path


def test_langgraph_json_names_the_search() -> None:
    document = json.loads((Path(__file__).parents[2] / "langgraph.json").read_text())
    file, _, factory = document["graphs"]["penjing"].partition(":")
    module = importlib.import_module(file.removeprefix("./").removesuffix(".py").replace("/", "."))
    graph = getattr(module, factory)()
    nodes = {"survey", "propose", "check", "evaluate", "remember", "decide", "finish"}
    assert nodes <= set(graph.get_graph().nodes)
