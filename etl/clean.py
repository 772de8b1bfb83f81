"""clean: applies the active rules to the configured texts, and records the effects of each."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages.command import judged


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.clean --config FILE`; return the exit status."""
    arguments, config = judged("clean", __doc__, argv)
    from etl.stages import clean
    from etl.stages.running import run_stage

    return run_stage(clean.STAGE, config, arguments.again)


if __name__ == "__main__":
    sys.exit(run(main))
