"""How long the agents' prompts become when memory is full, against the context of the model that reads them."""

from pydantic import BaseModel, ConfigDict

from agents.model_traits import model_traits
from agents.settings import LOCAL
from graph.agents_estimate import BYTES_PER_TOKEN, full_questions
from graph.at_hand import what_is_known
from graph.config import SearchConfig
from graph.dry_run import shown_designs, space_before
from prompts.library import PromptLibrary
from tools.embedded import EMBEDDED_NAME

# What the prompts of a search were measured to have with common tokenizers at most.
_MOST_BYTES_PER_TOKEN = 3.4


class PromptLength(BaseModel):
    """The longest question that ends with a template, all that is said before it included.

    `tokens` is about how many it has, `fewest_tokens` how few it may have, and `answer_tokens` what its answer may
    take. `context_tokens` is None where nobody knows how much the model takes.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    agent: str
    chat_model: str
    tokens: int
    fewest_tokens: int
    answer_tokens: int
    context_tokens: int | None

    @property
    def fits(self) -> bool:
        """Whether prompt and answer can have room."""
        return self.context_tokens is None or self.fewest_tokens + self.answer_tokens <= self.context_tokens

    def __str__(self) -> str:
        context = "an unknown context" if self.context_tokens is None else f"the {self.context_tokens:,}"
        return (
            f"about {self.tokens:,} tokens and {self.answer_tokens:,} for the answer, of {context} of {self.chat_model}"
        )


async def prompt_lengths(config: SearchConfig, prompts: PromptLibrary) -> list[PromptLength]:
    """The longest question of each template, in the space of `config`; nothing is asked.

    Raises InputError where the search would for want of its source or corpus, PromptError for a template that cannot
    be used.
    """
    known = what_is_known(config)
    space = space_before(config, known)
    asked = await full_questions(config, prompts, space, shown_designs(space, space.designer.greedy()))
    found: dict[str, PromptLength] = {}
    for agent, (plain, repair) in asked.items():
        settings = config.chat_settings()[agent]
        name = EMBEDDED_NAME if settings.chat_model == LOCAL else settings.chat_model.partition(":")[2]
        # The repair ends the conversation of the last question; each answer so far stands in the next one.
        for answers, question in enumerate([*plain, repair]):
            said = sum(len(text.encode()) for _, text in question.messages)
            answered = answers * settings.max_tokens // 2
            length = PromptLength(
                name=question.prompt.name,
                agent=agent,
                chat_model=settings.chat_model,
                tokens=said // BYTES_PER_TOKEN + answered,
                fewest_tokens=round(said / _MOST_BYTES_PER_TOKEN) + answered,
                answer_tokens=settings.max_tokens,
                context_tokens=model_traits(name).context_tokens,
            )
            if length.name not in found or found[length.name].tokens < length.tokens:
                found[length.name] = length
    return list(found.values())
