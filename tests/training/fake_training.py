"""Stand-in for `training.train` under a search: validations that follow from the settings alone, at once.

The learning rate decides: the nearer to 0.01, the better; above 1 the loss is not finite, and below 1e-5 the training
goes no further than its first epoch until it is stopped. Under attack, the first epoch is the best. With a file `gate`
beside the runs, nothing goes on beyond the first epoch before its text has been written to as many lines of
`calls.jsonl`.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common import json_lines, lock
from schemas.config import load
from schemas.runs import RUN_FILE
from training import train
from training.engine.stopping import STATUS, Preemption, defer, requested
from training.tracking import metrics, summary
from training.tracking.run_files import LOCK_FILE, METRICS_FILE, run_folder, write_json

SECONDS = 60
"""Longest time that anything is waited for."""


def main(argv: Sequence[str]) -> int:
    """Train as told; return the exit status."""
    arguments = train.parser().parse_args(argv)
    config = load(arguments.config, arguments.overrides)
    run = run_folder(config, arguments.run)
    calls, gate = run.parent / "calls.jsonl", run.parent / "gate"
    rate = float(getattr(config.optimizer, "learning_rate"))  # noqa: B009 (of a kind)
    with Preemption(SECONDS), lock.held(str(run / LOCK_FILE), "taken"):
        defer()
        done = len(metrics.read(run)) if arguments.resume else 0
        call = {"run": run.name, "resumed": bool(arguments.resume), "epochs_before": done, "rate": rate}
        json_lines.append(str(calls), json.dumps(call).encode())
        write_json(
            run / RUN_FILE, {"manifest_root": "0", "configuration": {"dataset": {"name": "synthetic"}}}
        )
        for epoch in range(done + 1, config.train.epochs + 1):
            if rate > 1:
                print("error: the loss or the gradient is not finite at step 1", file=sys.stderr)
                return 1
            if epoch > 1 and (not _passed(calls, gate) or (rate < 1e-5 and not _until(requested))):
                return STATUS
            value = abs(math.log10(rate / 0.01)) + 1 / epoch
            entry = {"step": epoch, "kind": "validation", "epoch": epoch, "position": epoch, "loss": value}
            entry |= {"balanced_accuracy": 1 / (1 + value), "accuracy": 1 / (1 + value)}
            if config.method.kind == "adversarial":
                entry |= {"attacked_loss": value, "attacked_balanced_accuracy": 1 / (1 + epoch)}
            json_lines.append(str(run / METRICS_FILE), json.dumps(entry).encode())
            if requested() is not None:
                return STATUS
    names = summary.Trained.__annotations__
    summary.update(run, training={**dict.fromkeys(names, 0), **_facts(rate)})
    return 0


def _facts(rate: float) -> dict[str, object]:
    texts = (
        "checkpoint",
        "checkpoint_sha256",
        "checkpoint_chain",
        "best_checkpoint",
        "best_checkpoint_sha256",
    )
    return {
        **dict.fromkeys(texts, ""),
        "best_validation": None,
        "stopped_early": False,
        "weights_sha256": f"{rate!r}",
        "world_size": 1,
    }


def _passed(calls: Path, gate: Path) -> bool:
    """Wait at the gate; return False if the training was stopped there."""
    if gate.exists():
        most = int(gate.read_text())
        _until(lambda: requested() or not gate.exists() or len(json_lines.lines(str(calls))) >= most)
    return requested() is None


def _until(happened: object) -> bool:
    """Wait until something happens; return False, so that the training ends there."""
    assert callable(happened)
    until = time.monotonic() + SECONDS
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError("nothing happened")
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
