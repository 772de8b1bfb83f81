"""The winner of a study as a configuration file that trains the same weights again."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import tomli_w
from optuna.trial import FrozenTrial

from common import command, files
from common.errors import CheckError, DataError
from schemas.config import load
from schemas.overrides import apply
from training.tuning import space
from training.tuning.study import Study

WINNER_FILE: Final = "winner.toml"


def write(
    study: Study, winner: FrozenTrial, file: str, overrides: Sequence[str], facts: Mapping[str, str]
) -> Path:
    """Write the whole configuration of a trial to the study's folder, and `facts` as comments at its head.

    Paths stay as they are, relative to the folder where commands are run. What `--set` gave to `[storage]` is left out,
    since it may be a credential. Raises CheckError where the file would not be read as the configuration of the trial.
    """
    document: dict[str, Any] = tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))
    document.pop("tune", None)
    shown = [
        one
        for one in overrides
        if not one.startswith("tune.") and command.without_credentials([one]) == [one]
    ]
    for one in [*shown, *assignments(study, winner)]:
        apply(document, one)
    head = "".join(f"# {name}: {text}\n" for name, text in facts.items())
    path = study.folder / WINNER_FILE
    try:
        files.write(path, f"{head}\n{tomli_w.dumps(document)}".encode())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {files.told(error)}") from error
    if load(path).sha256() != winner.user_attrs["configuration_sha256"]:
        raise CheckError(
            f"{path} is not read as the configuration of trial {winner.number}: is {file} still the one that the study "
            "was begun with?"
        )
    return path


def assignments(study: Study, trial: FrozenTrial) -> list[str]:
    """Return what a trial gives to `--set`."""
    return [
        space.assignment(key, space.chosen(dimension, trial.params[key]))
        for key, dimension in study.settings.space.items()
    ]
