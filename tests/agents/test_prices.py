"""Prices as data, the user's over the packaged ones; and the most tokens that a prompt can be."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agents.prices import FREE, Price, PriceTable, packaged_prices, unpriced
from agents.token_bounds import most_input_tokens
from tools.errors import InputError


@pytest.fixture(autouse=True)
def _openai_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)


def test_every_packaged_row_says_where_and_when() -> None:
    rows = packaged_prices()
    assert len(rows) > 20
    for row in rows:
        assert row.provider and row.source and row.source.startswith("https://") and row.date is not None
        assert row.cached_input is not None and row.cached_input < row.input < row.output


def test_no_packaged_row_hides_another() -> None:
    """Each row's own plain name, such as gpt-5, is found in that row."""
    table = PriceTable.load()
    for row in packaged_prices():
        name = re.sub(r"\((?:[^()]*)\)\?", "", row.model).replace("\\.", ".")
        name = re.sub(r"\(([^|)]*)\|[^)]*\)", r"\1", name)
        name = re.sub(r"\[(.)[^\]]*\]", r"\1", name)
        assert table.price(f"{row.provider}:{name}") is row, name


def test_the_price_of_a_model() -> None:
    table = PriceTable.load()
    mini = table.price("openai:gpt-5-mini")
    assert mini is not None and mini == table.price("openai:gpt-5-mini-2025-08-07")
    assert mini.usd(1_000_000, 0) == 0.25 and mini.usd(0, 1_000_000) == 2.0
    assert mini.usd(1_000_000, 0, cached_tokens=1_000_000) == 0.025
    assert table.price("openai:gpt-5-miniature") is None and table.price("anthropic:gpt-5-mini") is None
    assert table.price("local") is FREE and FREE.usd(10**9, 10**9) == 0.0


def test_what_is_written_into_a_cache_is_billed_as_that() -> None:
    price = Price(model="m", input=1.0, cached_input=0.1, cache_write=1.25, output=2.0)
    assert price.usd(1_000_000, 0) == 1.25
    assert price.usd(1_000_000, 0, cached_tokens=400_000) == pytest.approx(0.6 * 1.25 + 0.4 * 0.1)
    assert Price(model="m", input=1.0, output=2.0).usd(1_000_000, 0, cached_tokens=10**9) == 1.0


def test_another_server_has_its_own_prices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")
    file = tmp_path / "prices.yaml"
    file.write_text("prices: [{model: 'gpt-5-.*', input: 3, output: 4}]")
    assert PriceTable.load().price("openai:gpt-5-mini") is None
    own = PriceTable.load(file).price("openai:gpt-5-mini")
    assert own is not None and (own.input, own.output) == (3.0, 4.0)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    assert PriceTable.load().price("openai:gpt-5-mini") is not None


def test_the_users_rows_come_first(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("prices: [{provider: openai, model: 'gpt-5-mini', input: 9, output: 9}]")
    table = PriceTable.load(file)
    nine, nano = table.price("openai:gpt-5-mini"), table.price("openai:gpt-5-nano")
    assert nine is not None and nine.input == 9.0 and nano is not None and nano.input == 0.05


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prices: [", "no valid YAML"),
        ("- 1", "cannot be used"),
        ("prices: [{model: x, input: 1}]", "output"),
        ("prices: [{model: x, input: -1, output: 1}]", "greater than or equal to 0"),
        ("prices: [{model: '(', input: 1, output: 1}]", "regular expression"),
        ("prices: [{model: x, input: 1, output: 1, per: token}]", "per"),
    ],
)
def test_bad_prices(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        PriceTable.load(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="Cannot read the prices"):
        PriceTable.load(tmp_path / "nowhere.yaml")


def test_an_unpriced_model_says_what_to_do() -> None:
    assert "prices=FILE" in str(unpriced("openai:my-model")) and "my\\-model" in str(unpriced("openai:my-model"))


class Short(BaseModel):
    """An answer."""

    word: str = Field(max_length=10)


message = st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=200))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(message, max_size=5), st.lists(message, max_size=5), st.integers(0, 4000))
def test_the_bound_on_a_prompt(begin: list[tuple[str, str]], rest: list[tuple[str, str]], counted: int) -> None:
    """One token for each byte is the worst tokenizer; with it, what a call before was counted as is a bound too."""
    text = sum(len(part.encode("utf-8", "surrogatepass")) for _, part in begin + rest)
    plain = most_input_tokens(begin + rest, Short)
    assert plain > text
    known = most_input_tokens(begin + rest, Short, [(begin, counted)])
    assert known <= plain
    if counted >= sum(len(part.encode("utf-8", "surrogatepass")) for _, part in begin):
        assert known > text, "still an upper bound"


def test_a_prompt_that_goes_on_costs_what_is_new() -> None:
    long, new = [("system", "x" * 40_000)], [("user", "y" * 100)]
    assert most_input_tokens(long + new, Short) > 40_000
    assert most_input_tokens(long + new, Short, [([*long, ("user", "other")], 9_000)]) < 9_600
    assert most_input_tokens(long + new, Short, [([*long, ("user", "other")], 0)]) > 40_000
