"""The look of both reports: a self-contained HTML page made of headings, tiles, tables and charts.

Everything is escaped by the template; the only mark-up that passes as it is are the charts of `common/pages/charts.py`.
The page loads nothing: no script, no font, no file.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

Tone = Literal["", "good", "bad", "quiet", "code", "name"]


@dataclass(frozen=True)
class Cell:
    """A table cell: text, and how it looks."""

    text: str
    tone: Tone = ""
    bar: float | None = None
    """Length of a bar below the text, 0 to 1."""
    shade: float | None = None
    """How strongly the cell is coloured, 0 to 1."""
    number: bool = False
    """Right-aligned, digits of equal width."""


Value = str | int | Cell
"""What a table takes: text, a whole number (shown with thousands separators), or a cell."""


@dataclass(frozen=True)
class Table:
    """A table; wide ones scroll on their own in a narrow window."""

    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    caption: str = ""
    total: bool = False
    """The last row is a sum."""
    kind: str = field(default="table", init=False)

    @property
    def cells(self) -> list[list[Cell]]:
        return [[as_cell(value) for value in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """A flag per column: numeric ones get their heading above the numbers."""
        columns = zip(*self.cells, strict=True) if self.rows else ()
        held = [any(cell.number or cell.shade is not None for cell in column) for column in columns]
        return held or [False] * len(self.header)


@dataclass(frozen=True)
class Chart:
    """An SVG of `common/pages/charts.py` with what it shows."""

    svg: str
    caption: str
    kind: str = field(default="chart", init=False)


@dataclass(frozen=True)
class Text:
    """A paragraph; with a tone of its own where it tells of success or failure."""

    text: str
    tone: Tone = ""
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Link:
    """A link to a file beside the report."""

    text: str
    target: str
    kind: str = field(default="link", init=False)


@dataclass(frozen=True)
class Code:
    """Something to copy as it is, a command for example."""

    text: str
    kind: str = field(default="code", init=False)


Block = Table | Chart | Text | Link | Code


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True)
class Tile:
    """One figure at the top of the page."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    foot: str = ""


def as_cell(value: Value) -> Cell:
    if isinstance(value, Cell):
        return value
    return Cell(f"{value:,}", number=True) if isinstance(value, int) else Cell(value)


def number(value: int, bar: float | None = None, tone: Tone = "") -> Cell:
    """Return a whole number with thousands separators, right-aligned."""
    return Cell(f"{value:,}", tone=tone, bar=bar, number=True)


def figure(value: float | None, digits: int = 3) -> Cell:
    """Return a number with so many digits behind the point; a dash where there is none."""
    return Cell("–" if value is None else f"{value:,.{digits}f}", number=True)


def share(part: float, whole: float, bar: bool = False) -> Cell:
    """Return `part` of `whole` as a percentage with one digit."""
    value = part / whole if whole else 0.0
    return Cell(f"{100 * value:.1f}%", number=True, bar=value if bar else None)


def size(count: float) -> str:
    """Return a number of bytes for people, in powers of 1,000: `27.1 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def render(page: Page) -> str:
    """Return the HTML of a page; the same page gives the same bytes."""
    return _template().render(page=page) + "\n"


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groupby_runs"] = _runs
    environment.filters["breakable"] = _breakable
    # Also where the package is a zip that was submitted to Spark.
    source = resources.files("common.pages").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source)


def _breakable(text: str) -> Markup:
    """Let a line end within long names of keys and columns, which would hide what stands beside them on a phone."""
    return Markup("_<wbr>").join(escape(part) for part in text.split("_"))


def _runs(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Return neighbouring blocks of one kind together, so that charts can stand side by side."""
    return [(kind, list(run)) for kind, run in itertools.groupby(blocks, key=lambda block: block.kind)]
