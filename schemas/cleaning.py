"""`[clean]`: the cleaning rules by name, their order, and the settings of each."""

import re
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from common.sections import Name, NonEmpty, Positive, Section, Share


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


Pattern = Annotated[NonEmpty, AfterValidator(_compiles)]
"""A regular expression."""


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
    """Keys that all rules about personal data share."""

    action: Literal["mask", "pseudonym", "drop"] = "mask"
    """`pseudonym`: a keyed hash of the value, the same wherever the value stands; `drop` leaves the record out."""
    mask: str


class EmailRule(PersonalDataRule):
    mask: str = "<email>"


class PhoneRule(PersonalDataRule):
    mask: str = "<phone>"
    regions: list[Annotated[str, Field(pattern=r"^[A-Z]{2}$")]] = ["US"]
    """Numbers without a country code are tried as numbers of these regions."""
    look_alikes: list[Pattern] = []
    """A number inside a match of one of these patterns, which see 80 characters before it and 12 after it, stays."""


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
    pattern: Pattern
    replace: str | None = None
    drop: bool = False

    @model_validator(mode="after")
    def _one_effect(self) -> Self:
        if (self.replace is None) != self.drop:
            raise ValueError("a regex rule takes either `replace` or `drop = true`")
        try:
            re.sub(self.pattern, self.replace or "", "")
        except (re.error, IndexError) as error:
            raise ValueError(f"`replace` does not fit the pattern: {error}") from error
        return self


class WordCountRule(Section):
    minimum: Annotated[int, Field(ge=0)] = 50
    maximum: Positive = 100_000


class WordLengthRule(Section):
    minimum: Annotated[float, Field(ge=0)] = 3
    maximum: Annotated[float, Field(gt=0)] = 10
    """Characters of a word on average."""


class AlphabeticWordsRule(Section):
    minimum: Share = 0.8
    """The smallest share of words with a letter in them."""


class StopWordsRule(Section):
    words: Annotated[list[NonEmpty], Field(min_length=1)] = [
        "the", "be", "to", "of", "and", "that", "have", "with",
    ]  # fmt: skip
    minimum: Positive = 2
    """So many different ones of the words have to occur."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.minimum > len({word.casefold() for word in self.words}):
            raise ValueError("`minimum` asks for more different words than `words` has")
        return self


class SymbolRatioRule(Section):
    symbols: Annotated[list[NonEmpty], Field(min_length=1)] = ["#", "...", "…"]
    maximum: Annotated[float, Field(ge=0)] = 0.1
    """Occurrences of any one of them, for each word."""


class DigitRatioRule(Section):
    maximum: Share = 0.3
    """The largest share of digits among the characters that are not white space."""


class BulletLinesRule(Section):
    maximum: Share = 0.9
    """The largest share of lines that begin with one of the bullets."""
    bullets: NonEmpty = "•‣⁃◦●▪*-"


class EllipsisLinesRule(Section):
    maximum: Share = 0.3
    """The largest share of lines that end with an ellipsis."""


class RepeatedLinesRule(Section):
    maximum_lines: Share = 0.3
    """The largest share of lines that repeat an earlier one of the same text."""
    maximum_characters: Share = 0.2
    """The largest share of characters in such lines."""


class RepeatedParagraphsRule(Section):
    maximum_paragraphs: Share = 0.3
    maximum_characters: Share = 0.2


class RepeatedNgramsRule(Section):
    """Largest shares of characters: in the most frequent n-gram of words, in n-grams that repeat an earlier one."""

    most_frequent_2: Share = 0.20
    most_frequent_3: Share = 0.18
    most_frequent_4: Share = 0.16
    repeated_5: Share = 0.15
    repeated_6: Share = 0.14
    repeated_7: Share = 0.13
    repeated_8: Share = 0.12
    repeated_9: Share = 0.11
    repeated_10: Share = 0.10


class BoilerplateLinesRule(Section):
    phrases: Annotated[list[NonEmpty], Field(min_length=1)] = [
        "cookie policy", "use cookies", "use of cookies", "uses cookies", "enable javascript", "privacy policy",
        "terms of use", "click here to", "sign up for our newsletter", "share this:",
    ]  # fmt: skip
    """In whatever case."""
    longest: Positive = 200
    """A line with more characters than this is no navigation, and stays whatever it says."""


class LanguageRule(Section):
    languages: Annotated[list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]], Field(min_length=1)] = ["en"]
    """Codes of ISO 639: records in one of them stay."""
    minimum_score: Share = 0.65
    """How sure the model has to be that it is one of them."""
    minimum_letters: Annotated[int, Field(ge=0)] = 20
    """Texts with fewer letters say too little about their language, and stay."""


EDITS = (
    "unicode",
    "control_characters",
    "markup",
    "boilerplate_lines",
    "white_space",
    "emails",
    "ibans",
    "cards",
    "national_ids",
    "phones",
    "ip_addresses",
)
FILTERS = (
    "length",
    "character_ratio",
    "word_count",
    "word_length",
    "alphabetic_words",
    "stop_words",
    "symbol_ratio",
    "digit_ratio",
    "bullet_lines",
    "ellipsis_lines",
    "repeated_lines",
    "repeated_paragraphs",
    "repeated_ngrams",
    "language",
)
BUILT_IN_RULES = (*EDITS, *FILTERS)
"""In the order in which they are applied; the user's regular expressions stand between edits and filters."""
ON_REQUEST = frozenset({"boilerplate_lines", *FILTERS[2:]})
"""Not among the default rules: they suit running text of some length, or one language."""
DEFAULT: Final = "default"
"""In the list of rules it stands for all those that are not on request."""


