"""The page of both reports: escaped, self-contained, the same for the same figures."""

import re

import pytest

from common.pages import charts
from common.pages.page import (
    Block,
    Cell,
    Chart,
    Code,
    Link,
    Page,
    ReportSection,
    Table,
    Text,
    Tile,
    Value,
    figure,
    number,
    render,
    share,
    size,
)

EVIL = '<script>alert("x")</script>'


def page(text: str = "plain") -> Page:
    table = Table(
        ["Name", "Count"], [[text, 1234567], [Cell(text, "code"), number(5, bar=0.5)]], text, total=True
    )
    matrix = Table(["", text], [[text, Cell("7", shade=0.25)]])
    chart = Chart(charts.bars(text, {text: [1, 2], "other": [3, 4]}, [text, "b"], text, text), text)
    blocks: list[Block] = [
        Text(text, "good"),
        table,
        chart,
        chart,
        matrix,
        Link(text, "data_docs/index.html"),
        Code(text),
    ]
    return Page(text, text, [Tile(text, text, text)], [ReportSection(f"All of it {text}", blocks)], text)


def test_everything_is_escaped() -> None:
    html = render(page(EVIL))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 12


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = render(page())
    targets = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", html)
    assert set(targets) == {"#all-of-it-plain", "data_docs/index.html"} | {
        target for target in targets if re.fullmatch(r"#[\w-]+", target)
    }
    assert not re.search(r"@import|<link|<script|<img|<iframe", html)
    assert not re.search(r"url\((?!#)", html)


def test_figures_are_shown_with_separators() -> None:
    html = render(page())
    assert ">1,234,567</td>" in html
    assert 'style="width: 50.0%"' in html
    assert number(1234567) == Cell("1,234,567", number=True)
    assert share(1, 3) == Cell("33.3%", number=True)
    assert share(1, 0).text == "0.0%"
    assert figure(None).text == "–"
    assert figure(1234.5678, 2).text == "1,234.57"
    large = [0.0004, 9.8765, 99.9, 257.674, 6_208.83, 257_674.049, -2e9, float("inf")]
    shown = ["0.000", "9.877", "99.900", "257.67", "6,208.8", "257,674", "-2e+09", "inf"]
    assert [figure(value).text for value in large] == shown
    assert [size(n) for n in (999, 27_100_000, 5e15)] == ["999 bytes", "27.1 MB", "5,000.0 TB"]


def test_the_same_page_gives_the_same_bytes() -> None:
    assert render(page()) == render(page())


def test_charts_keep_text_as_text_and_take_the_colours_of_the_page() -> None:
    svg = charts.lines(
        "Loss of $x_1", {"training": [(0, 1.0), (10, 0.5)], "validation": [(10, 0.7)]}, "step", "loss"
    )
    assert svg.startswith("<svg viewBox=")
    assert "Loss of $x_1</text>" in svg
    assert "validation</text>" in svg
    assert "var(--c1)" in svg
    assert "var(--c2)" in svg
    assert not any(stand_in in svg for stand_in in charts.COLOURS)
    assert "<dc:date>" not in svg


@pytest.mark.parametrize("values", [[2.0, 5.0, 3.0], [0.5, 20.0, 300.0]])
def test_logarithmic_axes_have_no_tex(values: list[float]) -> None:
    counts = charts.histogram("Scores", [2.0, 3, 4, 5], {"rows": values}, "score", "rows", logarithmic=True)
    loss = charts.lines("Loss", {"training": list(enumerate(values))}, "step", "loss", logarithmic=True)
    for svg in (counts, loss):
        assert "mathdefault" not in svg
    assert ">3</text>" in counts


def test_a_column_with_a_number_anywhere_is_one_of_numbers() -> None:
    table = Table(["a", "b"], [["x", ""], ["y", 3]])
    assert table.numeric == [False, True]
    assert Table(["a"], []).numeric == [False]


def test_only_running_text_of_our_own_sets_code_between_backticks() -> None:
    cells: list[list[Value]] = [[Cell("`make` it", prose=True), Cell(f"{EVIL} `b`", prose=True), "a `value`"]]
    html = render(Page("", "", [], [ReportSection("", [Table(["", "", ""], cells)])]))
    assert "<code>make</code> it" in html
    assert "&lt;/script&gt; <code>b</code>" in html
    assert "a `value`" in html
