"""The command of the stage `deduplicate`: see etl/stages/deduplicate.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.runs.stage import stage_main
from etl.stages import deduplicate


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m etl.deduplicate --config FILE`; returns the exit status."""
    return stage_main(deduplicate.STAGE, deduplicate.__doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
