"""Figures in the documentation are written by the benchmarks, not by hand."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import BENCHMARKS, PAGES, PLOTS
from benchmarks.healing_plot import DARK, healing_plot
from benchmarks.markdown import markdown_table, with_table, write_table
from benchmarks.report import Row

_RECT = "{http://www.w3.org/2000/svg}rect"


def test_every_benchmark_has_its_place_in_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    places = re.findall(r"<!-- table: ([a-z_-]+) -->\n.*?<!-- end -->", text, re.DOTALL)
    assert sorted(places) == sorted(BENCHMARKS)


def test_every_plot_is_shown_by_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert all(f"({path.name})" in text and path.exists() for path, _ in PLOTS.values())


def test_a_plot_has_a_bar_for_every_row() -> None:
    def row(series: str, where: str, seconds: float) -> Row:
        figures = {"median_s": seconds / 2, "slowest_s": seconds, "kib": 10.0}
        return Row(where, seconds, "s", data={"series": series, "where": where, **figures})

    plot = ElementTree.fromstring(healing_plot([row("a", "2", 1.5), row("b", "9", 3.0)]))
    texts = [text.text for text in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", "b", "1.5", "3"} < set(texts)
    assert texts.count("2") == texts.count("9") == 2
    heights = {float(bar.get("height", "0")) for bar in plot.iter(_RECT) if bar.get("fill") == DARK}
    assert max(heights) == pytest.approx(2 * min(heights), rel=0.01)


def test_a_table_goes_to_the_page_that_has_its_place(tmp_path: Path) -> None:
    pages = [tmp_path / "one.md", tmp_path / "two.md"]
    for page in pages:
        page.write_text(f"<!-- table: {page.stem} -->\nold\n<!-- end -->\n")
    write_table(pages, "two", "new")
    assert ["old" in page.read_text() for page in pages] == [True, False]
    with pytest.raises(KeyError, match="three"):
        write_table(pages, "three", "new")


def test_a_row_says_what_was_measured_and_whether_that_is_enough() -> None:
    slow = Row("echo", 6.0, "ms", 2.0, "bare | loop", target=2, at_least=False)
    alone = Row("size", 1200, "B")
    assert markdown_table([slow, alone]).splitlines()[2:] == [
        "| echo | 6 ms | 2 ms (bare / loop) | 3x | <= 2x | MISSED |  |",
        "| size | 1,200 B |  |  |  |  |  |",
    ]


def test_only_the_named_table_is_written_anew() -> None:
    page = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n<!-- table: two -->\n<!-- end -->\n"
    assert with_table(page, "one", "new \\1") == page.replace("old", "new \\1")
    assert with_table(page, "two", "2").endswith("<!-- table: two -->\n2\n<!-- end -->\n")
    with pytest.raises(KeyError, match="three"):
        with_table(page, "three", "3")
