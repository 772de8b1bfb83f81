"""What elastic training keeps in the run's folder for the ranks that are left: checkpoints of commits, and messages."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.progress import log
from training.checkpoints import store

CLAIM = ".claim"


def keep_on_disk(run: Path, state: store.State, facts: Mapping[str, Any]) -> None:
    """Makes a committed state a checkpoint, unless that or a later one is there; of several ranks one does it.

    `state` and `facts` as for `store.save`. Where it cannot be written, that is told.
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


def last_on_disk(run: Path, step: int) -> store.Record | None:
    """The newest good checkpoint that is not later than a step."""
    found = store.last_good(run, log, at_most=step)
    return None if found is None else found[0]


def go_on_from(run: Path, step: int) -> store.Record | None:
    """The checkpoint that those after `step` follow; later ones, of a course that is left, are set aside."""
    last = last_on_disk(run, step)
    if last is None:
        store.clear(run)
    elif aside := store.go_on_from(run, last):
        log(f"set aside as .rejected: {', '.join(aside)}")
    return last


def leave_message(run: Path, reason: str) -> None:
    """Tells the other ranks of this launch that going on is of no use; the first message stays."""
    try:
        with _message(run).open("x", encoding="utf-8") as file:
            json.dump({"reason": reason}, file)
    except OSError:
        return  # another rank's stands there already, or the others will meet the same trouble themselves


def left_message(run: Path) -> str | None:
    """Why another rank of this launch gave up, where one did."""
    try:
        found: str = json.loads(_message(run).read_text(encoding="utf-8"))["reason"]
    except (OSError, ValueError):
        return None
    return found


def forget(run: Path) -> None:
    """Deletes what earlier launches left."""
    for path in [*run.glob(".gave-up-*"), store.folder_of(run) / CLAIM]:
        path.unlink(missing_ok=True)


def _message(run: Path) -> Path:
    launch = "-".join(os.environ.get(f"HOROVOD_GLOO_RENDEZVOUS_{part}", "none") for part in ("ADDR", "PORT"))
    return run / f".gave-up-{launch}"
