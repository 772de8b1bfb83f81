"""`[clean]`: the cleaning rules by name, their order, and the settings of each."""

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from schemas.sections import Name, NonEmpty, Positive, Section, Share


class UnicodeRule(Section):
    form: Literal["NFC", "NFKC"] = "NFC"


class ControlCharactersRule(Section):
    keep: str = "\n\t"


class MarkupRule(Section):
    entities: bool = True
    """Also turn character references such as `&amp;` into what they mean."""


class WhiteSpaceRule(Section):
    blank_lines: Annotated[int, Field(ge=0)] = 1
    """So many blank lines in a row stay."""


class PersonalDataRule(Section):
    """What every rule about personal data has."""

    action: Literal["mask", "pseudonym", "drop"] = "mask"
    """`pseudonym`: a keyed hash of the value, the same wherever the value stands; `drop` leaves the record out."""
    mask: str


class EmailRule(PersonalDataRule):
    mask: str = "<email>"


class PhoneRule(PersonalDataRule):
    mask: str = "<phone>"
    regions: list[Annotated[str, Field(pattern=r"^[A-Z]{2}$")]] = ["US"]
    """Numbers without a country code are tried as numbers of these regions."""


class IpAddressRule(PersonalDataRule):
    mask: str = "<ip>"


class IbanRule(PersonalDataRule):
    mask: str = "<iban>"


class CardRule(PersonalDataRule):
    mask: str = "<card>"


Country = Literal["AR", "BR", "CL", "CO", "EC", "ES", "MX", "PE", "PY", "US"]
COUNTRIES: tuple[Country, ...] = get_args(Country)


class NationalIdRule(PersonalDataRule):
    mask: str = "<id>"
    countries: list[Country] = []
    """Whose numbers are looked for. None by default: a number of one country can be anything in another."""


class Pseudonyms(Section):
    """`[clean.pseudonyms]`: where the secret key is, of which `action = "pseudonym"` makes pseudonyms."""

    key_variable: NonEmpty = "RINGLAKE_PSEUDONYM_KEY"
    """The name of an environment variable of the process that starts Spark."""
    key_file: NonEmpty | None = None
    """Instead of it: a file that this process can read."""


class LengthRule(Section):
    minimum: Annotated[int, Field(ge=0)] = 1
    maximum: Positive = 1_000_000
    """In characters, after the edits of the other rules."""


class CharacterRatioRule(Section):
    minimum_letters: Share = 0.2
    """The smallest share of letters and digits among the characters that are not white space."""


class RegexRule(Section):
    """A rule of the user's own: replaces what matches, or with `drop = true` filters the record out."""

    name: Name
    pattern: NonEmpty
    replace: str | None = None
    drop: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _one_effect(self) -> Self:
        if (self.replace is None) != self.drop:
            raise ValueError("a regex rule takes either `replace` or `drop = true`")
        try:
            re.sub(self.pattern, self.replace or "", "")
        except (re.error, IndexError) as error:
            raise ValueError(f"`replace` does not fit the pattern: {error}") from error
        return self


BUILT_IN_RULES = (
    "unicode",
    "control_characters",
    "markup",
    "white_space",
    "emails",
    "ibans",
    "cards",
    "national_ids",
    "phones",
    "ip_addresses",
    "length",
    "character_ratio",
)
"""In the order in which they are applied; the user's regular expressions stand before `length`."""


class Clean(Section):
    """`[clean]`: which rules are on, and a table of settings for each."""

    rules: Literal["default"] | list[str] = "default"
    unicode: UnicodeRule = UnicodeRule()
    control_characters: ControlCharactersRule = ControlCharactersRule()
    markup: MarkupRule = MarkupRule()
    white_space: WhiteSpaceRule = WhiteSpaceRule()
    emails: EmailRule = EmailRule()
    ibans: IbanRule = IbanRule()
    cards: CardRule = CardRule()
    national_ids: NationalIdRule = NationalIdRule()
    phones: PhoneRule = PhoneRule()
    ip_addresses: IpAddressRule = IpAddressRule()
    length: LengthRule = LengthRule()
    character_ratio: CharacterRatioRule = CharacterRatioRule()
    regex: list[RegexRule] = []
    pseudonyms: Pseudonyms = Pseudonyms()

    @model_validator(mode="after")
    def _known_rules(self) -> Self:
        own = [rule.name for rule in self.regex]
        known = [*BUILT_IN_RULES, *own]
        if len(set(known)) < len(known):
            raise ValueError("two rules have the same name; rename one of [[clean.regex]]")
        if isinstance(self.rules, list):
            for name in self.rules:
                if name not in known:
                    raise ValueError(f"there is no rule {name!r}; allowed: {', '.join(known)}")
        return self

    def active(self) -> list[str]:
        """The names of the rules that are on, in the order of application (not that of the list)."""
        order = [*BUILT_IN_RULES[:-2], *(rule.name for rule in self.regex), *BUILT_IN_RULES[-2:]]
        return [name for name in order if self.rules == "default" or name in self.rules]
