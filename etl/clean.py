"""The command of the stage `clean`: see etl/stages/clean.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.runs.stage import stage_main
from etl.stages import clean


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m etl.clean --config FILE`; returns the exit status."""
    return stage_main(clean.STAGE, clean.__doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
