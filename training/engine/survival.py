"""Files of elastic training in the run's folder for the remaining ranks: commits as checkpoints, messages."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.progress import log
from training.checkpoints import store
from training.checkpoints.record import CheckpointState, Record

CLAIM = ".claim"


def keep_on_disk(run: Path, state: CheckpointState, facts: Mapping[str, Any]) -> None:
    """Save a committed state as a checkpoint, unless that one or a later one exists; of several ranks, one does it.

    `state` and `facts` as for `store.save`. A failure to write is reported.
    """
    folder = store.folder_of(run)
    claim = folder / CLAIM
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    except OSError as error:
        log(f"warning: the state of step {state['step']:,} could not be saved: {error}")
        return
    try:
        if any(step >= state["step"] for step in store.steps_of(run, ".json")):
            return
        last = last_on_disk(run, state["step"])
        store.save(run, state, None if last is None else last.chain, facts)
        log(f"its state of step {state['step']:,} is saved in {folder}")
    except OSError as error:
        log(f"warning: the state of step {state['step']:,} could not be saved: {error}")
    finally:
        claim.unlink(missing_ok=True)


def last_on_disk(run: Path, step: int) -> Record | None:
    """Return the newest good checkpoint that is not later than `step`."""
    found = store.last_good(run, log, at_most=step)
    return None if found is None else found[0]


def go_on_from(run: Path, step: int) -> Record | None:
    """Return the checkpoint that those after `step` will follow; set later, abandoned ones aside."""
    last = last_on_disk(run, step)
    if last is None:
        store.clear(run)
    elif aside := store.go_on_from(run, last):
        log(f"set aside as .rejected: {', '.join(aside)}")
    return last


def leave_message(run: Path, reason: str) -> None:
    """Tell the other ranks of this launch that continuing is useless; the first message stays."""
    try:
        with _message(run).open("x", encoding="utf-8") as file:
            json.dump({"reason": reason}, file)
    except OSError:
        return  # another rank's message is there already, or the others will meet the same trouble themselves


def left_message(run: Path) -> str | None:
    """Return the reason why another rank of this launch gave up; None if none did."""
    try:
        found: str = json.loads(_message(run).read_text(encoding="utf-8"))["reason"]
    except (OSError, ValueError):
        return None
    return found


def forget(run: Path) -> None:
    """Delete what earlier launches left."""
    for path in [*run.glob(".gave-up-*"), store.folder_of(run) / CLAIM]:
        path.unlink(missing_ok=True)


def launch() -> str:
    """Return a name of this launch of horovodrun that all its ranks share."""
    return "-".join(os.environ.get(f"HOROVOD_GLOO_RENDEZVOUS_{part}", "none") for part in ("ADDR", "PORT"))


def _message(run: Path) -> Path:
    return run / f".gave-up-{launch()}"
