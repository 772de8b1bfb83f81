"""Base of all rules about personal data: mask a match, replace it by a pseudonym, or drop the record.

`Mask` hides them in whatever is shown to people.
"""

import hashlib
import hmac
import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from common.errors import ConfigurationError
from etl.rules.registry import Edit, Filter, Rule, build_rules, makers
from etl.rules.signs import NOT_DIGITS, Flags, Signs
from schemas.cleaning import COUNTRIES, Clean, NationalIdRule, PersonalDataRule

# Digits of other scripts begin at U+0660, in UTF-8 with this byte or a larger one.
PERHAPS_OTHER_DIGITS = bytes(range(0xD9, 256))
# File names often contain long numbers, some of which pass a check of their digits.
FILE_ENDING = re.compile(
    r"\.(?:bin|bmp|bz2|csv|docx|gif|gz|html?|iso|jpe?g|jsonl?|log|mp[34]|parquet|pdf|png|pptx?|svg|tar|tgz|tiff?|tmp|tsv|"
    r"txt|wav|webp|xlsx?|xml|ya?ml|zst)(?!\w)"
)
LETTERS_OF_A_PSEUDONYM = 20
"""4 bits each. Letters, so that no later rule takes a pseudonym for a number."""
SHORTEST_KEY = 16
LONGEST = 100_000
"""Characters of a record to inspect for a snippet."""
LONGEST_ADDRESS = 320
NOTHING = "\ue000"
"""Stands for an empty mask while masks are counted; it is never shown."""


class Match(NamedTuple):
    """Piece of personal data: text[start:end], its kind, and its value verbatim or in a standard form."""

    start: int
    end: int
    kind: str
    value: str


