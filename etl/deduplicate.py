"""Command of the stage `deduplicate`: see etl/stages/deduplicate.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages import deduplicate
from etl.stages.command import stage_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.deduplicate --config FILE`; return the exit status."""
    return stage_main(deduplicate.STAGE, deduplicate.__doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
