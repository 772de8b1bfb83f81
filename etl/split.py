"""Command of the stage `split`: see etl/stages/split.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages import split
from etl.stages.command import stage_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.split --config FILE`; return the exit status."""
    return stage_main(split.STAGE, split.__doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