class PersonalData(Edit):
    """Edit that finds personal data, and masks it or replaces it by a pseudonym."""

    kind: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds, for a rule that finds several and counts each on its own."""

    def __init__(self, settings: PersonalDataRule) -> None:
        self.mask = settings.mask
        self.pseudonyms = settings.action == "pseudonym"

    @abstractmethod
    def find(self, text: str) -> list[Match]:
        """Return all pieces, in any order; they may overlap."""

    def normal(self, value: str) -> str:
        """Return one string for all notations of a value."""
        return value

    def apply(self, text: str) -> tuple[str, int]:
        replaced, counts = self.apply_by_kind(text)
        return replaced, counts.total()

    def apply_by_kind(self, text: str) -> tuple[str, Counter[str]]:
        """Return the edited text, and the number of replacements of each kind."""
        found = apart(self.find(text))
        if not found:
            return text, Counter()
        kept: list[str] = []
        place = 0
        for one in found:
            kept += [text[place : one.start], self.replacement(one)]
            place = one.end
        return "".join([*kept, text[place:]]), Counter(one.kind for one in found)

    def replacement(self, found: Match) -> str:
        """Return the replacement of a piece; without the key, as in a report's examples, a mask instead of a
        pseudonym.
        """
        if not self.pseudonyms or self.key is None:
            return self.mask
        return f"<{found.kind}:{pseudonym(self.key, found.kind, self.normal(found.value))}>"


class DropPersonalData(Filter):
    """Filter that drops the record of a text in which the other rule finds something."""

    def __init__(self, finder: PersonalData) -> None:
        self.finder = finder

    def may_concern(self, signs: Signs) -> Flags | None:
        return self.finder.may_concern(signs)

    def drops(self, text: str) -> bool:
        return bool(self.finder.find(text))

    def count_by_kind(self, text: str) -> Counter[str]:
        """Count the pieces of each kind in a text."""
        return Counter(one.kind for one in apart(self.finder.find(text)))


def rule_maker(finder: Callable[[Any], PersonalData]) -> Callable[[Any], Rule]:
    """Return the maker of a rule from its settings, whatever their action."""

    def make(settings: PersonalDataRule) -> Rule:
        found = finder(settings)
        return DropPersonalData(found) if settings.action == "drop" else found

    return make


def pseudonym(key: bytes, kind: str, value: str) -> str:
    """Return LETTERS_OF_A_PSEUDONYM letters from a to p: the beginning of HMAC-SHA256 (RFC 2104) of kind and value.

    A value gives the same letters in every data set with that key; without the key nobody can tell from a list of
    candidates which one it is.
    """
    digest = hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()[:LETTERS_OF_A_PSEUDONYM]
    return digest.translate(_LETTERS)


_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def pseudonym_key(clean: Clean) -> bytes | None:
    """Return the key of the pseudonyms from the environment or a file; None where no active rule needs it.

    Raises ConfigurationError, which never shows the key, where it is missing or shorter than SHORTEST_KEY bytes.
    """
    wanting = [
        name
        for name in clean.active()
        if isinstance(rule := getattr(clean, name, None), PersonalDataRule) and rule.action == "pseudonym"
    ]
    if not wanting:
        return None
    settings = clean.pseudonyms
    if settings.key_file is not None:
        try:
            key = Path(settings.key_file).read_bytes().strip()
        except OSError as error:
            raise ConfigurationError(
                f"clean.pseudonyms.key_file: {settings.key_file} cannot be read ({error.strerror})"
            ) from error
        place = f"the file {settings.key_file}"
    else:
        key = os.environ.get(settings.key_variable, "").strip().encode()
        place = f"the environment variable {settings.key_variable}"
    if len(key) < SHORTEST_KEY:
        raise ConfigurationError(
            f'clean.{wanting[0]}.action = "pseudonym" needs a secret key of at least {SHORTEST_KEY} bytes in {place} '
            f"(there are {len(key)}): make one with `openssl rand -hex 32`, and keep it out of the repository"
        )
    return key


def masking_rules(clean: Clean) -> dict[str, PersonalData]:
    """Return all rules about personal data by name, of all countries, as masks, active or not."""
    found = {}
    for name in type(clean).model_fields:
        settings = getattr(clean, name)
        if isinstance(settings, PersonalDataRule):
            wider = {"countries": list(COUNTRIES)} if isinstance(settings, NationalIdRule) else {}
            rule = makers()[name](settings.model_copy(update={"action": "mask", **wider}))
            assert isinstance(rule, PersonalData)
            found[name] = rule
    return found


class Mask:
    """Mask for personal data, whether or not the rules for it are on, and for matches of the user's own rules."""

    def __init__(self, clean: Clean) -> None:
        clean = with_some_masks(clean)
        found = masking_rules(clean)
        # Their matches may be just what nobody is to see.
        own = {rule.name for rule in clean.regex}
        replacing = [rule for name, rule in build_rules(clean) if name in own and isinstance(rule, Edit)]
        self.edits: list[Edit] = [*found.values(), *replacing]
        self.signs = {name: edit.mask for name, edit in found.items()}

    def __call__(self, text: str) -> str:
        return self.marked(text, len(text) >= LONGEST).replace(NOTHING, "")

    def marked(self, text: str, cut_off: bool) -> str:
        """Mask a text for a snippet or to count masks; `cut_off` says that the text originally continued."""
        for edit in self.edits:
            text, _ = edit.apply(text)
        # Where the text was cut off, half of an address may stand at its end.
        return text[:-LONGEST_ADDRESS] if cut_off else text

    def hides_as_much(self, before: str, after: str) -> bool:
        """Return False where cleaning exposed personal data (`joe&#64;…`) that is still legible in `before`."""
        return all(before.count(sign) >= after.count(sign) for sign in self.signs.values())


def with_some_masks(clean: Clean) -> Clean:
    """Return the rules with visible masks: empty ones could not be counted."""
    rules = {name: getattr(clean, name) for name in type(clean).model_fields}
    empty = {
        name: rule.model_copy(update={"mask": NOTHING})
        for name, rule in rules.items()
        if isinstance(rule, PersonalDataRule) and not rule.mask
    }
    return clean.model_copy(update=empty)


def effect_of(rule: str, kind: str) -> str:
    """Return the name under which the effects of a kind are counted, for a rule that finds several."""
    return f"{rule}.{kind}"


def rule_of(effect: str) -> str:
    """Return the rule of an effect."""
    return effect.partition(".")[0]


def has_digits(text: str, fewest: int) -> bool:
    """Return False for a text with too few digits, where that is cheap to tell: searching for numbers takes 50 times
    as long.
    """
    return not text.isascii() or len(text.encode("ascii").translate(None, NOT_DIGITS)) >= fewest


def merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, merging those that overlap or touch."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def apart(found: list[Match]) -> list[Match]:
    """Return the pieces in order, merging those that overlap or touch under the value of the first."""
    result: list[Match] = []
    for one in sorted(found):
        if result and one.start <= result[-1].end:
            before = result[-1]
            result[-1] = before._replace(end=max(one.end, before.end))
        else:
            result.append(one)
    return result
