"""Keys of a configuration overridden on the command line: `--set section.key=value`, the value in TOML or bare."""

import tomllib
from typing import Any

from common.command import without_credentials
from common.errors import ConfigurationError


def apply(document: dict[str, Any], override: str) -> None:
    """Put the value of an override into a configuration, in place.

    Raises ConfigurationError for one that is no assignment, or whose key leads nowhere.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    (shown,) = without_credentials([override])
    if not equals or not all(parts):
        raise ConfigurationError(f"--set {shown!r} is not of the form section.key=value, e.g. train.epochs=1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    here: Any = document
    for part in parts[:-1]:
        if isinstance(here, list):
            here = here[_index(here, part, shown)]
        elif isinstance(here, dict):
            here = here.setdefault(part, {})
        else:
            raise ConfigurationError(f"--set {shown!r}: {part!r} is below a key that is not a table")
    if isinstance(here, list):
        here[_index(here, parts[-1], shown)] = value
    elif isinstance(here, dict):
        here[parts[-1]] = value
    else:
        raise ConfigurationError(f"--set {shown!r}: {parts[-1]!r} is below a key that is not a table")


def _index(items: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise ConfigurationError(
            f"--set {override!r}: {part!r} must be the number of an entry, 0 to {len(items) - 1}"
        )
    return int(part)
