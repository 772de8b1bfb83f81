"""Yes and no, in several spellings."""

from etl.normalisers import Normaliser, squeezed
from schemas.features.boolean import BooleanFeature


def normaliser(feature: BooleanFeature) -> Normaliser:
    """Return a function that gives `true` or `false`."""
    words = {squeezed(word).casefold(): "true" for word in feature.true}
    words |= {squeezed(word).casefold(): "false" for word in feature.false}
    return lambda value: words.get(squeezed(value).casefold())
