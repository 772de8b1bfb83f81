"""`[clean]`: the cleaning rules by name, their order, and the settings of each."""

import re
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from common.sections import Name, NonEmpty, Positive, Section, Share, of_form
from common.wording import did_you_mean


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


Pattern = Annotated[NonEmpty, AfterValidator(_compiles)]
"""Regular expression."""


class UnicodeRule(Section):
    form: Literal["NFC", "NFKC"] = "NFC"


class ControlCharactersRule(Section):
    keep: str = "\n\t"


class MarkupRule(Section):
    entities: bool = True
    """Resolve character references such as `&amp;` as well."""


class WhiteSpaceRule(Section):
    blank_lines: Annotated[int, Field(ge=0)] = 1
    """Largest number of consecutive blank lines that stay."""


class PersonalDataRule(Section):
    """Keys that all rules about personal data share."""

    action: Literal["mask", "pseudonym", "drop"] = "mask"
    """`pseudonym`: a keyed hash of the value, equal wherever the value occurs; `drop` leaves the record out."""
    mask: str


class EmailRule(PersonalDataRule):
    mask: str = "<email>"


class PhoneRule(PersonalDataRule):
    mask: str = "<phone>"
    regions: list[Annotated[str, of_form("[A-Z]{2}", "the two capitals of a country, such as US or DE")]] = [
        "US"
    ]
    """Try numbers without a country code as numbers of these regions."""
    look_alikes: list[Pattern] = []
    """Keep a number inside a match of one of these patterns, which see 80 characters before it and 12 after it."""


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
    """Countries whose numbers are searched for. None by default: a number of one country can be anything in another."""


class Pseudonyms(Section):
    """`[clean.pseudonyms]`: the source of the secret key from which `action = "pseudonym"` derives pseudonyms."""

    key_variable: NonEmpty = "RINGLAKE_PSEUDONYM_KEY"
    """Name of an environment variable of the process that starts Spark."""
    key_file: NonEmpty | None = None
    """Alternative to the variable: a file that this process can read."""


class LengthRule(Section):
    minimum: Annotated[int, Field(ge=0)] = 1
    maximum: Positive = 1_000_000
    """In characters, after the edits of the other rules."""


class CharacterRatioRule(Section):
    minimum_letters: Share = 0.2
    """Smallest share of letters and digits among the characters that are not white space."""


class RegexRule(Section):
    """User-defined rule: replaces matches, or with `drop = true` filters the record out."""

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
    """Average characters of a word."""


class AlphabeticWordsRule(Section):
    minimum: Share = 0.8
    """Smallest share of words with a letter in them."""


class StopWordsRule(Section):
    words: Annotated[list[NonEmpty], Field(min_length=1)] = [
        "the", "be", "to", "of", "and", "that", "have", "with",
    ]  # fmt: skip
    minimum: Positive = 2
    """Smallest number of different stop words that have to occur."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.minimum > len({word.casefold() for word in self.words}):
            raise ValueError("`minimum` asks for more different words than `words` has")
        return self


class SymbolRatioRule(Section):
    symbols: Annotated[list[NonEmpty], Field(min_length=1)] = ["#", "...", "…"]
    maximum: Annotated[float, Field(ge=0)] = 0.1
    """Occurrences of any one symbol for each word."""


class DigitRatioRule(Section):
    maximum: Share = 0.3
    """Largest share of digits among the characters that are not white space."""


class BulletLinesRule(Section):
    maximum: Share = 0.9
    """Largest share of lines that begin with a bullet."""
    bullets: NonEmpty = "•‣⁃◦●▪*-"


class EllipsisLinesRule(Section):
    maximum: Share = 0.3
    """Largest share of lines that end with an ellipsis."""


class RepeatedLinesRule(Section):
    maximum_lines: Share = 0.3
    """Largest share of lines that repeat an earlier line of the text."""
    maximum_characters: Share = 0.2
    """Largest share of characters in such lines."""


class RepeatedParagraphsRule(Section):
    maximum_paragraphs: Share = 0.3
    maximum_characters: Share = 0.2


class RepeatedNgramsRule(Section):
    """Largest shares of characters: in the most frequent n-gram of words, and in n-grams that repeat an earlier one."""

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
    """Compared without regard to case."""
    longest: Positive = 200
    """Keep lines longer than this, in characters, whatever they say: they are no navigation."""


LanguageCode = Annotated[str, of_form("[a-z]{2,3}", "codes of ISO 639, such as en or deu")]


class LanguageRule(Section):
    languages: Annotated[list[LanguageCode], Field(min_length=1)] = ["en"]
    """ISO 639 codes of the languages whose records stay."""
    minimum_score: Share = 0.65
    """Smallest probability, by the model, that the text is in one of the languages."""
    minimum_letters: Annotated[int, Field(ge=0)] = 20
    """Keep texts with fewer letters, which say too little about their language."""


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
"""In order of application; the user's regular expressions run between edits and filters."""
ON_REQUEST = frozenset({"boilerplate_lines", *FILTERS[2:]})
"""Rules that are off by default: they suit running text of some length, or one language."""
Preset = Literal["default", "web", "code", "none"]
DEFAULT: Final = "default"
PRESETS: dict[str, frozenset[str]] = {
    DEFAULT: frozenset(BUILT_IN_RULES) - ON_REQUEST,
    # Stop words and language are about one language, which is for the user to say.
    "web": frozenset(BUILT_IN_RULES) - {"stop_words", "language"},
    # Indentation and tags are part of the code, and lines of signs are no sign of damage.
    "code": frozenset(EDITS) - {"markup", "boilerplate_lines", "white_space"} | {"length"},
    "none": frozenset(),
}
"""Rules by the name that stands for them, alone or in a list; all but `none` bring the user's own rules as well."""


class Clean(Section):
    """`[clean]`: the rules that are on, and a table of settings for each."""

    rules: Preset | list[str] = DEFAULT
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
        if len({*PRESETS, *known}) < len(PRESETS) + len(known):
            raise ValueError("two rules have the same name; rename one of [[clean.regex]]")
        for name in self.rules if isinstance(self.rules, list) else ():
            if name not in (*PRESETS, *known):
                names = [*PRESETS, *known]
                guess = did_you_mean(name, names)
                raise ValueError(f"there is no rule {name!r}{guess} for `rules`; allowed: {', '.join(names)}")
        return self

    def active(self) -> list[str]:
        """Return the names of the rules that are on, in order of application (not of the list)."""
        order = [*EDITS, *(rule.name for rule in self.regex), *FILTERS]
        on = {self.rules} if isinstance(self.rules, str) else set(self.rules)
        for preset in on & PRESETS.keys() - {"none"}:
            on |= PRESETS[preset] | {rule.name for rule in self.regex}
        return [name for name in order if name in on]
