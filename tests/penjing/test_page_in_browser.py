"""The page in a real browser beside a real search: it changes by itself, and what is said there steers the search."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.many_trials import write_run

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WORDS = "Keep the first layer as it is."
GUIDANCE = "Be kind to the last layer."
PENJING = [sys.executable, "-m", "penjing.main"]

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: install the package chromium"),
    # A browser, a server and a search at once need long where other tests run beside them.
    pytest.mark.timeout(600),
]


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page on the home of this test; its address."""
    monkeypatch.setenv("PENJING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    server = subprocess.Popen([*PENJING, "ui", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line, server.communicate()[1]
    yield json.loads(line)["url"]
    server.terminate()
    server.communicate(timeout=30)


def opened(browser: Any, url: str, outside: list[str]) -> Any:
    """A tab at `url`; requests to any other place are noted."""
    from playwright.sync_api import Error

    page = (
        browser.new_page(viewport={"width": 1280, "height": 1200})
        if hasattr(browser, "new_context")
        else browser.new_page()
    )
    page.set_default_timeout(200_000)
    here = url.split("/")[2]
    page.on("request", lambda request: outside.append(request.url) if request.url.split("/")[2] != here else None)
    for attempt in range(40):
        try:
            page.goto(url)
            return page
        except Error:
            # The server may not listen yet.
            if attempt == 39:
                raise
            page.wait_for_timeout(500)
    return page


def filled(area: Any) -> str:
    """The text of a box, which stands there empty for a moment before the page fills it."""
    from playwright.sync_api import expect

    expect(area).not_to_have_value("", timeout=60_000)
    return str(area.input_value())


def test_a_search_is_watched_and_steered(
    browser: Any,
    served: str,
    settings_of: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(settings_of(tmp_path, trials=4, self_evolution=3, patience=9)))
    outside: list[str] = []
    with FakeOpenAI(seed=4, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        search = subprocess.Popen(
            [*PENJING, "search", str(file), "--approve"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (tmp_path / "home" / "runs").is_dir() or not list((tmp_path / "home" / "runs").iterdir()):
                assert search.poll() is None
            run = SearchSession.open("latest", tmp_path / "home").run_id
            page = opened(browser, f"{served}/run?run={run}", outside)
            # Nobody reloads it: trial 0 is measured, and trial 1 is asked about, while it is watched.
            page.get_by_text("Trial 1 waits for your decision").wait_for()
            page.get_by_text("1 of 4 trials", exact=True).wait_for()

            steering = opened(browser, f"{served}/prompts?run={run}&template=design", outside)
            area = steering.get_by_label("Text of the template")
            before = filled(area)
            area.fill(before.replace("{{", "{%", 1))
            steering.get_by_role("button", name="Save for this run").click()
            steering.get_by_text("Nothing was saved").wait_for()
            area.fill(before.rstrip("\n") + "\nBe bold.\n")
            steering.get_by_role("button", name="Save for this run").click()
            saved = steering.get_by_text("from the next turn on").inner_text()
            version = saved.split("version ")[1].split()[0]

            page.get_by_role("button", name="Accept").click()
            page.get_by_text("Trial 2 waits for your decision").wait_for()
            page.get_by_text("2 of 4 trials", exact=True).wait_for()
            page.get_by_role("button", name="Open trial").click()
            page.get_by_role("heading", name=f"of {run}").wait_for()
            page.goto(f"{served}/trial?run={run}&trial=2")
            page.get_by_role("heading", name=f"Trial 2 of {run}").wait_for()
            page.get_by_text(f"design {version}").wait_for()
            assert any("Be bold." in str(request.body["messages"]) for request in server.requests)

            page.get_by_role("link", name="Run", exact=True).click()
            page.get_by_label("Why it is rejected; its author reads this").fill(WORDS)
            page.get_by_role("button", name="Reject").click()
            page.get_by_text("Trial 2 waits for your decision").wait_for(state="detached")
            page.get_by_text("waits for your decision").wait_for()
            assert any(WORDS in str(request.body) for request in server.requests), "they went back to the author"

            steering.reload()
            steering.get_by_label("Your own words for the agents").fill(GUIDANCE)
            steering.get_by_role("button", name="Tell them").click()
            steering.get_by_text("They read it from their next turn on.").wait_for()
            assert steering.get_by_label("Your own words for the agents").input_value() == GUIDANCE

            page.get_by_text("Edit the design").click()
            design = page.get_by_label("Design as JSON")
            proposed = json.loads(filled(design))
            design.fill(json.dumps(proposed | {"hidden_size": 1000}))
            page.get_by_role("button", name="Take this design").click()
            # Longer than the page stands still: what was wrong is not drawn over.
            page.wait_for_timeout(5000)
            page.get_by_text("hidden_size 1000 is not allowed").wait_for()
            design.fill(json.dumps(_another(proposed)))
            page.get_by_role("button", name="Take this design").click()
            page.get_by_text("3 of 4 trials", exact=True).wait_for()
            asked = page.get_by_text("waits for your decision")
            asked.wait_for()
            assert any(GUIDANCE in str(request.body) for request in server.requests), "it stood in the next prompt"
        finally:
            search.kill()
            search.wait()
    assert outside == []


def _another(design: dict[str, Any]) -> dict[str, Any]:
    """A design of the same size that is not the proposed one: its first and last layer have changed places."""
    first, *middle, last = design["spans"]
    places = ("first_layer", "last_layer")
    turned = [last | {key: first[key] for key in places}, *middle, first | {key: last[key] for key in places}]
    assert turned != design["spans"]
    return design | {"spans": turned}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it_and_a_point_opens_its_trial(
    browser: Any, served: str, tmp_path: Path, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    write_run(tmp_path / "home", 12, "run-few")
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 2600})
    outside: list[str] = []
    page = opened(context, f"{served}/run?run=run-few", outside)
    page.locator(".js-plotly-plot").nth(2).wait_for()
    found = {}
    for place, sign in (
        ("runs", "Open run"),
        ("run", "Open trial"),
        ("trial", "What its author said"),
        ("prompts", "Save for this run"),
        ("traces", "Calls"),
    ):
        page.goto(f"{served}/{place if place != 'runs' else ''}?run=run-few")
        page.get_by_text(sign).first.wait_for()
        page.wait_for_timeout(1500)
        audit = Axe().run(page).response
        assert len(audit["passes"]) > 10, "the audit looked at something"
        found |= {f"{place}: {one['id']}": one["nodes"][0]["html"] for one in audit["violations"]}
    assert found == {}

    page.goto(f"{served}/run?run=run-few")
    page.locator(".js-plotly-plot").nth(2).wait_for()
    page.wait_for_timeout(1500)
    box = page.locator(".js-plotly-plot").nth(0).locator(".scatterlayer .points path").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_role("heading", name="of run-few").wait_for()
    assert "trial=" in page.url
    assert outside == []


def test_words_of_models_do_nothing_and_a_taken_port_is_told(browser: Any, served: str, tmp_path: Path) -> None:
    write_run(tmp_path / "home", 12, "run-few")
    outside: list[str] = []
    page = opened(browser, f"{served}/trial?run=run-few&trial=3", outside)
    page.get_by_text("<script>document.title=").first.wait_for()
    assert page.title() == "Penjing" and outside == []
    page.goto(f"{served}/run?run=run-few")
    page.locator(".js-plotly-plot").nth(2).wait_for()
    page.goto(f"{served}/run?run=nothing")
    page.get_by_text("there is no run 'nothing'").wait_for()
    port = served.rsplit(":", 1)[1]
    refused = subprocess.run(
        [*PENJING, "ui", "--port", port], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert refused.returncode == 2 and f"Port {port} on 127.0.0.1 cannot be used" in refused.stderr
