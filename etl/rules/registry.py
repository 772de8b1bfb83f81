"""Base of cleaning rules, and their registry.

An edit returns the new text and the number of replacements; a filter decides whether to leave the record out. A
module of this package offers its rules as `RULES`: name in the configuration → maker from its settings.
"""

import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import etl.rules
from etl.rules.signs import Flags, Signs
from schemas.cleaning import Clean


class Rule:
    """Common base of edits and filters."""

    key: bytes | None = None
    """Key of the pseudonyms, for the rules that make any."""

    def may_concern(self, signs: Signs) -> Flags | None:
        """Return a flag for each of many texts, bool (n,), False where `apply` or `drops` surely does nothing; None:
        unknown.

        It only saves calls: a rule without it sees every text.
        """
        return None


class Edit(Rule, ABC):
    """Rule that changes texts."""

    @abstractmethod
    def apply(self, text: str) -> tuple[str, int]:
        """Return the text after the rule, and the number of replacements (0: the text is unchanged)."""

    def noted(self, text: str) -> tuple[str, int] | None:
        """Return the name and number of a kind of replacements that users should know of, in a text before the rule."""
        return None


class Filter(Rule, ABC):
    """Rule that leaves records out."""

    @abstractmethod
    def drops(self, text: str) -> bool:
        """Return True for a text whose record is to be left out."""


@functools.cache
def makers() -> dict[str, Callable[[Any], Rule]]:
    """Return the makers of the built-in rules by name, from all modules of this package."""
    found: dict[str, Callable[[Any], Rule]] = {}
    for module in pkgutil.iter_modules(etl.rules.__path__, "etl.rules."):
        found.update(getattr(importlib.import_module(module.name), "RULES", {}))
    return found


def build_rules(clean: Clean, key: bytes | None = None) -> list[tuple[str, Rule]]:
    """Return the active rules with their names, in order of application; `key` makes their pseudonyms."""
    own = {settings.name: settings for settings in clean.regex}
    rules = [
        (name, makers()["regex"](own[name]) if name in own else makers()[name](getattr(clean, name)))
        for name in clean.active()
    ]
    for _, rule in rules:
        rule.key = key
    return rules
