"""Category names: white space, case, and other spellings of a name."""

from etl.normalisers import Normaliser, squeezed
from schemas.features.category import CategoryFeature


def normaliser(feature: CategoryFeature) -> Normaliser:
    """Return a function that gives a spelling's configured name, else the squeezed value, in lower case where
    configured.
    """
    names = {
        squeezed(spelling).casefold(): name
        for name, others in feature.spellings.items()
        for spelling in (name, *others)
    }

    def normal(value: str) -> str | None:
        text = squeezed(value)
        known = names.get(text.casefold())
        if known is not None:
            return known
        return (text.lower() if feature.case == "lower" else text) or None

    return normal
