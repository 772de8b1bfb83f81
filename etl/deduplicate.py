"""deduplicate: finds exact and near-duplicates among the cleaned texts, and the survivor of each cluster."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages.command import judged


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.deduplicate --config FILE`; return the exit status."""
    arguments, config = judged("deduplicate", __doc__, argv)
    from etl.stages import deduplicate
    from etl.stages.running import run_stage

    return run_stage(deduplicate.STAGE, config, arguments.again)


if __name__ == "__main__":
    sys.exit(run(main))
