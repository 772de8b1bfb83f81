"""`ringlake-train COMMAND …`: the modules behind `python -m training.<module>`, under one name."""

import sys
from collections.abc import Sequence

from common import command
from common.subcommands import Commands, dispatch

COMMANDS: Commands = {
    "run": ("training.train", "train on a published version (under horovodrun: one process a rank)"),
    "tune": ("training.tune", "search settings: a training a trial, the best one as a configuration file"),
    "evaluate": (
        "training.evaluate",
        "evaluate a run on the test split, beside the baselines of its objective",
    ),
    "verify": ("training.verify", "check a run's checkpoints, link by link, and the manifest behind them"),
    "batches": ("training.batches", "show which records each global batch of an epoch holds"),
    "generate": ("training.generate", "continue a text with a run that trained a language model"),
    "report": ("training.report", "write the report of a run"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console script `ringlake-train`; return the exit status of the module that it called."""
    arguments = sys.argv[1:] if argv is None else argv
    return command.run(lambda rest: dispatch("ringlake-train", COMMANDS, rest or []), arguments)


if __name__ == "__main__":
    sys.exit(main())
