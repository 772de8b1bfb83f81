"""Charts as inline SVG: equal figures give equal bytes, text stays text, and colours follow light and dark mode.

matplotlib draws them in stand-in colours, which the variables of the page's style sheet then replace.
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--soft)",
    "#030303": "var(--grid)",
    "#040404": "var(--line)",
    "#1a0101": "var(--c1)",
    "#1a0202": "var(--c2)",
    "#1a0303": "var(--c3)",
    "#1a0404": "var(--c4)",
}
SERIES = ("#1a0101", "#1a0202", "#1a0303", "#1a0404")
SOFT, GRID, LINE = "#020202", "#030303", "#040404"
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": SOFT,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "grid.color": GRID,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
}


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    from_zero: bool = False,
) -> str:
    """Draw curves by name over a common x axis; mark the points of short series."""

    def draw(axes: "Axes") -> None:
        for colour, (name, points) in zip(_cycle(len(series)), series.items(), strict=True):
            marker = "o" if len(points) <= 20 else None
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=colour,
                linewidth=1.4,
                marker=marker,
                markersize=3.5,
                label=name,
            )
        if logarithmic:
            axes.set_yscale("log")
            _label_minor_ticks(axes)
            axes.yaxis.set_major_formatter("{x:g}")
        elif from_zero:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(_thousands)
        axes.set(xlabel=x_label, ylabel=y_label)
        if len(series) > 1:
            axes.legend(fontsize=8)

    return _svg(title, draw)


def points(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    labels: Sequence[str] | None = None,
) -> str:
    """Draw points by name; `logarithmic` applies to the x axis, on which `labels` name 0, 1, 2 … where given."""

    def draw(axes: "Axes") -> None:
        for colour, (name, found) in zip(_cycle(len(series)), series.items(), strict=True):
            axes.scatter([x for x, _ in found], [y for _, y in found], s=16, color=colour, label=name)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            _label_minor_ticks(axes)
        elif labels is not None:
            axes.set_xticks(range(len(labels)), labels, rotation=35 if len(labels) > 8 else 0, fontsize=8)
        else:
            axes.xaxis.set_major_formatter(_thousands)
        axes.set(xlabel=x_label, ylabel=y_label)
        if len(series) > 1:
            axes.legend(fontsize=8)

    return _svg(title, draw)


def bars(
    title: str,
    series: Mapping[str, Sequence[float]],
    labels: Sequence[str],
    x_label: str,
    y_label: str,
    line_after: float | None = None,
) -> str:
    """Draw bars side by side for each of the `labels`; `line_after` marks a limit at that place of the x axis."""

    def draw(axes: "Axes") -> None:
        width = 0.8 / max(1, len(series))
        for place, (colour, (name, values)) in enumerate(
            zip(_cycle(len(series)), series.items(), strict=True)
        ):
            offset = (place - (len(series) - 1) / 2) * width
            positions = [x + offset for x in range(len(labels))]
            axes.bar(positions, values, width=width, color=colour, label=name)
        axes.set_xticks(range(len(labels)), labels, rotation=35 if len(labels) > 8 else 0, fontsize=8)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter(_thousands)
        axes.set(xlabel=x_label, ylabel=y_label)
        if line_after is not None:
            axes.axvline(line_after, color=SOFT, linewidth=1, linestyle="--")
        if len(series) > 1:
            axes.legend(fontsize=8)

    return _svg(title, draw)


def histogram(
    title: str,
    edges: Sequence[float],
    series: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
    limit: float | None = None,
) -> str:
    """Draw counts between edges as steps, one series over another; `limit` marks a value of the x axis.

    `logarithmic` applies to both axes, so that a few rows show beside thousands.
    """

    def draw(axes: "Axes") -> None:
        for colour, (name, counts) in zip(_cycle(len(series)), series.items(), strict=True):
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35, label=name)
            axes.stairs(counts, edges, color=colour, linewidth=1.2)
        if logarithmic:
            axes.set(xscale="log", yscale="log", ylim=(0.7, None))
            _label_minor_ticks(axes)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter(_thousands)
        axes.set(xlabel=x_label, ylabel=y_label)
        if limit is not None:
            axes.axvline(limit, color=SOFT, linewidth=1, linestyle="--")
        if len(series) > 1:
            axes.legend(fontsize=8)

    return _svg(title, draw)


LEVELS, FAINTEST = 12, 2
"""Shades of a heat map, and the one that any count has at least."""
MOST_NAMES = 48
"""Names beside a heat map; of more, every second or third is shown."""
LONGEST_NAME = 22


def heat_map(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Draw a confusion matrix, rows and columns named alike, shaded by the square root of the share of the row.

    The diagonal has a colour of its own, so that rare confusions show beside it. Cells without a count are not drawn.
    """
    shades = {}
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                level = max(FAINTEST, round(LEVELS * (count / sum(row)) ** 0.5))
                shades[i, j] = (i == j, level)
    return _square(title, names, shades)


