"""The arithmetic of docs/scaling.md: what it must give at its ends, and that the table there is what it prints."""

from pathlib import Path

import pytest

from benchmarks.data_parallel import LINKS, main, sum_seconds


def test_what_is_sent() -> None:
    assert sum_seconds(10**9, 1, 1e9, None) == 0.0, "one GPU sends nothing"
    assert sum_seconds(10**9, 2, 4e9, None) == pytest.approx(1.0), "each of two sends all of it once"
    alone = sum_seconds(10**9, 8, 4e9, None)
    assert sum_seconds(10**9, 16, 4e9, 1e9) == pytest.approx(alone + 4.0), "and two nodes send it over their lines"
    times = [sum_seconds(10**9, *link) for link in LINKS.values()]
    assert times == sorted(times)


def test_the_documentation_has_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    assert capsys.readouterr().out in (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
