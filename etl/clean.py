"""Command of the stage `clean`: see etl/stages/clean.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages import clean
from etl.stages.command import stage_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.clean --config FILE`; return the exit status."""
    return stage_main(clean.STAGE, clean.__doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
