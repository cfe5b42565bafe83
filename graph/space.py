"""The search space of a run: from its settings and its source to the band of sizes and the limits."""

from graph.config import SearchConfig
from tools.architecture import Architecture
from tools.costs import limits_in_words
from tools.errors import InputError
from tools.pruning.greedy import SaliencyDesigner
from tools.pruning.saliency import Saliency
from tools.settings import GoalSettings, SpaceSettings
from tools.spaces import PrunedLMSpace


def make_space(config: SearchConfig, source: Architecture, saliency: Saliency) -> PrunedLMSpace:
    """The designs that `config` allows inside `source`.

    Raises InputError where nothing would be cut, where no legal design keeps the limits, or where `min_parameters`
    is above the saliency-greedy design that does.
    """
    goal = config.goal_settings()
    limited = goal.max_file_mb is not None or goal.max_memory_mb is not None
    # A file or a memory is a size too: a share of the source's parameters beside it would be a second, unasked limit.
    largest = config.max_parameters or (source.parameters - 1 if limited else round(0.85 * source.parameters))
    settings = SpaceSettings(**config.space.model_dump(), **goal.model_dump(), max_parameters=largest)
    if limited:
        smallest = _smallest_within(config, source, saliency, settings)
    else:
        smallest = config.min_parameters if config.min_parameters is not None else round(_share(goal) * largest)
    settings = settings.model_copy(update={"min_parameters": min(smallest, largest)})
    space = PrunedLMSpace(source, saliency, settings)
    if limited and config.max_parameters is None and not space.excesses(source):
        limits = " ".join(limits_in_words(source, goal))
        raise InputError(f"The source itself keeps every limit, so that nothing would be cut; lower one: {limits}")
    return space


def _smallest_within(config: SearchConfig, source: Architecture, saliency: Saliency, settings: SpaceSettings) -> int:
    """The smallest allowed size where file or memory is limited."""
    greedy = SaliencyDesigner(source, saliency, settings).greedy().parameters
    if config.min_parameters is None:
        return round(_share(settings) * greedy)
    if config.min_parameters > greedy:
        raise InputError(
            f"The saliency-greedy design within the limits has {greedy:,} parameters, less than min_parameters "
            f"{config.min_parameters:,}: lower min_parameters or raise the limits."
        )
    return config.min_parameters


def _share(goal: GoalSettings) -> float:
    """The smallest design that is worth a trial, as a share of the largest or of the saliency-greedy one."""
    if goal.max_latency_ms is not None:
        return 0.5
    if goal.max_file_mb is None and goal.max_memory_mb is None:
        return 0.97
    # Rows that do not fit a quantised type take up to 1.9 times its bits, and a cache of many heads leaves less to the
    # weights: designs of one file size or one memory differ so much in parameters.
    return 0.9 if goal.file_format in ("f32", "bf16", "f16") else 0.5
