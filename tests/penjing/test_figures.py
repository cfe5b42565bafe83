"""Pictures: the numbers in them, and that both ways to draw them draw just these."""

import math
from pathlib import Path

import pytest

from graph.recorded_judges import recorded_judges
from memory.records import Records
from memory.views import TrialView
from penjing.figures import (
    Picture,
    best_so_far_picture,
    drops_picture,
    lineage_picture,
    pareto_picture,
    plotly_figure,
    save_picture,
    shapes_picture,
    training_picture,
)
from penjing.figures.best_so_far import best_values
from penjing.figures.lineage import tree_places
from penjing.figures.picture import Series, apart
from penjing.figures.stages import in_words, stage_style
from penjing.snapshot import read_snapshot
from tests.many_trials import source_design, write_run
from tools.errors import InputError
from tools.pruning.drop_event import DropEvent


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    write_run(folder, 60, "agents")
    for seed in (0, 1):
        write_run(folder, 20, f"judge-{seed}", trials_asked=60, llm_share=0.0, seed=seed, past_runs="none")
    write_run(folder, 20, "other", trials_asked=60, llm_share=0.0, max_parameters=90_000_000)
    write_run(folder, 1, "single")
    write_run(folder, 0, "empty")
    return folder


@pytest.fixture(scope="module")
def records(home: Path) -> Records:
    return Records.open(home / "records.sqlite")


@pytest.fixture(scope="module")
def trials(records: Records) -> list[TrialView]:
    return records.trials("agents")


def named(picture: Picture, name: str) -> Series:
    return next(series for panel in picture.panels for series in panel.series if series.name == name)


def of_trials(picture: Picture) -> list[int]:
    """The trials that are points in it."""
    return sorted(number for panel in picture.panels for series in panel.series for number in series.trials)


def test_best_so_far_is_the_running_best_of_acceptable_trials(trials: list[TrialView]) -> None:
    picture = best_so_far_picture(trials, source=2.9)
    best, seen = named(picture, "best so far"), math.inf
    for trial, value in zip(trials, best.y, strict=True):
        seen = min(seen, trial.loss or math.inf)
        assert value == seen
    measured = [trial.number for trial in trials if trial.succeeded]
    assert of_trials(picture) == measured and len(measured) < len(trials), "some failed"
    assert named(picture, "source, untrained").y == (2.9, 2.9)
    assert f"The best loss is {seen:.4f}, since trial {best.y.index(seen)}." in picture.summary


def test_best_values_both_ways_and_before_there_is_one() -> None:
    assert best_values([None, 3.0, None, 4.0, 2.0]) == (None, 3.0, 3.0, 3.0, 2.0)
    assert best_values([0.2, 0.5, 0.4], rising=True) == (0.2, 0.5, 0.5)


def test_a_judges_run_with_settings_of_another_version_is_left_out(records: Records) -> None:
    config = records.run("judge-0").config
    try:
        records.update_run("judge-0", config={**config, "unheard_of": 1})
        assert [len(values) for values in recorded_judges(records, records.run("agents"))["random"]] == [20]
    finally:
        records.update_run("judge-0", config=config)


def test_judges_with_the_same_settings_stand_beside_it(records: Records, trials: list[TrialView]) -> None:
    judges = recorded_judges(records, records.run("agents"))
    assert list(judges) == ["random"] and [len(values) for values in judges["random"]] == [20, 20]
    assert recorded_judges(records, records.run("judge-0")) == {}
    picture = best_so_far_picture(trials, judges)
    line = named(picture, "judge random (2 seeds)")
    curves = [best_values(values) for values in judges["random"]]
    first = next(place for place, pair in enumerate(zip(*curves, strict=True)) if None not in pair)
    assert line.x[0] == first
    assert line.y[-1] == pytest.approx(sum(curve[-1] or 0.0 for curve in curves) / 2)
    band = named(picture, "judge random")
    assert all(
        (low or 0) <= (mean or 0) <= (high or 0) for low, mean, high in zip(band.y, line.y, band.upper, strict=True)
    )


@pytest.mark.parametrize("cost", ["parameters", "latency_ms"])
def test_nobody_beats_the_front(trials: list[TrialView], cost: str) -> None:
    picture = pareto_picture(trials, "parameters" if cost == "parameters" else "latency_ms")
    front = named(picture, "front")
    places = list(zip(front.x, front.y, strict=True))
    assert places == sorted(places, key=lambda place: place[0] or 0.0)
    for panel in picture.panels:
        for series in panel.series:
            for x, y in zip(series.x, series.y, strict=True):
                assert x is not None and y is not None
                assert not any((a or 0) > x and (b or 0) > y for a, b in places) or (x, y) in places
    assert not any(a < c and b < d for a, b in places for c, d in places if None not in (a, b, c, d))  # type: ignore[operator]


