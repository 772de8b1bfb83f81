"""A study that any number of processes work on: its folder, its storage, and who does which trial.

The folder `<train.runs>/<study>` holds a lock for each trial that is being trained. A trial that the storage calls
running and whose lock is free was left by a process that died; the next process goes on with it.
"""

import fcntl
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, Trial, TrialState

from common import lock
from common.command import without_passwords
from common.errors import DataError, UsageError
from schemas.tuning import Tune
from training.tracking.run_files import write_json
from training.tuning import space

FACTS_FILE: Final = "study.json"
"""What a study was begun with, in its folder and in its storage."""
DATABASE: Final = "study.db"
SECONDS_LOCKED = 60
"""Time that SQLite waits for another process of the study."""


@dataclass(frozen=True)
class Claim:
    """A trial that this process alone works on, until `held` is closed."""

    trial: Trial
    values: Mapping[str, Any]
    """By key of the configuration."""
    resumed: bool
    """True where a process that died had begun it."""
    held: ExitStack


class Study:
    """An Optuna study and its folder."""

    def __init__(self, folder: Path, settings: Tune, study: optuna.Study) -> None:
        self.folder, self.settings, self.study = folder, settings, study

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def most(self) -> int:
        """Trials of the whole study."""
        if self.settings.sampler != "grid":
            return self.settings.trials
        return min(self.settings.trials, math.prod(map(len, space.grid(self.settings.space).values())))

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number, as the storage has them now."""
        return self.study.get_trials()

    def winner(self) -> FrozenTrial | None:
        """Return the best complete trial, the first among equals; None before there is one."""
        complete = [one for one in self.trials() if one.state is TrialState.COMPLETE]
        if not complete:
            return None
        sign = -1 if self.study.direction is optuna.study.StudyDirection.MAXIMIZE else 1
        return min(complete, key=lambda one: (sign * (one.value or 0.0), one.number))

    def claim(self) -> Claim | None:
        """Claim a trial that a dead process left, or else a new one; None where no trial is left to begin."""
        with _alone(self.folder):
            for frozen in self.study.get_trials(states=(TrialState.RUNNING,)):
                if lock.holder(self._lock(frozen.number)) is None:
                    return self._claimed(Trial(self.study, frozen._trial_id), resumed=True)
            number = len(self.study.get_trials(deepcopy=False))
            if number >= self.most:
                return None
            self.study.sampler = sampler(self.settings, number)
            return self._claimed(self.study.ask(), resumed=False)

    def _claimed(self, trial: Trial, resumed: bool) -> Claim:
        held = ExitStack()
        held.enter_context(
            lock.held(str(self._lock(trial.number)), f"another process has trial {trial.number}")
        )
        self.study.sampler = sampler(self.settings, trial.number)
        return Claim(trial, space.suggest(trial, self.settings.space), resumed, held)

    def _lock(self, number: int) -> Path:
        return self.folder / f"trial-{number:04d}.lock"


def facts_in(folder: Path) -> dict[str, Any] | None:
    """Return what the study in a folder was begun with; None where none was."""
    try:
        found: dict[str, Any] = json.loads((folder / FACTS_FILE).read_bytes())
        if not all(isinstance(found[key], str) for key in ("id", "manifest")):
            raise ValueError("id and manifest are no texts")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder / FACTS_FILE} cannot be read ({error}): put it back from a copy, or begin another study"
        ) from error
    return found


@contextmanager
def opened(folder: Path, settings: Tune, facts: Mapping[str, Any], epochs: int) -> Iterator[Study]:
    """Begin a study, or go on with it; `epochs` are those of a training that nothing ends early.

    Raises UsageError where it was begun with other `facts`, or elsewhere; DataError as `_storage_told` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _storage_told(folder.name, settings), ExitStack() as closing:
        with _alone(folder):
            # Optuna makes the tables of a new storage in several steps, of which two processes would do some twice.
            storage = _storage(settings.storage or f"sqlite:///{folder / DATABASE}")
            closing.callback(storage.engine.dispose)
            closing.callback(storage.remove_session)
            study = _begun(folder, settings, facts, storage)
        study.pruner = pruner(settings, epochs)
        yield Study(folder, settings, study)


