"""The chat models of several agents: each agent has its own settings, all local ones share one server."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from agents.chat_models import ChatModel, open_chat_model, open_local_server
from agents.settings import LOCAL, ChatSettings


class ChatTeam:
    """Which agent speaks to which chat model; made by `open_chat_team`, closed by `close` or a `with` block."""

    def __init__(self, models: Mapping[str, ChatModel], resources: ExitStack) -> None:
        self._models, self._resources = models, resources

    def model(self, agent: str) -> ChatModel:
        """The chat model of an agent."""
        return self._models[agent]

    def check(self) -> None:
        """Sees whether each of the models can be asked. Raises ChatModelError, see `ChatModel.check`."""
        for model in {model.settings.chat_model: model for model in self._models.values()}.values():
            model.check()

    def close(self) -> None:
        """Stops the local server where there is one."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_chat_team(settings: Mapping[str, ChatSettings], *, log_dir: Path | None = None) -> ChatTeam:
    """The chat models that the agents' settings name. Nothing is started or called before a first `ask` or `check`.

    Args:
        settings: by agent.
        log_dir: where the local server writes its log; a temporary file when left out.

    Raises:
        ChatModelError, InputError: as `open_chat_model` does.
    """
    with ExitStack() as stack:
        server = None
        if any(own.chat_model == LOCAL for own in settings.values()):
            server = stack.enter_context(open_local_server(log_dir))
        models = {agent: open_chat_model(own, server=server) for agent, own in settings.items()}
        return ChatTeam(models, stack.pop_all())
