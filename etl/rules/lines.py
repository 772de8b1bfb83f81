"""Lines that are no running text: lists, teasers that end in an ellipsis, boilerplate of web pages.

The two filters and their limits are those of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1);
dropping lines by their content is an idea of C4 (Raffel et al. 2020, "Exploring the Limits of Transfer Learning").
"""

import re

from etl.rules.registry import Edit, Filter
from schemas.cleaning import BoilerplateLinesRule, BulletLinesRule, EllipsisLinesRule

ELLIPSES = ("...", "…")


class RemoveBoilerplateLines(Edit):
    """Edit that removes short lines containing one of the phrases; counts the lines."""

    def __init__(self, settings: BoilerplateLinesRule) -> None:
        self.longest = settings.longest
        # Longer phrases first would make no difference: the line goes with any of them.
        self.phrases = re.compile("|".join(map(re.escape, settings.phrases)), re.IGNORECASE)

    def apply(self, text: str) -> tuple[str, int]:
        if self.phrases.search(text) is None:
            return text, 0
        lines = text.split("\n")
        kept = [line for line in lines if len(line) > self.longest or self.phrases.search(line) is None]
        return "\n".join(kept), len(lines) - len(kept)


class FilterBulletLines(Filter):
    """Filter that drops texts with too large a share of lines that begin with a bullet."""

    def __init__(self, settings: BulletLinesRule) -> None:
        self.maximum, self.bullets = settings.maximum, tuple(settings.bullets)

    def drops(self, text: str) -> bool:
        lines = filled_lines(text)
        return sum(line.startswith(self.bullets) for line in lines) > self.maximum * len(lines)


class FilterEllipsisLines(Filter):
    """Filter that drops texts with too large a share of lines that end with an ellipsis."""

    def __init__(self, settings: EllipsisLinesRule) -> None:
        self.maximum = settings.maximum

    def drops(self, text: str) -> bool:
        lines = filled_lines(text)
        return sum(line.endswith(ELLIPSES) for line in lines) > self.maximum * len(lines)


def filled_lines(text: str) -> list[str]:
    """Return the lines of a text that are not blank, stripped."""
    return [line for line in map(str.strip, text.split("\n")) if line]


RULES = {
    "boilerplate_lines": RemoveBoilerplateLines,
    "bullet_lines": FilterBulletLines,
    "ellipsis_lines": FilterEllipsisLines,
}