@contextmanager
def _storage_told(name: str, settings: Tune) -> Iterator[None]:
    """Raise DataError, without passwords, for a storage that fails in the middle of a search."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        why = str(error.__cause__ or error).splitlines()[0]
        told = without_passwords(f"{settings.storage or DATABASE} of the study {name!r}: {why}")
        raise DataError(
            f"the storage failed, {told}; once it answers, the same command goes on; if it is damaged, put it back "
            "from a copy, or begin another study"
        ) from error


def _begun(
    folder: Path, settings: Tune, facts: Mapping[str, Any], storage: optuna.storages.RDBStorage
) -> optuna.Study:
    """Return the study in the storage that belongs to the folder, a new one where neither has one."""
    name = folder.name
    begun, exists = facts_in(folder), name in optuna.get_all_study_names(storage)
    if begun is None and exists:
        raise UsageError(
            f"the storage has a study {name!r} already, which {folder} knows nothing of: run where its train.runs is, "
            "or give another name with --study"
        )
    if begun is not None and not exists and any(folder.glob("trial-*.log")):
        raise UsageError(
            f"the storage has no study {name!r}, of which {folder} has trials: put {DATABASE}, or what tune.storage "
            "names, back from a copy, or give another name with --study"
        )
    if begun is not None:
        _check_same(name, begun, facts)
    else:
        begun = {**facts, "id": uuid.uuid4().hex}
        write_json(folder / FACTS_FILE, begun)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize" if facts["higher_is_better"] else "minimize",
        load_if_exists=True,
    )
    if study.user_attrs.get("id", begun["id"]) != begun["id"]:
        raise UsageError(
            f"the study {name!r} in the storage was begun in another folder than {folder}: run where its train.runs "
            "is, or give another name with --study"
        )
    for key, value in begun.items():
        study.set_user_attr(key, value)
    return study


def _check_same(name: str, begun: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    for key, value in facts.items():
        # The manifest may lie elsewhere by now; its root says whether it is the same.
        if key != "manifest" and begun.get(key) != value:
            raise UsageError(
                f"the study {name!r} was begun with {key} = {json.dumps(begun.get(key), ensure_ascii=False)}, not "
                f"{json.dumps(value, ensure_ascii=False)}: put it back, or give another name with --study"
            )


def _storage(url: str) -> optuna.storages.RDBStorage:
    """Open the storage. Raises UsageError naming it, without its password, where that is not possible."""
    options = {"connect_args": {"timeout": SECONDS_LOCKED}} if url.startswith("sqlite:") else {}
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        shown = without_passwords(f"{url}: {str(error).splitlines()[0]}")
        raise UsageError(f"tune.storage cannot be opened: {shown}") from error


class _Grid(optuna.samplers.GridSampler):
    """All combinations, of which the last does not stop anything: a study knows how many trials it has."""

    def after_trial(self, *_: Any) -> None:
        pass


def sampler(settings: Tune, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for a trial.

    Its seed follows from `tune.seed` and the number, so that an interrupted study proposes the same values as another.
    """
    if settings.sampler == "grid":
        return _Grid(space.grid(settings.space), seed=settings.seed)
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    kind = optuna.samplers.TPESampler if settings.sampler == "tpe" else optuna.samplers.RandomSampler
    return kind(seed=seed)


def pruner(settings: Tune, epochs: int) -> optuna.pruners.BasePruner:
    """Return the pruner, which judges a trial by its validations, each a step of one epoch."""
    least, reduction = settings.least_epochs, settings.reduction
    match settings.pruner:
        case "median":
            return optuna.pruners.MedianPruner(n_warmup_steps=least)
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(least, reduction)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(least, max(least, epochs), reduction)
    return optuna.pruners.NopPruner()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process of the study is choosing a trial. Raises UsageError where there are no locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except OSError as error:
        if error.errno not in lock.NO_LOCKS:
            raise
        raise UsageError(f"the file system of {folder} knows no locks: set train.runs to another") from error
    finally:
        os.close(descriptor)
