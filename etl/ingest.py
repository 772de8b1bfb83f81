"""ingest: reads the sources into bronze, each record either into `records` or into `quarantine`."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages.command import judged


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.ingest --config FILE`; return the exit status."""
    arguments, config = judged("ingest", __doc__, argv)
    from etl.sources.columns import check_columns

    check_columns(config)

    from etl.gates.limits import check_quarantine
    from etl.stages import ingest
    from etl.stages.running import run_stage

    return run_stage(ingest.STAGE, config, arguments.again, check_quarantine)


if __name__ == "__main__":
    sys.exit(run(main))
