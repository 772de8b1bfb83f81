"""One trial: a training of its own process, or its own horovodrun, watched by what it writes about its validations."""

import ctypes
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import TrialState

from common import lock
from common.command import without_credentials
from common.errors import RinglakeError, UsageError
from common.progress import log
from schemas.config import Configuration, load
from training.checkpoints.record import Criterion
from training.engine import stopping
from training.engine.validation import deciding
from training.tracking import metrics, summary
from training.tracking.run_files import LOCK_FILE, METRICS_FILE
from training.tuning import space
from training.tuning.study import Claim, Study

TRAINER: list[str] = [sys.executable, "-m", "training.train"]
HOROVODRUN: Final = Path(sys.executable).with_name("horovodrun")
POLL = 0.2
"""Seconds between two looks at a training."""
PATIENCE = 60
"""Seconds beyond `train.grace` that a training has to end after a signal; then it is killed."""
PR_SET_PDEATHSIG = 1
_ERROR = re.compile(r"error: (.*)")


@dataclass(frozen=True)
class Setting:
    """Everything that all trials of a study have in common."""

    file: str
    """Configuration file."""
    overrides: Sequence[str]
    """Values of `--set` and `--root`, for the configuration as this process reads it."""
    given: Sequence[str]
    """Flags that give a training the same configuration."""
    manifest: str
    ranks: int
    hosts: str | None
    metric: str
    criterion: str
    """Result that decides which checkpoint of a trial is the best."""
    higher_is_better: bool
    """Says so of the criterion."""

    def run_of(self, study: Study, number: int) -> str:
        """Return the name of a trial's run: beside the other runs, so that verification and erasure find it."""
        return f"{study.name}-trial-{number:04d}"

    def launcher(self) -> list[str]:
        """Return the beginning of the command line of a training; empty for a single process."""
        if self.ranks == 1:
            return []
        return [
            str(HOROVODRUN), "-np", str(self.ranks), "-H", self.hosts or f"localhost:{self.ranks}", "--gloo",
        ]  # fmt: skip

    def command(self, run: str, values: Mapping[str, Any], resumed: bool) -> list[str]:
        """Return the command line of a trial's training."""
        sets = [part for key, value in values.items() for part in ("--set", space.assignment(key, value))]
        how = ["--resume=auto"] if resumed else []
        return [
            *self.launcher(), *TRAINER, *self.given, "--manifest", self.manifest, *sets, "--run", run, *how,
        ]  # fmt: skip


class Stopped(Exception):
    """The search was told to stop; the trial goes on when it is started again."""


def run(study: Study, claim: Claim, setting: Setting) -> TrialState:
    """Train one trial to its end and tell the study; return how it ended.

    Raises Stopped when the search is told to stop, and UsageError where validations have no such metric.
    """
    trial, name = claim.trial, setting.run_of(study, claim.trial.number)
    sets = [space.assignment(key, value) for key, value in claim.values.items()]
    shown = ", ".join(sets)
    try:
        config = load(setting.file, [*setting.overrides, *sets])
    except RinglakeError as error:  # values that are allowed each, but not together
        return _failed(study, trial, str(error))
    trial.set_user_attr("run", name)
    trial.set_user_attr("configuration_sha256", config.sha256())
    log(f"trial {trial.number}{' goes on' if claim.resumed else ''}: {shown}")
    training = Training(study, claim, setting, config, name)
    training.settle()
    try:
        found = training.watch()
    except UsageError as error:
        _failed(study, trial, str(error))
        raise
    for key, value in found.items():
        trial.set_user_attr(key, value)
    if training.pruned:
        study.study.tell(trial, state=TrialState.PRUNED)
        log(f"trial {trial.number} ended early, after {found['epochs']} of {config.train.epochs} epochs")
        return TrialState.PRUNED
    if "error" in found:
        return _failed(study, trial, found["error"])
    study.study.tell(trial, found["value"])
    log(f"trial {trial.number}: {setting.metric} {found['value']:.6g}")
    return TrialState.COMPLETE


def _failed(study: Study, trial: optuna.Trial, message: str) -> TrialState:
    trial.set_user_attr("error", message)
    study.study.tell(trial, state=TrialState.FAIL)
    log(f"trial {trial.number} failed: {message}")
    return TrialState.FAIL


