"""The tools that agents may call in a search: what a draft costs, what is expected of it, and a trial of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from agents.dialects.pruned_lm import sensitivity, trial_row
from agents.proposers import Situation
from graph.context import SearchContext
from graph.evaluation import evaluate_trial
from graph.nodes.check import examiner_of
from graph.screening import TOOL, expectation_in_words, surrogate_of
from graph.state import Stage
from memory.retrieval import sample_best
from memory.tables import Proposal
from memory.views import TrialView
from tools.architecture import Architecture
from tools.costs import file_mb
from tools.spaces import DesignDraft

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

_NEAREST = 3


class NoArguments(BaseModel):
    """Nothing to say."""

    model_config = ConfigDict(extra="forbid")


def agent_tools(context: SearchContext, stage: Stage, situation: Situation, candidate: int) -> "tuple[BaseTool, ...]":
    """The tools of one conversation; none where the settings give the agent no calls, or its model can make none."""
    if stage not in ("self_evolution", "knowledge_distillation"):
        return ()
    agent = "evolver" if stage == "self_evolution" else "distiller"
    parent = situation.parent
    if stage == "knowledge_distillation":
        sizes = (context.config.top_k, context.config.sample_size)
        parent = next(iter(sample_best(situation.trials, *sizes, situation.seed)), None)
    if parent is None or not context.config.calls_of(agent):
        return ()
    return _Workbench(context, situation, parent, f"{agent}_tool", candidate).tools()


@dataclass(frozen=True)
class _Workbench:
    """What the tools of one conversation work on. Layers that a draft does not name are those of `parent`."""

    context: SearchContext
    situation: Situation
    parent: TrialView
    proposer: str
    candidate: int

    def tools(self) -> "tuple[BaseTool, ...]":
        from langchain_core.tools import StructuredTool

        def tool(
            make: Callable[..., Awaitable[str]], description: str, schema: type[BaseModel] = DesignDraft
        ) -> StructuredTool:
            name = make.__name__

            async def traced(**arguments: object) -> str:
                given = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "input.value": arguments}
                with self.context.tracing.span(f"execute_tool {name}", "TOOL", given) as span:
                    result = await make(**arguments)
                    span.say({"output.value": result})
                    return result

            return StructuredTool.from_function(
                coroutine=traced, name=name, description=description, args_schema=schema
            )

        tools = (
            tool(self.architecture_cost, "What a design costs, and what is illegal about it."),
            tool(self.forecast_loss, "What is expected of a design, without training it."),
            tool(self.nearest_designs, "The tried designs nearest to a design, and what came of them."),
            tool(self.sensitivity, "How much the loss depends on attention and FFN, by layers.", NoArguments),
        )
        if self.context.config.approve:
            # Nothing is paid for that the user was not asked about.
            return tools
        return (
            *tools,
            tool(self.train_and_evaluate, "Train and measure a design. This uses up a trial of the search."),
        )

    async def architecture_cost(self, **draft: object) -> str:
        """Parameters, multiplications, key/value cache, file; what is illegal."""
        asked = DesignDraft.model_validate(draft)
        space, design = self.context.space, self._stated(asked)
        problems = space.problems(asked, self.parent.architecture)
        costs = [] if design is None else [_costs(design, self.context)]
        return " ".join([*costs, *(["Not legal:", *problems] if problems else ["It is legal."])])

    async def forecast_loss(self, **draft: object) -> str:
        """Saliency of what is cut, and what the surrogate expects."""
        asked = DesignDraft.model_validate(draft)
        design = self._stated(asked)
        if design is None:
            return self._illegal(asked)
        expected = surrogate_of(self.context).expect(design)
        words = expectation_in_words(expected, self.context.config.objective, self.context.after_first_rung)
        return f"saliency cut {expected.forecast:.3g}; {words or 'too few designs were measured to expect a loss'}."

    async def nearest_designs(self, **draft: object) -> str:
        """Of this run, by the distance of their widths."""
        asked = DesignDraft.model_validate(draft)
        design, space = self._stated(asked), self.context.space
        if design is None:
            return self._illegal(asked)
        here = space.vector(design)
        trials = sorted(
            self.situation.trials,
            key=lambda trial: (float(np.linalg.norm(space.vector(trial.architecture) - here)), trial.number),
        )
        return "\n".join(_told(trial) for trial in trials[:_NEAREST])

    async def sensitivity(self) -> str:
        """Of the source, as the agents' first message has it."""
        return "\n".join(
            f"layers {row['first_layer']}-{row['last_layer']}: attention {row['attention']:.1f}, ffn {row['ffn']:.1f}"
            for row in sensitivity(self.context.space)
        )

    async def train_and_evaluate(self, **draft: object) -> str:
        """A trial like any other: the same checker, evaluator, records and budget."""
        asked, context = DesignDraft.model_validate(draft), self.context
        design = self._stated(asked)
        number = None if design is None else self._begun(design)
        if number is None:
            if (refusal := self._refusal()) is not None:
                return refusal
            finding = examiner_of(context).examine(asked, self.parent.architecture, 0, False, 0)
            if finding.design is None:
                return " ".join(["Not trained:", *finding.problems])
            number = self._begin(asked, finding.design)
        trial = await evaluate_trial(context, number)
        if trial.measurement is None:
            return "Not trained: the budget has no room for it."
        context.index.note([number])
        return _told(trial)

    def _refusal(self) -> str | None:
        """Why no trial may be spent now: those that the turns under way end in are not for tools."""
        context = self.context
        trials = [trial for trial in context.records.trials(context.run_id) if not trial.is_rejected]
        left = context.config.trials - len(trials)
        if left <= context.config.parallel:
            return "Not trained: no trial is left beside those for your own answers."
        refusal = context.spending.refuses_evaluation(context.expected_evaluation())
        return None if refusal is None else f"Not trained: {refusal}."

    def _begun(self, design: Architecture) -> int | None:
        """The trial that an earlier call of this conversation, or a killed process, made of the design."""
        records, place = self.context.records, (TOOL, self.situation.turn, self.candidate)
        own = {
            one.id
            for one in records.proposals(self.context.run_id, place[1:2])
            if (one.stage, one.turn, one.candidate) == place
        }
        trials = records.trials(self.context.run_id)
        return next((one.number for one in trials if one.proposal_id in own and one.architecture == design), None)

    def _begin(self, asked: DesignDraft, design: Architecture) -> int:
        context, turn = self.context, self.situation.turn
        expected = surrogate_of(context).expect(design)
        earlier = [
            one for one in context.records.proposals(context.run_id, [turn]) if (one.stage, one.turn) == (TOOL, turn)
        ]
        proposal = context.records.add_proposal(
            Proposal(
                run_id=context.run_id,
                turn=turn,
                attempt=len(earlier),
                candidate=self.candidate,
                stage=TOOL,
                proposer=self.proposer,
                parent_number=self.parent.number,
                based_on=[self.parent.number],
                parsed=asked.model_dump(mode="json"),
                outcome="valid",
                architecture=design.model_dump(mode="json"),
                forecast=expected.forecast,
                expected_score=expected.score,
                expected_deviation=expected.deviation,
            )
        )
        return context.records.add_trial(proposal.id, design).number

    def _stated(self, asked: DesignDraft) -> Architecture | None:
        return self.context.space.stated(asked, self.parent.architecture)

    def _illegal(self, asked: DesignDraft) -> str:
        return " ".join(["Not legal:", *self.context.space.problems(asked, self.parent.architecture)])


def _costs(design: Architecture, context: SearchContext) -> str:
    file_format = context.config.file_format
    return (
        f"{design.parameters:,} parameters, {design.macs_per_token():,} multiplications per token, "
        f"{design.kv_cache_bytes_per_token():,} bytes of key/value cache per token, "
        f"{file_mb(design, file_format):.1f} MB file ({file_format})."
    )


def _told(trial: TrialView) -> str:
    row = trial_row(trial)
    figures = ", ".join([f"loss {row['loss']}", *row["figures"]])
    return f"trial {row['number']}: {row['design']}; {row['parameters']:,} parameters; {figures}"
