"""The command of the stage `split`: see etl/stages/split.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.runs.stage import stage_main
from etl.stages import split


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m etl.split --config FILE`; returns the exit status."""
    return stage_main(split.STAGE, split.__doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
