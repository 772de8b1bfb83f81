"""Mistakes in a configuration in words: the key, the file, what stands there and what is allowed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from common.command import HIDDEN
from common.wording import did_you_mean
from schemas import kinds

MOVED = {
    "quality.max_fate_drift": "give quality.max_outcome_drift instead",
    "train.method": 'say kind = "plain" in the section [method] instead (method.kind)',
    "train.class_weights": (
        'give balance.policy = "weights" with balance.strength = "balanced" or "square_root" instead, and publish the '
        "data set again (the stage publish is enough): the manifest states the weights"
    ),
}
"""Replacements for keys of earlier versions."""

ALLOWED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": 'text in quotes ("…")',
    "list_type": "a list ([…])",
    "dict_type": "a table of keys",
    "model_type": "a table of keys",
    "model_attributes_type": "a table of keys",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text, not an empty one",
    "string_too_long": "text of at most {max_length} character{s}",
}
"""What is allowed, by pydantic's name of the mistake; its figures are filled in."""

_NO_TABLE = ("model_type", "model_attributes_type", "list_type", "union_tag_not_found")
_UNION_BRANCHES = ("list[", "literal[")


def explain(error: ValidationError, file: Path, root: type[BaseModel], overrides: Sequence[str] = ()) -> str:
    """Return a sentence for each key with a mistake; `root` is the class of the whole configuration.

    `overrides`: what `--set` was given.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        location = _without_tags(details["loc"])
        by_key.setdefault(".".join(map(str, location)), []).append(details)
    # Of a union, a mistake within one branch says more than that another branch is not meant.
    keys = [key for key in by_key if not any(other.startswith(f"{key}.") for other in by_key)]
    return "; ".join(_sentence(key, by_key[key], _place(key, file, overrides), root) for key in keys)


def _place(key: str, file: Path, overrides: Sequence[str]) -> str:
    """Return the file, or `--set` where that gave the key."""
    given = [f"{override.partition('=')[0].strip()}." for override in overrides]
    is_given = any(one.startswith(f"{key}.") or f"{key}.".startswith(one) for one in given)
    return "--set" if is_given else str(file)


def _sentence(key: str, found: list[ErrorDetails], file: str, root: type[BaseModel]) -> str:
    details = found[0]
    kind, value, location = details["type"], details["input"], _without_tags(details["loc"])
    if kind == "extra_forbidden" and key in MOVED:
        return f"the key {key!r} in {file} is no longer known: {MOVED[key]}"
    if kind == "extra_forbidden":
        return f"unknown key {key!r} in {file}{_known_keys(details, root)}"
    if kind == "missing":
        return f"the key {key!r} is missing in {file}; it is required"
    room = kinds.ROOMS.get(str(location[0])) if location else None
    if room is not None and kind in ("union_tag_invalid", "union_tag_not_found") and isinstance(value, dict):
        known = f"allowed are {', '.join(map(repr, room.classes))}"
        if room.key not in value:
            return f"the key {f'{key}.{room.key}'!r} is missing in {file}; it is required, and {known}"
        given = value[room.key]
        guess = did_you_mean(given, room.classes)
        return f"wrong value of {f'{key}.{room.key}'!r} in {file}: {_shown(given)}{guess}; {known}"
    if room is not None and kind in _NO_TABLE and len(location) == 1 + isinstance(location[-1], int):
        # `--set objective=classification`, or [source] instead of [[source]]
        if location in (("source",), ("feature",)):
            return f"wrong value of {key!r} in {file}: {_shown(value)}; allowed is a list of tables, each a [[{key}]]"
        example = (
            value
            if isinstance(value, str) and value in room.classes
            else room.default or next(iter(room.classes))
        )
        return (
            f"wrong value of {key!r} in {file}: {_shown(value)}; allowed is a table of keys, such as "
            f"{key}.{room.key} = {example!r}"
        )
    if kind == "value_error":
        message = details["msg"].removeprefix("Value error, ")
        shown = f"{_shown(value)}; " if isinstance(value, str) and location[:1] != ("storage",) else ""
        return f"wrong value of {key!r} in {file}: {shown}{message}" if key else f"in {file}: {message}"
    shown = HIDDEN if location[:1] == ("storage",) else _shown(value)  # it may be a credential
    if kind == "literal_error" and isinstance(value, str):
        shown += did_you_mean(value, re.findall("'(.*?)'", details["ctx"]["expected"]))
    return f"wrong value of {key!r} in {file}: {shown}; allowed is {' or '.join(map(allowed, found))}"


def allowed(details: ErrorDetails) -> str:
    """Return what is allowed in place of a wrong value."""
    words = ALLOWED.get(details["type"])
    if words is None:
        return details["msg"].removeprefix("Input should be ")
    figures = {name: _figure(value) for name, value in details.get("ctx", {}).items()}
    return words.format(**figures, s="" if figures.get("max_length") == "1" else "s")


def _figure(value: Any) -> str:
    return f"{value:,}".removesuffix(".0") if isinstance(value, int | float) else str(value)


def _shown(value: Any) -> str:
    """Return a value as TOML would have it, not too long."""
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "…"


def _known_keys(details: ErrorDetails, root: type[BaseModel]) -> str:
    """Return a guess at an unknown key, and the keys that are allowed in its place."""
    name, location = str(details["loc"][-1]), _without_tags(details["loc"])
    there = _keys(_models(root, location[:-1]))
    room = kinds.ROOMS.get(str(location[0]))
    tag = next((part for part in details["loc"] if room is not None and part in room.classes), None)
    if room is None or tag is None or len(location) > 1 + isinstance(location[1], int) + 1:
        return f"{did_you_mean(name, there)}; allowed here: {', '.join(there)}"
    own = list(room.classes[str(tag)].model_fields)
    others = [kind for kind, settings in room.classes.items() if name in settings.model_fields]
    if others:
        hint = f", which {room.key} = {' or '.join(map(repr, others))} has"
    else:
        hint = did_you_mean(name, own) or did_you_mean(name, _keys(list(room.classes.values())))
    return f"{hint}; allowed with {room.key} = {tag!r}: {', '.join(own)}"


def _without_tags(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Drop what pydantic inserts for the branch of a union: `source.0.jsonl.path` becomes `source.0.path`."""
    room = kinds.ROOMS.get(str(location[0])) if location else None
    tag_at = 2 if location[:1] in (("source",), ("feature",)) else 1
    kept: list[int | str] = []
    for place, part in enumerate(location):
        is_tag = room is not None and place == tag_at and part in room.classes
        if not is_tag and not str(part).startswith(_UNION_BRANCHES):
            kept.append(part)
    return tuple(kept)


def _models(root: type[BaseModel], location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """Return the classes of the table at `location`; for a union those of all branches."""
    models = [root]
    for part in location:
        if isinstance(part, int):
            continue
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if fields:  # none: a name of the user's own in a table of tables
            models = [model for field in fields for model in _models_in(field)]
    return models


def _keys(models: list[type[BaseModel]]) -> list[str]:
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
