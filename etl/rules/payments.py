"""Payment numbers: IBANs and payment cards."""

import functools
import re

from stdnum import iban, luhn

from etl.rules.personal_data import FILE_ENDING, Match, PersonalData, has_digits, rule_maker
from etl.rules.signs import Flags, Signs

# Between groups: a space, also one that does not break, or a hyphen.
SEPARATORS = r" \-\u00a0\u202f"
IBAN_BEGINNING = re.compile(rf"(?<![A-Za-z0-9])[A-Z]{{2}}\d{{2}}(?=[{SEPARATORS}]?[A-Z0-9])", re.ASCII)
# Maltese IBANs have two check digits and five of the bank.
FEWEST_DIGITS_OF_AN_IBAN = 6
ANNOUNCED = "|".join(
    rf"(?<=\b{word}[./\-])"
    for word in ("card", "visa", "mastercard", "amex", "maestro", "tarjeta", "no", "nr", "num")
)
CARD = re.compile(
    # Groups as they stand on cards, or none. A comma may stand right beside it, as in CSV, but for that of `0,…`; other
    # signs only behind a word that announces a card.
    rf"(?=\d)(?:(?<![\w./+\-])|(?i:{ANNOUNCED}))(?<!(?<!\d)0,)"
    rf"(?:\d{{4}}([{SEPARATORS}])\d{{4}}\1\d{{4}}\1\d{{1,7}}|\d{{4}}([{SEPARATORS}])\d{{6}}\2\d{{4,5}}|\d{{13,19}})"
    r"(?!\w|[./\-]\d|-\w)",
    re.ASCII,
)
# Beginnings and lengths of the numbers that each network issues: ISO/IEC 7812 and the networks' own tables.
CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|5[06-8]\d{14}|6(?:304|759|76[1-3])\d{12}",  # Maestro, Elo
    re.ASCII,
)


class Ibans(PersonalData):
    """International bank account numbers (ISO 13616) with right check digits, as one word or in groups."""

    kind = "iban"

    def may_concern(self, signs: Signs) -> Flags:
        concerned: Flags = signs.digits >= FEWEST_DIGITS_OF_AN_IBAN
        return concerned

    def find(self, text: str) -> list[Match]:
        found = []
        for beginning in IBAN_BEGINNING.finditer(text):
            whole = _of_country(beginning.group()[:2])
            match = None if whole is None else whole.match(text, beginning.start())
            if match is not None and iban.is_valid(self.normal(match.group()), check_country=False):
                found.append(Match(*match.span(), self.kind, match.group()))
        return found

    def normal(self, value: str) -> str:
        return str(iban.compact(together(value)))


@functools.cache
def _of_country(country: str) -> "re.Pattern[str] | None":
    """Return the pattern of a country's IBANs; None where there are none."""
    structure = dict(iban._ibandb.info(f"{country}00")[0][1]).get("bban")
    if structure is None:
        return None
    length = sum(int(part) for part in re.findall(r"(\d+)!", structure))
    return re.compile(rf"{country}\d{{2}}(?:[{SEPARATORS}]?[A-Z0-9]){{{length}}}(?![A-Za-z0-9])", re.ASCII)


class Cards(PersonalData):
    """Payment card numbers: a network's beginning and length, and the right check digit (Luhn)."""

    kind = "card"

    def may_concern(self, signs: Signs) -> Flags:
        concerned: Flags = signs.digits >= 13
        return concerned

    def find(self, text: str) -> list[Match]:
        if not has_digits(text, 13):
            return []
        return [
            Match(*match.span(), self.kind, match.group())
            for match in CARD.finditer(text)
            if is_card(self.normal(match.group()))
            # Of sixteen random digits with a network's beginning every tenth passes.
            and not (match.group().isdecimal() and FILE_ENDING.match(text, match.end()))
        ]

    def normal(self, value: str) -> str:
        return together(value)


def together(number: str) -> str:
    """Return a number without its group separators."""
    return re.sub(f"[{SEPARATORS}]", "", number)


def is_card(digits: str) -> bool:
    """Return True for the digits of a card number; repetitions of one digit (4444 4444 …) are examples."""
    return CARDS.fullmatch(digits) is not None and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


RULES = {"ibans": rule_maker(Ibans), "cards": rule_maker(Cards)}
