"""The command of the stage `encode`: see etl/stages/encode.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.runs.stage import stage_main
from etl.stages import encode


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m etl.encode --config FILE`; returns the exit status."""
    return stage_main(encode.STAGE, encode.__doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
