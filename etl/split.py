"""split: assigns training, validation and test, never by row, always by cluster of duplicates and by group."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages.command import judged


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.split --config FILE`; return the exit status."""
    arguments, config = judged("split", __doc__, argv)
    from etl.stages import split
    from etl.stages.running import run_stage

    return run_stage(split.STAGE, config, arguments.again)


if __name__ == "__main__":
    sys.exit(run(main))
