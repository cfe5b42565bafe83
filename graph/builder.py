"""The state machine, as it is drawn in docs/architecture.md."""

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph.context import SearchContext
from graph.nodes.check import check
from graph.nodes.decide import decide
from graph.nodes.evaluate import evaluate
from graph.nodes.finish import finish
from graph.nodes.propose import propose
from graph.nodes.remember import remember
from graph.nodes.survey import survey
from graph.routing import after_check, after_decide
from graph.state import EvaluationTask, SearchState

Graph = CompiledStateGraph[SearchState, SearchContext, SearchState, SearchState]


def make_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """survey -> propose -> check (-> propose: repair) -> evaluate, one branch a trial -> remember -> decide -> ..."""
    builder = StateGraph(SearchState, context_schema=SearchContext)
    builder.add_node("survey", survey)
    builder.add_node("propose", propose)
    builder.add_node("check", check)
    builder.add_node("evaluate", evaluate, input_schema=EvaluationTask)
    builder.add_node("remember", remember)
    builder.add_node("decide", decide)
    builder.add_node("finish", finish)
    builder.add_edge(START, "survey")
    builder.add_edge("survey", "propose")
    builder.add_edge("propose", "check")
    builder.add_conditional_edges("check", after_check, ["propose", "evaluate", "decide"])
    builder.add_edge("evaluate", "remember")
    builder.add_edge("remember", "decide")
    builder.add_conditional_edges("decide", after_decide, ["propose", "evaluate", "finish"])
    builder.add_edge("finish", END)
    return builder.compile(checkpointer=checkpointer, name="penjing")


def for_langgraph_tools() -> Graph:
    """The graph without a context, for LangGraph's own tools (see langgraph.json); they bring their checkpointer."""
    return make_graph()