class Clean(Section):
    """`[clean]`: which rules are on, and a table of settings for each."""

    rules: Literal["default"] | list[str] = DEFAULT
    unicode: UnicodeRule = UnicodeRule()
    control_characters: ControlCharactersRule = ControlCharactersRule()
    markup: MarkupRule = MarkupRule()
    boilerplate_lines: BoilerplateLinesRule = BoilerplateLinesRule()
    white_space: WhiteSpaceRule = WhiteSpaceRule()
    emails: EmailRule = EmailRule()
    ibans: IbanRule = IbanRule()
    cards: CardRule = CardRule()
    national_ids: NationalIdRule = NationalIdRule()
    phones: PhoneRule = PhoneRule()
    ip_addresses: IpAddressRule = IpAddressRule()
    length: LengthRule = LengthRule()
    character_ratio: CharacterRatioRule = CharacterRatioRule()
    word_count: WordCountRule = WordCountRule()
    word_length: WordLengthRule = WordLengthRule()
    alphabetic_words: AlphabeticWordsRule = AlphabeticWordsRule()
    stop_words: StopWordsRule = StopWordsRule()
    symbol_ratio: SymbolRatioRule = SymbolRatioRule()
    digit_ratio: DigitRatioRule = DigitRatioRule()
    bullet_lines: BulletLinesRule = BulletLinesRule()
    ellipsis_lines: EllipsisLinesRule = EllipsisLinesRule()
    repeated_lines: RepeatedLinesRule = RepeatedLinesRule()
    repeated_paragraphs: RepeatedParagraphsRule = RepeatedParagraphsRule()
    repeated_ngrams: RepeatedNgramsRule = RepeatedNgramsRule()
    language: LanguageRule = LanguageRule()
    regex: list[RegexRule] = []
    pseudonyms: Pseudonyms = Pseudonyms()

    @model_validator(mode="after")
    def _known_rules(self) -> Self:
        own = [rule.name for rule in self.regex]
        known = [*BUILT_IN_RULES, *own]
        if len({DEFAULT, *known}) <= len(known):
            raise ValueError("two rules have the same name; rename one of [[clean.regex]]")
        for name in self.rules if isinstance(self.rules, list) else ():
            if name not in (DEFAULT, *known):
                raise ValueError(f"there is no rule {name!r}; allowed: {DEFAULT}, {', '.join(known)}")
        return self

    def active(self) -> list[str]:
        """Return the names of the rules that are on, in the order of application (not that of the list)."""
        order = [*EDITS, *(rule.name for rule in self.regex), *FILTERS]
        on = {DEFAULT} if self.rules == DEFAULT else set(self.rules)
        if DEFAULT in on:
            on |= set(order) - ON_REQUEST
        return [name for name in order if name in on]
