"""Running the state machine to its end, from the start or from its last checkpoint."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from agents.cassette import Cassette
from agents.chat_team import open_chat_team
from agents.prices import Price, PriceTable, unpriced
from agents.proposers import JUDGES
from graph.approval import wait_for_decisions
from graph.artifacts import keep_or_fetch_prompts
from graph.builder import make_graph
from graph.checkpoint_file import set_aside_if_damaged
from graph.checkpoints import open_checkpoints
from graph.config import SearchConfig
from graph.context import SearchContext, workers_of
from graph.events import AnyEvent, StageEvent
from graph.folder import Home
from graph.mlflow_log import logged
from graph.nodes.evaluate import start as start_evaluations
from graph.nodes.survey import take_survey
from graph.spending import Spending
from graph.state import SearchState
from graph.tracing import Tracing
from memory.embedding_server import text_embedding_of
from memory.rebuild import open_vectors
from memory.records import Records
from prompts.library import PromptLibrary
from tools.survey_folder import beginning_is_whole
from tools.workers import Workers

if TYPE_CHECKING:
    from graph.builder import Graph

_BEAT_SECONDS = 5.0
_SPAN_SECONDS = 0.3
_MOST_STEPS = 1_000_000
_INTERRUPT = "__interrupt__"
"""What LangGraph names the update in which a node waits."""


async def drive(
    run_id: str,
    config: SearchConfig,
    records: Records,
    emit: Callable[[AnyEvent], None],
    workers: Workers | None = None,
) -> None:
    """Open what the run needs, run the graph, close everything again, also when cancelled.

    Args:
        workers: those of a program of its own, in place of the ones that the settings name; left open.

    Raises InputError for bad input; the run can then be resumed once it is mended.
    """
    async with AsyncExitStack() as stack:
        emit = stack.enter_context(logged(run_id, config, emit))
        context = await _open(run_id, config, records, emit, stack, workers)
        if config.checkpoints is None and (words := await set_aside_if_damaged(context.folder.checkpoints)):
            emit(StageEvent(run=run_id, stage="checkpoints", message=words))
        checkpoints = open_checkpoints(context.folder, config.checkpoints)
        graph = make_graph(await stack.enter_async_context(checkpoints))
        thread: RunnableConfig = {"configurable": {"thread_id": run_id}, "recursion_limit": _MOST_STEPS}
        snapshot = await graph.aget_state(thread)
        if snapshot.values and not (context.folder.survey.is_file() and beginning_is_whole(context.survey)):
            # The cache was cleared or damaged while the run was stopped, or this is another machine.
            await take_survey(context, context.spending.seconds_left())
            context.__dict__.pop("survey", None)
        stack.push_async_callback(context.under_way.stop)
        start = None if snapshot.values or snapshot.next else SearchState()
        if snapshot.values.get("reached") and snapshot.next in ((), ("finish",)):
            # A cap had ended it: whether it still does is decided anew.
            ended: SearchState = {"stop": "", "reached": ""}
            await graph.aupdate_state(thread, ended, as_node="remember")
        attributes = {"session.id": run_id, "penjing.source": config.source, "penjing.corpus": config.corpus}
        with context.tracing.span("search", "CHAIN", attributes):
            # What a killed process had under way goes on at once, and not when the graph comes to it.
            start_evaluations(context, snapshot.values.get("running", []))
            await _run(graph, start, thread, context)


async def _run(
    graph: "Graph", start: "SearchState | Command[Any] | None", thread: RunnableConfig, context: SearchContext
) -> None:
    # durability="sync": a finished step is on disk before the next begins.
    paused = True
    while paused:
        paused = False
        stream = graph.astream(start, thread, context=context, stream_mode="updates", durability="sync")
        async for update in stream:
            paused |= _INTERRUPT in update
        if paused:
            await wait_for_decisions(context)
            start = Command(resume=True)


async def _open(
    run_id: str,
    config: SearchConfig,
    records: Records,
    emit: Callable[[AnyEvent], None],
    stack: AsyncExitStack,
    workers: Workers | None,
) -> SearchContext:
    home = Home(config.home)
    folder = home.run(run_id)
    if workers is None:
        workers = workers_of(config, folder)
        stack.callback(workers.close)
        # While all else is opened.
        workers.prepare()
    spending = Spending(run_id, records, config.budget, prices_of(config))
    # So that a killed process takes at most a few seconds with it, and others see what this one is at.
    await stack.enter_async_context(_every(_BEAT_SECONDS, spending.keep))
    await stack.enter_async_context(_every(_SPAN_SECONDS, records.write_spans))
    # A place that cannot be used is told of before anything is paid for.
    await asyncio.to_thread(keep_or_fetch_prompts, config, run_id)
    prompts = PromptLibrary(config.prompt_dir, above=folder.prompts)
    require_judge(config)
    cassette = _open_cassette(run_id, config)
    if cassette is not None:
        stack.callback(cassette.close)
    chat = None
    if config.asks_agents and config.replay is None:
        chat = stack.enter_context(open_chat_team(config.chat_settings(), log_dir=folder.logs))
    embedding = text_embedding_of(config.text_embedding, config.embedding_url)

    def told(what: str, done: int, total: int) -> None:
        # Sentences, not how far the work is.
        if done == total == 0:
            emit(StageEvent(run=run_id, stage="memory", message=what))

    vectors = open_vectors(home.vectors, folder.private_vectors, records, config.vectors, embedding, told)
    stack.callback(vectors.close)
    # From here on the search does without lessons rather than end.
    vectors.on_trouble = lambda words: emit(StageEvent(run=run_id, stage="memory", message=f"without lessons: {words}"))
    tracing = Tracing.into(records, run_id)
    stack.callback(tracing.close)
    context = SearchContext(
        run_id=run_id,
        config=config,
        records=records,
        vectors=vectors,
        workers=workers,
        prompts=prompts,
        chat=chat,
        spending=spending,
        cassette=cassette,
        emit=emit,
        tracing=tracing,
    )
    # Before the store is closed.
    stack.callback(context.index.write)
    if chat is not None:
        await asyncio.to_thread(chat.check)
    return context


def _open_cassette(run_id: str, config: SearchConfig) -> Cassette | None:
    """Where the run is recorded, or what it is replayed from, if either."""
    if config.replay is not None:
        return Cassette.replay(config.replay, run_id, config.deciding())
    return None if config.record is None else Cassette.record(config.record, run_id, config.deciding())


def prices_of(config: SearchConfig) -> dict[str, Price | None]:
    """The price of each agent's chat model. Raises InputError where there is none and money is limited."""
    table, prices = PriceTable.load(config.prices), dict[str, Price | None]()
    for agent, settings in config.chat_settings().items():
        prices[agent] = table.price(settings.chat_model)
        if prices[agent] is None and config.budget.usd is not None and config.asks_agents:
            raise unpriced(settings.chat_model)
    return prices


def require_judge(config: SearchConfig) -> None:
    """Raises InputError where the judge has turns of its own and cannot take them."""
    if config.trials > 1 and config.llm_share < 1:
        JUDGES[config.judge]().prepare()


@asynccontextmanager
async def _every(seconds: float, work: Callable[[], None]) -> AsyncIterator[None]:
    """Does `work` time and again, and at the end."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(seconds)
            work()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        work()