def test_a_tree_has_a_place_for_each(trials: list[TrialView]) -> None:
    parents = {trial.number: trial.parent_number for trial in trials}
    places = tree_places(parents)
    assert len(set(places.values())) == len(trials)
    for number, parent in parents.items():
        assert places[number][0] == (0 if parent is None else places[parent][0] + 1)
    assert tree_places({0: None, 1: 0, 2: 0, 3: 2, 4: 3})[4] == (3, 0), "the long line is straight"
    assert tree_places({5: 4, 6: 5}) == {5: (0, 0), 6: (1, 0)}, "a parent that is not there"
    picture = lineage_picture(trials)
    assert of_trials(picture) == [trial.number for trial in trials]
    links = named(picture, "made from")
    assert links.x.count(None) == len(trials) - 1


def test_stages_differ_in_colour_and_in_shape() -> None:
    styles = [stage_style(stage) for stage in ("greedy", "self_evolution", "knowledge_distillation", "judge", "tool")]
    assert len({style.colour for style in styles}) == len({style.marker for style in styles}) == len(styles)
    assert stage_style("new_stage").words == "new stage"


def test_shapes_are_those_of_the_designs(trials: list[TrialView]) -> None:
    trial = trials[-1]
    assert trial.parent_number is not None
    picture = shapes_picture(trial, trials[trial.parent_number], source_design())
    ffn, heads = picture.panels
    assert [series.kind for series in ffn.series] == ["bars", "stairs", "stairs"]
    assert ffn.series[0].y == tuple(layer.intermediate_size for layer in trial.architecture.layers)
    assert heads.series[1].y == (3.0,) * 30
    assert ffn.series[2].name == f"parent, trial {trial.parent_number}"


def test_training_and_pruning_of_a_trial(trials: list[TrialView]) -> None:
    found = trials[0].measurement
    assert found is not None
    assert named(training_picture(0, found), "training loss").y == found.training_losses
    single = drops_picture(0, found.drops)
    assert len(single.panels) == 1 and single.panels[0].x_names == ("stem channels", "attention heads", "FFN channels")
    events = [
        DropEvent(
            number=number,
            step=number,
            tokens=1000 * number,
            least_saliency={"attention": 1e-9, "ffn": 1e-10 * number, "stem": None},
            removed={"attention": 0, "ffn": 8, "stem": 0},
            pruned_share={"attention": 0.0, "ffn": 0.1 * number, "stem": 0.0},
            parameters=1_000_000 - number,
            hidden_size=64,
        )
        for number in (1, 2, 3)
    ]
    curves = drops_picture(4, events)
    assert [panel.log_y for panel in curves.panels] == [True, False, False]
    assert {series.name for series in curves.panels[0].series} == {"attention heads", "FFN channels"}
    assert curves.panels[1].series[2].y == pytest.approx((10.0, 20.0, 30.0))


def test_both_ways_of_drawing_draw_the_same_numbers(records: Records, tmp_path: Path) -> None:
    snapshot = read_snapshot(records, "agents")
    for picture in [*snapshot.pictures(), *snapshot.trial_pictures(7)]:
        for dark in (False, True):
            traces = plotly_figure(picture, dark).to_plotly_json()["data"]
            drawn = [list(trace["y"]) for trace in traces]
            for panel in picture.panels:
                for series in panel.series:
                    assert list(series.y) in drawn, (picture.name, series.name)
        for suffix in ("svg", "png"):
            save_picture(picture, tmp_path / f"{picture.name}.{suffix}")
        text = (tmp_path / f"{picture.name}.svg").read_text()
        save_picture(picture, tmp_path / "again.svg")
        assert (tmp_path / "again.svg").read_text() == text


@pytest.mark.parametrize(("run", "empty"), [("single", False), ("empty", True)])
def test_one_trial_and_none(records: Records, tmp_path: Path, run: str, empty: bool) -> None:
    for picture in read_snapshot(records, run).pictures():
        assert picture.is_empty == empty and picture.summary
        plotly_figure(picture)
        if empty:
            with pytest.raises(ValueError, match=picture.name):
                save_picture(picture, tmp_path / "nothing.png")
        else:
            save_picture(picture, tmp_path / f"{picture.name}.png")
    with pytest.raises(InputError, match="has no trial 7"):
        read_snapshot(records, run).trial(7)


def test_failed_and_unmeasured_trials_are_told_apart(trials: list[TrialView]) -> None:
    failed = next(trial for trial in trials if not trial.succeeded)
    assert "failed: out of memory" in in_words(failed)
    assert training_picture(failed.number, failed.measurement).is_empty
    assert training_picture(3, None).summary == "The trial is not measured yet."
    waiting = failed.model_copy(update={"measurement": None})
    names = [series.name for panel in lineage_picture([*trials[:1], waiting]).panels for series in panel.series]
    assert any("not measured yet" in name for name in names)


def test_labels_keep_their_distance_and_words_stay_words() -> None:
    assert apart([0.0, 0.01, 1.0], [0.0, 0.0, 1.0], ["1", "2", "3"]) == ("1", "", "3")
    series = Series("<b>x</b>", "points", (0.0,), (1.0,), marker="circle", texts=("<script>\nx",), labels=("<i>",))
    from penjing.figures import Panel

    panel = Panel("<x>", "<y>", (series,))
    text = plotly_figure(Picture("one", "One", "One.", (panel,))).to_json()
    assert "<script>" not in text and "<b>" not in text and "<i>" not in text
