"""Command of the stage `ingest`: see etl/stages/ingest.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.gates.limits import check_quarantine
from etl.stages import ingest
from etl.stages.command import stage_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.ingest --config FILE`; return the exit status."""
    return stage_main(ingest.STAGE, ingest.__doc__, argv, check_quarantine)


if __name__ == "__main__":
    sys.exit(run(main))
