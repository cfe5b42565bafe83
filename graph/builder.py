"""The state machine, as it is drawn in docs/architecture.md; each node in a span of its own."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from graph.context import SearchContext
from graph.nodes.approve import approve
from graph.nodes.check import check
from graph.nodes.decide import decide
from graph.nodes.evaluate import evaluate
from graph.nodes.finish import finish
from graph.nodes.propose import propose
from graph.nodes.remember import remember
from graph.nodes.survey import survey
from graph.routing import after_approve, after_check, after_decide
from graph.state import SearchState

Node = TypeVar("Node", bound=Callable[..., Awaitable[SearchState]])
Graph = CompiledStateGraph[SearchState, SearchContext, SearchState, SearchState]


def make_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """survey -> propose -> check -> approve (-> propose: repair) -> evaluate -> remember -> decide -> propose -> ..."""
    builder = StateGraph(SearchState, context_schema=SearchContext)
    builder.add_node("survey", _traced(survey))
    builder.add_node("propose", _traced(propose))
    builder.add_node("check", _traced(check))
    builder.add_node("approve", _traced(approve))
    builder.add_node("evaluate", _traced(evaluate))
    builder.add_node("remember", _traced(remember))
    builder.add_node("decide", _traced(decide))
    builder.add_node("finish", _traced(finish))
    builder.add_edge(START, "survey")
    builder.add_edge("survey", "propose")
    builder.add_edge("propose", "check")
    builder.add_conditional_edges("check", after_check, ["propose", "approve", "decide"])
    builder.add_conditional_edges("approve", after_approve, ["propose", "evaluate", "decide"])
    builder.add_edge("evaluate", "remember")
    builder.add_edge("remember", "decide")
    builder.add_conditional_edges("decide", after_decide, ["propose", "approve", "evaluate", "finish"])
    builder.add_edge("finish", END)
    return builder.compile(checkpointer=checkpointer, name="penjing")


def for_langgraph_tools() -> Graph:
    """The graph without a context, for LangGraph's own tools (see langgraph.json); they bring their checkpointer."""
    return make_graph()


def _traced(node: Node) -> Node:
    name = node.__name__

    @wraps(node)
    async def run(state: Any, runtime: Runtime[SearchContext]) -> SearchState:
        with runtime.context.tracing.span(name, "CHAIN"):
            try:
                return await node(state, runtime)
            except GraphInterrupt as error:
                # A wait is no failure of the span.
                pause = error
        raise pause

    return cast(Node, run)
