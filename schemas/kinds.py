"""Unions of the kinds of sources, features, models, objectives, methods and optimizers, for validation.

They are built from the folders (common/kinds.py), so that an error about a misspelt key or kind names what is
allowed.
"""

import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import Discriminator, Tag

from common import kinds
from common.errors import UsageError
from common.sections import Section
from schemas.features import FeatureSettings
from schemas.methods import MethodSettings
from schemas.models import ModelSettings
from schemas.objectives import ObjectiveSettings
from schemas.optimizers import OptimizerSettings
from schemas.sources import SourceSettings


@dataclass(frozen=True)
class Room:
    """Folder below `schemas/` with one settings class a kind."""

    name: str
    key: str
    """TOML key that names the kind."""
    default: str | None
    """Kind where the key is absent; None: it is required."""

    @functools.cached_property
    def classes(self) -> dict[str, type[Section]]:
        """Settings classes by kind.

        Raises UsageError where a module does not have exactly one, of the expected name.
        """
        return {
            kind: self._class(name) for kind, name in sorted(kinds.modules(f"schemas.{self.name}").items())
        }

    def _class(self, name: str) -> type[Section]:
        module = kinds.imported(name)
        kind = name.rpartition(".")[2]
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Section)
            and value.__module__ == name
            and self.key in value.model_fields
            and get_origin(value.model_fields[self.key].annotation) is Literal
        ]
        if len(found) != 1 or get_args(found[0].model_fields[self.key].annotation) != (kind,):
            raise UsageError(
                f"{module.__file__} must have one settings class with `{self.key}: Literal[{kind!r}]`, the name of "
                "the file"
            )
        return found[0]

    def kind_of(self, value: Any) -> str | None:
        """Return the kind of a table, raw from the TOML or validated."""
        if isinstance(value, dict):
            kind = value.get(self.key, self.default)
            return kind if isinstance(kind, str) else None
        return getattr(value, self.key, None) if isinstance(value, Section) else None

    def union(self) -> Any:
        """Return pydantic's type of a table of any of the kinds."""
        if len(self.classes) == 1:  # pydantic has no union of one; its literal names the allowed kind as well
            return next(iter(self.classes.values()))
        tagged = [Annotated[settings, Tag(kind)] for kind, settings in self.classes.items()]
        return Annotated[functools.reduce(operator.or_, tagged), Discriminator(self.kind_of)]

    def default_settings(self) -> Any:
        """Return the settings of the default kind, all keys at their defaults."""
        assert self.default is not None
        return self.classes[self.default]()


SOURCES = Room("sources", "format", None)
FEATURES = Room("features", "encode", "tokens")
MODELS = Room("models", "kind", "transformer_classifier")
OBJECTIVES = Room("objectives", "kind", "classification")
METHODS = Room("methods", "kind", "plain")
OPTIMIZERS = Room("optimizers", "kind", "adamw")
ROOMS = {
    "source": SOURCES,
    "feature": FEATURES,
    "model": MODELS,
    "objective": OBJECTIVES,
    "method": METHODS,
    "optimizer": OPTIMIZERS,
}
"""By section of the configuration."""

DEFECTS: list[UsageError] = []
"""Faults of kinds, found while this module is imported; raised when a configuration is read, as a sentence."""


def _union(room: Room) -> Any:
    try:
        return room.union()
    except UsageError as error:
        DEFECTS.append(error)
        return Any


if TYPE_CHECKING:
    AnySource = SourceSettings
    AnyFeature = FeatureSettings
    AnyModel = ModelSettings
    AnyObjective = ObjectiveSettings
    AnyMethod = MethodSettings
    AnyOptimizer = OptimizerSettings
else:
    AnySource = _union(SOURCES)
    AnyFeature = _union(FEATURES)
    AnyModel = _union(MODELS)
    AnyObjective = _union(OBJECTIVES)
    AnyMethod = _union(METHODS)
    AnyOptimizer = _union(OPTIMIZERS)
