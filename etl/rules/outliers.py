"""Filters for texts that are too short, too long, or hardly text."""

from collections.abc import Callable

from etl.rules.registry import Filter
from etl.rules.signs import BEYOND_ASCII, NOT_DIGITS, Flags, Signs
from schemas.cleaning import CharacterRatioRule, DigitRatioRule, LengthRule

NOT_ALPHANUMERIC = bytes(code for code in range(128) if not chr(code).isalnum())
OTHER_BYTES = NOT_ALPHANUMERIC + BEYOND_ASCII
WHITE_SPACE = bytes(code for code in range(128) if chr(code).isspace())


class FilterLength(Filter):
    """Filter that drops texts outside [minimum, maximum] characters."""

    def __init__(self, settings: LengthRule) -> None:
        self.minimum, self.maximum = settings.minimum, settings.maximum

    def may_concern(self, signs: Signs) -> Flags:
        return (signs.lengths < self.minimum) | (signs.lengths > self.maximum)

    def drops(self, text: str) -> bool:
        return not self.minimum <= len(text) <= self.maximum


class FilterCharacterRatio(Filter):
    """Filter that drops texts with too few letters and digits among the characters that are not white space."""

    def __init__(self, settings: CharacterRatioRule) -> None:
        self.minimum = settings.minimum_letters

    def may_concern(self, signs: Signs) -> Flags:
        # Bounds: at least so many letters, and at most so many characters.
        letters = signs.sizes - signs.sums(OTHER_BYTES)
        concerned: Flags = letters < self.minimum * signs.lengths
        return concerned

    def drops(self, text: str) -> bool:
        letters, visible = count_letters(text)
        return letters < self.minimum * visible


class FilterDigitRatio(Filter):
    """Filter that drops texts with too many digits among the characters that are not white space: tables,
    identifiers.
    """

    def __init__(self, settings: DigitRatioRule) -> None:
        self.maximum = settings.maximum

    def drops(self, text: str) -> bool:
        digits, visible = count_digits(text)
        return digits > self.maximum * visible


def count_letters(text: str) -> tuple[int, int]:
    """Return the numbers of letters and digits, and of characters that are not white space."""
    return _count(text, NOT_ALPHANUMERIC, str.isalnum)


def count_digits(text: str) -> tuple[int, int]:
    """Return the numbers of decimal digits of any script, and of characters that are not white space."""
    return _count(text, NOT_DIGITS, str.isdecimal)


def _count(text: str, others: bytes, counts: Callable[[str], bool]) -> tuple[int, int]:
    """Return the numbers of characters that count (in ASCII all but the `others`), and of those not white space."""
    if text.isascii():  # bytes.translate is some 30 times faster than asking each character
        encoded = text.encode("ascii")
        return len(encoded.translate(None, others)), len(encoded.translate(None, WHITE_SPACE))
    return sum(map(counts, text)), sum(map(len, text.split()))


RULES = {"length": FilterLength, "character_ratio": FilterCharacterRatio, "digit_ratio": FilterDigitRatio}