def correlations(title: str, names: Sequence[str], values: Sequence[Sequence[float | None]]) -> str:
    """Draw correlations, -1 to 1, rows and columns named alike: a colour for each sign, shaded by the size."""
    shades = {
        (i, j): (value >= 0, round(LEVELS * abs(value)))
        for i, row in enumerate(values)
        for j, value in enumerate(row)
        if value is not None and round(LEVELS * abs(value))
    }
    return _square(title, names, shades)


def _square(title: str, names: Sequence[str], shades: Mapping[tuple[int, int], tuple[bool, int]]) -> str:
    """Draw a square matrix; `shades` gives cells the first or the second colour, and a level of 1 to LEVELS."""
    many, longest = len(names), max([1, *(min(len(name), LONGEST_NAME) for name in names)])
    left, top, side = 16 + 5.6 * longest, 16 + 4.4 * longest, 560.0
    cell = side / max(1, many)
    paths: dict[tuple[bool, int], list[str]] = {}
    for (i, j), shade in shades.items():
        x, y = left + j * cell, top + i * cell
        paths.setdefault(shade, []).append(f"M{x:.1f} {y:.1f}h{cell:.2f}v{cell:.2f}h-{cell:.2f}z")
    drawn = [
        f'<path d="{"".join(parts)}" fill="var({"--c1" if first else "--c2"})" fill-opacity="{level / LEVELS:.2f}"/>'
        for (first, level), parts in sorted(paths.items())
    ]
    step, named = -(-many // MOST_NAMES), []
    for place in range(0, many, step):
        name = names[place] if len(names[place]) <= LONGEST_NAME else names[place][: LONGEST_NAME - 1] + "…"
        middle = (place + 0.5) * cell
        tip = f"<title>{escape(names[place])}</title>{escape(name)}</text>"
        named.append(f'<text x="{left - 6:.1f}" y="{top + middle + 3.5:.1f}" text-anchor="end">{tip}')
        at = f"{left + middle + 3:.1f} {top - 6:.1f}"
        named.append(f'<text transform="translate({at}) rotate(-52)">{tip}')
    frame = (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.0f}" height="{side:.0f}" fill="none" '
        'stroke="var(--line)"/>'
    )
    width, height = left + side + 4.4 * longest * 0.75 + 8, top + side + 4
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}" font-size="10.5" '
        f'fill="var(--soft)">{"".join(drawn)}{frame}{"".join(named)}</svg>'
    )


def _thousands(value: float, _: object) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def _label_minor_ticks(axes: "Axes") -> None:
    """Label the ticks between powers of ten, within less than a decade, without matplotlib's TeX."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(Plain())


def _cycle(count: int) -> list[str]:
    return [SERIES[place % len(SERIES)] for place in range(count)]


def _svg(title: str, draw: Any) -> str:
    # Imported here: it takes a second, which only a report needs to spend.
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": title}):
        figure: Figure = Figure(figsize=(5.6, 3.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        draw(axes)
        axes.set_title(title, loc="left", color="#010101")
        buffer = io.StringIO()
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _inline(buffer.getvalue(), title)


def _inline(svg: str, title: str) -> str:
    """Return only the <svg> element, without a fixed size, its colours as variables of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    opening = svg[: svg.index(">") + 1]
    view = re.search(r'viewBox="([^"]+)"', opening)
    if view is None:
        raise ValueError("matplotlib's SVG has no viewBox")
    svg = (
        f'<svg viewBox="{view[1]}" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{escape(title)}">'
        + svg[len(opening) :]
    )
    for stand_in, variable in COLOURS.items():
        svg = svg.replace(stand_in, variable)
    return svg.strip()
