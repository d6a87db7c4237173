"""Figures in the documentation are written by the benchmarks, not by hand."""

from __future__ import annotations

import re

import pytest

from benchmarks.__main__ import BENCHMARKS, PAGE
from benchmarks.markdown import markdown_table, with_table
from benchmarks.report import Row


def test_every_benchmark_has_its_place_in_the_page() -> None:
    places = re.findall(r"<!-- table: ([a-z_-]+) -->\n.*?<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert sorted(places) == sorted(BENCHMARKS)


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
