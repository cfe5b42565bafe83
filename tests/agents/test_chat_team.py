"""Chat models for each agent: own settings over the common ones, each model checked once."""

import pytest
from pydantic import BaseModel, ValidationError

from agents.chat_errors import ChatModelError
from agents.chat_team import open_chat_team
from agents.settings import AgentSettings, AgentsSettings, ChatSettings
from tests.fake_openai import FakeOpenAI


class Word(BaseModel):
    """A word."""

    word: str


COMMON = ChatSettings(chat_model="openai:small", temperature=0.7, max_tokens=100, max_retries=0)


def test_an_agent_says_only_what_it_does_otherwise() -> None:
    own = AgentSettings(chat_model="openai:large", temperature=0.0)
    assert own.over(COMMON) == COMMON.model_copy(update={"chat_model": "openai:large", "temperature": 0.0})
    assert AgentSettings().over(COMMON) == COMMON


def test_each_agent_asks_its_own_model(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"evolver": AgentSettings(chat_model="openai:large", max_tokens=300).over(COMMON), "distiller": COMMON}
    with FakeOpenAI(models=("small", "large")) as server:
        server.set_environment(monkeypatch)
        with open_chat_team(settings) as team:
            team.check()
            answers = [team.model(agent).ask([("user", "Say.")], Word) for agent in ("evolver", "distiller")]
    assert [answer.model for answer in answers] == ["large", "small"]
    sent = [(request.body["model"], request.body["max_completion_tokens"]) for request in server.requests]
    assert sent == [("large", 300), ("small", 100)]


def test_every_model_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"evolver": COMMON, "distiller": AgentSettings(chat_model="openai:none").over(COMMON)}
    with FakeOpenAI(models=("small",)) as server:
        server.set_environment(monkeypatch)
        with open_chat_team(settings) as team, pytest.raises(ChatModelError, match="does not know the model none"):
            team.check()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="PROVIDER:NAME"):
        AgentsSettings.model_validate({"evolver": {"chat_model": "gpt-5-mini"}})
    with pytest.raises(ValidationError, match="extra"):
        AgentsSettings.model_validate({"evolvr": {}})
