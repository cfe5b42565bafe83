"""Settings of the chat models that the agents speak to: one for all, and what single agents do otherwise."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

LOCAL = "local"


class ChatSettings(BaseModel):
    """Which chat model answers, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chat_model: str = Field(
        LOCAL,
        description="local: the embedded model; openai:NAME: any OpenAI-compatible endpoint (OPENAI_API_KEY, "
        "OPENAI_BASE_URL); PROVIDER:NAME: any LangChain provider whose package is installed",
    )
    temperature: float = Field(0.7, ge=0, le=2, description="sampling temperature, where the model takes one")
    max_tokens: int = Field(512, ge=1, description="longest answer, in tokens")
    timeout_seconds: float = Field(120.0, gt=0, description="longest wait for one attempt")
    max_retries: int = Field(
        6,
        ge=0,
        description="further attempts after 429, 5xx, timeouts and cut connections, each after as long as "
        "Retry-After says, or 0.5 s, doubled up to 8 s",
    )
    outage_seconds: float = Field(
        900.0,
        ge=0,
        description="how long a search waits for an endpoint that fails all these attempts, and asks again after "
        "pauses of 10 s, doubled up to 60 s (shorter ones with less); then it stops and can be resumed",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the sampling, where the model takes one")

    @field_validator("chat_model")
    @classmethod
    def _names_a_provider(cls, value: str) -> str:
        return provider_and_name(value)


class AgentSettings(BaseModel):
    """What one agent does otherwise; null: as all agents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chat_model: str | None = Field(None, description="this agent's chat model; null: the common one")
    temperature: float | None = Field(None, ge=0, le=2, description="this agent's temperature; null: the common one")
    max_tokens: int | None = Field(None, ge=1, description="this agent's longest answer; null: the common one")

    @field_validator("chat_model")
    @classmethod
    def _names_a_provider(cls, value: str | None) -> str | None:
        return None if value is None else provider_and_name(value)

    def over(self, common: ChatSettings) -> ChatSettings:
        """The common settings with this agent's own."""
        own: dict[str, Any] = self.model_dump(exclude_none=True)
        return common.model_copy(update=own)


class AgentsSettings(BaseModel):
    """The agents by name, each with what it does otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    evolver: AgentSettings = AgentSettings()
    distiller: AgentSettings = AgentSettings()


def provider_and_name(value: str) -> str:
    """A value of chat_model as it is. Raises ValueError where it is none."""
    provider, _, name = value.partition(":")
    if value != LOCAL and not (provider and name):
        raise ValueError(f"chat_model is {LOCAL!r} or PROVIDER:NAME; did you mean {'openai:' + value.strip(':')!r}?")
    return value
