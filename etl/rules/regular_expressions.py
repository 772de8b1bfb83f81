"""User-defined rules: named regular expressions that replace matches, or leave records out."""

import re

from etl.rules.registry import Edit, Filter, Rule
from schemas.cleaning import RegexRule


class ReplacePattern(Edit):
    """Replaces what matches; `\\1` or `\\g<name>` in the replacement stand for groups."""

    def __init__(self, settings: RegexRule) -> None:
        self.pattern = re.compile(settings.pattern)
        self.replacement = settings.replace or ""

    def apply(self, text: str) -> tuple[str, int]:
        return self.pattern.subn(self.replacement, text)


class FilterPattern(Filter):
    """Filter that drops texts in which the pattern occurs."""

    def __init__(self, settings: RegexRule) -> None:
        self.pattern = re.compile(settings.pattern)

    def drops(self, text: str) -> bool:
        return self.pattern.search(text) is not None


def make(settings: RegexRule) -> Rule:
    """Return the rule of an entry of `[[clean.regex]]`."""
    return FilterPattern(settings) if settings.drop else ReplacePattern(settings)


RULES = {"regex": make}
