"""A run as one HTML file that needs nothing else: no network, no server, no other file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penjing.figures import Picture, plotly_figure

if TYPE_CHECKING:
    from graph.session import SearchSession
    from memory.records import Records

_TEMPLATE = Path(__file__).with_name("report.html")
_OF_THIS_MACHINE = ("home", "cache", "workers", "vectors", "records")
"""Settings that say nothing to whoever gets the report, and may tell names."""


def html_report(session: "SearchSession", records: "Records") -> str:
    """The text of the file. Words of language models stand in it as text. Raises InputError where Plotly is missing."""
    from jinja2 import Environment, StrictUndefined

    from graph.story import stories_of
    from memory.retrieval import best
    from penjing.documents import show_document
    from penjing.snapshot import read_snapshot
    from penjing.tables import cache_lines, forecast_lines, ledger_lines, rival_lines, verdict

    snapshot, document = read_snapshot(records, session.run_id), show_document(session)
    pictures, leaders = snapshot.pictures(), best(snapshot.trials, 1)
    of_best = snapshot.trial_pictures(leaders[0].number) if leaders else []
    result = document["result"]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        document=document,
        created=snapshot.run.created_at.strftime("%Y-%m-%d %H:%M UTC"),
        result=None if result is None else result["table"],
        verdict=None if result is None else verdict(result["table"], session.config.asks_agents),
        lines=[
            *rival_lines(document["not_told_apart"]),
            *ledger_lines(document["ledger"]),
            *forecast_lines(document["forecasts"]),
            *cache_lines(document["cache"]),
        ],
        budget=_budget(document["budget"]),
        pictures=[picture for picture in [*pictures, *of_best] if not picture.is_empty],
        figures={picture.name: _figure(picture) for picture in [*pictures, *of_best] if not picture.is_empty},
        templates=_templates(),
        stories=[(story, story_text(story)) for story in stories_of(records, session.run_id)],
        settings=[row for row in _flat(document["config"]) if row[0].split(".")[0] not in _OF_THIS_MACHINE],
        plotly=_plotly_js(),
    )


def story_text(story: Any) -> str:
    """A story as `penjing trace RUN TRIAL` tells it."""
    from penjing.trace_lines import story_lines

    return "\n".join(line.plain for line in story_lines(story))


def _figure(picture: Picture) -> str:
    """Both grounds as JSON that may stand inside a script element; their templates are apart, since they are long."""
    return _for_script({ground: _without_template(picture, ground == "dark") for ground in ("light", "dark")})


def _without_template(picture: Picture, dark: bool) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plotly_figure(picture, dark).to_json())
    del found["layout"]["template"]
    return found


def _templates() -> str:
    import plotly.io

    names = {"light": "plotly_white", "dark": "plotly_dark"}
    return _for_script({ground: plotly.io.templates[name].to_plotly_json() for ground, name in names.items()})


def _for_script(value: Any) -> str:
    from markupsafe import Markup

    # Nothing in it can end the element: HTML reads no tag where there is no "<".
    return Markup(json.dumps(value, default=_plain).replace("<", "\\u003c"))  # noqa: S704


def _plain(value: Any) -> Any:
    """What Plotly keeps as tuples and arrays of its own."""
    return list(value)


def _plotly_js() -> str:
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return Markup(str(get_plotlyjs()).replace("</script", "<\\/script"))  # noqa: S704


def _budget(budget: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for name, digits in (
        ("trials", 0),
        ("llm_tokens", 0),
        ("usd", 4),
        ("evaluation_seconds", 1),
        ("wall_clock_seconds", 1),
    ):
        spent, cap = budget[name]["spent"], budget[name]["cap"]
        words = f"unknown for {budget['unpriced_calls']} calls" if spent is None else f"{spent:,.{digits}f}"
        title = name.replace("llm", "LLM").replace("usd", "USD").replace("_", " ")
        rows.append((title, words, "-" if cap is None else f"{cap:,.10g}"))
    return rows


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted keys and their values."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            shown = (
                ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
            )
            rows.append((prefix + key, shown))
    return rows
