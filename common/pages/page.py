"""Look of both reports: a self-contained HTML page of headings, tiles, tables and charts.

The template escapes everything except the charts of `common/pages/charts.py`. The page loads nothing: no script, no
font, no file.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from common.wording import rounded

Tone = Literal["", "good", "bad", "quiet", "code", "name"]


@dataclass(frozen=True)
class Cell:
    """Table cell: text and how it looks."""

    text: str
    tone: Tone = ""
    bar: float | None = None
    """Length of a bar below the text, 0 to 1."""
    shade: float | None = None
    """Strength of the cell's colour, 0 to 1."""
    number: bool = False
    """Right-align, with digits of equal width."""
    note: str = ""
    """Smaller text below, such as an interval."""
    prose: bool = False
    """Running text of our own, in which backticks set code."""
    marks: Sequence[tuple[int, int]] = ()
    """Parts of the text to mark, as slice bounds in order; an empty one shows where something is missing."""

    @property
    def pieces(self) -> list[tuple[str, bool]]:
        """The text in pieces, and whether each is marked; spaces in a marked piece are shown as dots."""
        found, at = [], 0
        for first, last in self.marks:
            found += [(self.text[at:first], False), (self.text[first:last].replace(" ", "·"), True)]
            at = last
        return [*found, (self.text[at:], False)]


Value = str | int | Cell
"""Content of a table cell: text, a whole number (shown with thousands separators), or a `Cell`."""


@dataclass(frozen=True)
class Table:
    """Table; a wide one scrolls on its own in a narrow window."""

    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    caption: str = ""
    total: bool = False
    """Set the last row apart as a sum."""
    kind: str = field(default="table", init=False)

    @property
    def cells(self) -> list[list[Cell]]:
        return [[as_cell(value) for value in row] for row in self.rows]

    @property
    def wide(self) -> bool:
        """Keep the first column in view while the others scroll."""
        return len(self.header) > 3

    @property
    def matrix(self) -> bool:
        """Centre all columns but the first, each as wide as it needs: the cells are shaded."""
        return any(cell.shade is not None for row in self.cells for cell in row)

    @property
    def numeric(self) -> list[bool]:
        """One flag a column: numeric columns have their heading above the numbers."""
        columns = zip(*self.cells, strict=True) if self.rows else ()
        held = [any(cell.number for cell in column) for column in columns]
        return held or [False] * len(self.header)


@dataclass(frozen=True)
class Chart:
    """SVG chart of `common/pages/charts.py` with its caption."""

    svg: str
    caption: str
    wide: bool = False
    """Keep a legible width in a narrow window, and scroll there."""
    kind: str = field(default="chart", init=False)


@dataclass(frozen=True)
class Text:
    """Paragraph, with a tone where it reports success or failure."""

    text: str
    tone: Tone = ""
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Points:
    """List of short paragraphs."""

    texts: Sequence[Text]
    kind: str = field(default="points", init=False)


def remarks(sentences: Iterable[str]) -> list[Text]:
    """Return the paragraphs for sentences that have neither a capital at the beginning nor a full stop."""
    return [Text(f"{sentence[:1].upper()}{sentence[1:]}.") for sentence in sentences]


@dataclass(frozen=True)
class Link:
    """Link to a file beside the report."""

    text: str
    target: str
    kind: str = field(default="link", init=False)


@dataclass(frozen=True)
class Code:
    """Text to copy verbatim, such as a command."""

    text: str
    kind: str = field(default="code", init=False)


@dataclass(frozen=True)
class Picture:
    """Picture of a sheet, and what it shows."""

    source: str
    """`data:` URL (common/images.py)."""
    caption: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Pictures:
    """Sheet of pictures, a heading beside each row of them."""

    rows: Sequence[tuple[str, Sequence[Picture]]]
    caption: str = ""
    kind: str = field(default="pictures", init=False)


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown on demand, behind a line of text."""

    text: str
    blocks: Sequence["Block"]
    kind: str = field(default="folded", init=False)


@dataclass(frozen=True)
class Beside:
    """Blocks side by side, the first the wider; one below the other in a narrow window."""

    blocks: Sequence["Block"]
    kind: str = field(default="beside", init=False)


Block = Table | Chart | Text | Points | Link | Code | Pictures | Folded | Beside


@dataclass(frozen=True)
class ReportSection:
    """Heading with the blocks below it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True)
class Tile:
    """Single figure at the top of the page."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Page:
    """Whole report."""

    title: str
    subtitle: str
    tiles: Sequence[Tile]
    sections: Sequence[ReportSection]
    foot: str = ""


def as_cell(value: Value) -> Cell:
    if isinstance(value, Cell):
        return value
    return Cell(f"{value:,}", number=True) if isinstance(value, int) else Cell(value)


def number(value: int, bar: float | None = None, tone: Tone = "") -> Cell:
    """Return a cell with a whole number: thousands separators, right-aligned."""
    return Cell(f"{value:,}", tone=tone, bar=bar, number=True)


def figure(value: float | None, digits: int | None = None) -> Cell:
    """Return a cell with a number, `rounded` or of `digits` decimals; a dash for None."""
    if value is None:
        return Cell("–", number=True)
    return Cell(rounded(value) if digits is None else f"{value:,.{digits}f}", number=True)


def share(part: float, whole: float, bar: bool = False) -> Cell:
    """Return a cell with `part` of `whole` as a percentage with one decimal."""
    value = part / whole if whole else 0.0
    return Cell(f"{100 * value:.1f}%", number=True, bar=value if bar else None)


def size(count: float) -> str:
    """Format a number of bytes for people, in powers of 1,000: `27.1 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def render(page: Page) -> str:
    """Return the HTML of a page; equal pages give equal bytes."""
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
    environment.filters["prose"] = _prose
    # Also works where the package is a zip submitted to Spark.
    source = resources.files("common.pages").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source)


def _breakable(text: str) -> Markup:
    """Let long names of keys and columns break across lines, so that they hide nothing beside them on a phone."""
    return Markup("_<wbr>").join(escape(part) for part in text.split("_"))


def _prose(text: str) -> Markup:
    """Set what stands between backticks as code; a single backtick stays as it is."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece)
        for place, piece in enumerate(pieces)
    )


def _runs(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Group neighbouring blocks of one kind, so that charts can stand side by side."""
    return [(kind, list(run)) for kind, run in itertools.groupby(blocks, key=lambda block: block.kind)]
