"""What calls of chat models cost: a table in a file, and the user's own over it. A model without a row has no price.

Prices change; each packaged row says where and when it was read. The user's file (setting `prices`) has the same form.
"""

import datetime
import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agents.settings import LOCAL
from tools.errors import InputError

_PACKAGED = Path(__file__).with_name("prices.yaml")
_OPENAI_HOST = "api.openai.com"


class Price(BaseModel):
    """USD per million tokens of the models whose name, without provider, `model` matches as a whole.

    `provider` is LangChain's name for it; without one the row holds for every provider and server.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    provider: str | None = None
    input: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(None, ge=0, allow_inf_nan=False)
    cache_write: float | None = Field(None, ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    source: str | None = None
    date: datetime.date | None = None

    @field_validator("model")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    def usd(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Cost of one call, of whose input tokens the server had read `cached_tokens` before.

        An upper bound: endpoints do not say which of the others they wrote into their cache, so all are billed as such
        where that has a price of its own.
        """
        cached = min(cached_tokens, input_tokens)
        fresh = max(self.input, self.cache_write or 0.0)
        known = self.input if self.cached_input is None else self.cached_input
        return ((input_tokens - cached) * fresh + cached * known + output_tokens * self.output) / 1e6


FREE = Price(model=LOCAL, input=0.0, output=0.0)
"""The embedded model: it costs seconds, not money."""


class _PriceFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    prices: tuple[Price, ...]


class PriceTable:
    """Rows in the order in which they count."""

    def __init__(self, rows: tuple[Price, ...]) -> None:
        self._rows = rows

    @classmethod
    def load(cls, file: Path | None = None) -> "PriceTable":
        """The packaged rows, after those of `file`. Raises InputError where it cannot be used."""
        return cls((*(_read(file) if file is not None else ()), *packaged_prices()))

    def price(self, chat_model: str) -> Price | None:
        """The price of a chat_model setting (`local` or PROVIDER:NAME), None where it is not known."""
        if chat_model == LOCAL:
            return FREE
        provider, _, name = chat_model.partition(":")
        known = None if provider == "openai" and not _is_openai_itself() else provider
        for row in self._rows:
            if row.provider in (None, known) and re.fullmatch(row.model, name):
                return row
        return None


@lru_cache(maxsize=1)
def packaged_prices() -> tuple[Price, ...]:
    """The rows that come with the software."""
    return _read(_PACKAGED)


def unpriced(chat_model: str) -> InputError:
    """What to say where money is limited and the model has no price."""
    _, _, name = chat_model.partition(":")
    row = f"{{model: '{re.escape(name)}', input: USD, output: USD}}"
    return InputError(
        f"budget.usd cannot be kept: the price of {chat_model} here is not known. Write it, in USD per million tokens, "
        f"into a YAML file like `prices: [{row}]` and set prices=FILE, or limit budget.llm_tokens instead."
    )


def _is_openai_itself() -> bool:
    """Whether the openai provider speaks to OpenAI: other servers behind the same interface have their own prices."""
    url = os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE") or f"https://{_OPENAI_HOST}"
    return urlsplit(url.strip()).hostname == _OPENAI_HOST


def _read(file: Path) -> tuple[Price, ...]:
    try:
        return _PriceFile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))).prices
    except OSError as error:
        raise InputError(f"Cannot read the prices {file}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The prices {file} are no valid YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise InputError(
            f"The prices {file} cannot be used: {place + ': ' if place else ''}{fault['msg']}; write "
            "`prices:` and rows like {model: 'my-model', input: 0.5, output: 2.0}, in USD per million tokens."
        ) from error
