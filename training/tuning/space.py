"""The space of a search: keys of the configuration, and the values that a trial may give them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from common.errors import ConfigurationError
from schemas.config import Configuration, load
from schemas.tuning import Dimension

SECTIONS = ("objective", "model", "method", "optimizer", "train", "augment")
"""Sections that a search may change; the others say what is published, where it lies, or how it is judged."""
OF_PLACES = ("train.runs", "train.backend")
"""Keys of these that say where a training is written, or how it is started."""
Space = Mapping[str, Dimension]


def check(file: str, overrides: Sequence[str], config: Configuration) -> None:
    """Raise ConfigurationError for the first key of `[tune.space]` that no search may change, or with a wrong value.

    Each value of a choice, both ends of a range, and what is a step from the first, are put in in turn.
    """
    if not config.tune.space:
        raise ConfigurationError(
            f"{file} has no [tune.space], so there is nothing to search: name keys of the configuration there, such as "
            '"optimizer.learning_rate" = { low = 1e-4, high = 1e-2, log = true }'
        )
    for key, dimension in config.tune.space.items():
        section = key.partition(".")[0]
        if section not in SECTIONS or key in OF_PLACES or section == key:
            raise ConfigurationError(
                f"tune.space has the key {key!r}, which no search can change: another value would need another "
                f"publication, or changes no training (allowed are keys of {', '.join(SECTIONS)})"
            )
        for value in dimension.samples:
            try:
                changed = load(file, [*overrides, assignment(key, value)])
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"tune.space: {key!r} cannot be {json.dumps(value, ensure_ascii=False)}: {error}"
                ) from error
            if changed.data_sections() != config.data_sections():
                raise ConfigurationError(
                    f"tune.space has the key {key!r}, which no search can change: the data set would have to be "
                    "published again"
                )


def assignment(key: str, value: Any) -> str:
    """Return the argument of `--set` that gives a key a value, exactly."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def choices(dimension: Dimension) -> list[str | int | float | bool]:
    """Return the values of a choice as Optuna can store them: lists as JSON."""
    values = dimension.values or []
    return [json.dumps(one, ensure_ascii=False) if isinstance(one, list) else one for one in values]


def chosen(dimension: Dimension, stored: Any) -> Any:
    """Return the value for the configuration of a value that Optuna stores."""
    return stored if dimension.values is None else dimension.values[choices(dimension).index(stored)]


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Return the values of a trial by key; those that an earlier process chose for it stay."""
    return {key: _suggested(trial, key, dimension) for key, dimension in space.items()}


def _suggested(trial: optuna.Trial, key: str, dimension: Dimension) -> Any:
    if dimension.values is not None:
        return chosen(dimension, trial.suggest_categorical(key, choices(dimension)))
    (low, high), step, log = dimension.ends, dimension.step, dimension.log
    if dimension.whole:
        return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=log)
    return trial.suggest_float(key, low, high, step=step, log=log)


def grid(space: Space) -> dict[str, list[Any]]:
    """Return all values of each key, as Optuna stores them."""
    return {
        key: choices(dimension) if dimension.values is not None else dimension.listed() or []
        for key, dimension in space.items()
    }