class Training:
    """The training of a trial."""

    def __init__(
        self, study: Study, claim: Claim, setting: Setting, config: Configuration, name: str
    ) -> None:
        self.trial, self.setting, self.config = claim.trial, setting, config
        self.values, self.resumed, self.name = claim.values, claim.resumed, name
        self.folder = Path(config.train.runs) / name
        self.log_file = study.folder / f"trial-{claim.trial.number:04d}.log"
        before = study.trials()[claim.trial.number]
        self.reported = set(before.intermediate_values)
        self.pruned: bool = before.user_attrs.get("pruned", False)
        self._seen = -1

    def watch(self) -> dict[str, Any]:
        """Train; return what is to be kept of it: `value`, or `error`, and what the run says of itself."""
        began, status = (0, stopping.STATUS) if self.pruned else self._run_once(self.resumed)
        while status == stopping.STATUS and not self.pruned and stopping.requested() is None:
            log(f"the training of trial {self.trial.number} was stopped by a signal; it goes on")
            began, status = self._run_once(resume=True)
        validations = self._validations()
        found: dict[str, Any] = {
            "epochs": max([0, *(entry["epoch"] for entry in validations)]),
            "epochs_configured": self.config.train.epochs,
        }
        if self.pruned:
            return found
        if status != 0:
            message = self._message(began)
            if stopping.requested() is not None and (status == stopping.STATUS or message is None):
                raise Stopped
            return found | {"error": message or self._ended_by(status)}
        best = self._best(validations)
        if best is None:
            return found | {"error": f"no validation has a finite {self.setting.criterion}"}
        training = summary.read(self.folder).get("training", {})
        names = ("weights_sha256", "best_checkpoint_sha256", "best_step", "steps", "world_size")
        return (
            found
            | {"value": best[self.setting.metric], "epoch": best["epoch"]}
            | {name: training.get(name) for name in names}
        )

    def _run_once(self, resume: bool) -> tuple[int, int]:
        """Start the training and watch it; return where its part of the log begins, and its status."""
        command = self.setting.command(self.name, self.values, resume)
        libc, parent = ctypes.CDLL(None), os.getpid()

        def end_with_parent() -> None:
            # However this process ends, the training then writes a checkpoint, and is found stopped.
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(stopping.STATUS)

        with self.log_file.open("ab") as output:
            began = output.tell()
            output.write(f"$ {shlex.join(without_credentials(command))}\n".encode())
            output.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        try:
            return began, self._watched(process)
        finally:
            self._end(process)

    def _watched(self, process: "subprocess.Popen[bytes]") -> int:
        told = False
        while True:
            status = process.poll()  # first, so that nothing it has written is missed
            self._report()
            if status is not None:
                return status
            if not told and (self.pruned or stopping.requested() is not None):
                process.send_signal(signal.SIGTERM)
                told, since = True, time.monotonic()
            if told and time.monotonic() - since > self.config.train.grace + PATIENCE:
                self._end(process)
            time.sleep(POLL)

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """End what is left of a training at once."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _report(self) -> None:
        """Report the validations since the last look, until the study gives the trial up.

        Raises UsageError where a validation has no such metric.
        """
        file = self.folder / METRICS_FILE
        size = file.stat().st_size if file.exists() else 0
        if self.pruned or size == self._seen:
            return
        self._seen = size
        for entry in self._validations():
            epoch = entry["epoch"]
            known = sorted({"loss", *entry} - metrics.BESIDE_RESULTS)
            if self.setting.metric not in known:
                raise UsageError(
                    f"tune.metric = {self.setting.metric!r} is no result of a validation, which has "
                    f"{', '.join(known)}: set one of these, and begin another study"
                )
            value = entry[self.setting.metric]
            if epoch in self.reported or value is None:
                continue
            self.reported.add(epoch)
            self.trial.report(value, epoch)
            # After the last epoch there is nothing to save.
            if epoch < self.config.train.epochs and self.trial.should_prune():
                self.pruned = True
                # Before the signal, so that a search that dies here keeps to it.
                self.trial.set_user_attr("pruned", True)
                return

    def _validations(self) -> list[dict[str, Any]]:
        return [entry for entry in metrics.read(self.folder) if entry["kind"] == "validation"]

    def _best(self, validations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Return the validation of the best checkpoint, which an evaluation takes; the first among equals."""

        def score(entry: Mapping[str, Any]) -> float:
            name, higher = deciding(self.setting.criterion, entry), self.setting.higher_is_better
            found = Criterion(name=name, value=entry.get(name), higher_is_better=higher).score
            return -math.inf if found is None or entry.get(self.setting.metric) is None else found

        best = max(validations, key=score, default=None)
        return None if best is None or score(best) == -math.inf else best

    def _message(self, began: int) -> str | None:
        """Return the last message of the training whose part of the log begins there; None without any."""
        with self.log_file.open("rb") as file:
            file.seek(began)
            told = _ERROR.findall(file.read().decode(errors="replace"))
        return told[-1] if told else None

    def _ended_by(self, status: int) -> str:
        """Say how a training ended that said nothing itself."""
        number = -status if status < 0 else status - 128
        if number not in set(signal.Signals):
            return f"ended with the status {status}, see {self.log_file}"
        memory = ", as when memory runs out" if number == signal.SIGKILL else ""
        return f"killed by {signal.Signals(number).name}{memory}"

    def settle(self) -> None:
        """Wait for the training that a search left behind when it died, and that is writing its checkpoint now.

        Raises UsageError where it does not end.
        """
        until = time.monotonic() + self.config.train.grace + PATIENCE
        while (holder := lock.holder(self.folder / LOCK_FILE)) is not None:
            if time.monotonic() > until or stopping.requested() is not None:
                raise UsageError(
                    f"another training is writing the run {self.name!r} ({lock.described(holder)}): {lock.WAIT}"
                )
            time.sleep(POLL)
