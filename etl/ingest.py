"""The command of the stage `ingest`: see etl/stages/ingest.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.gates.limits import check_quarantine
from etl.runs.stage import stage_main
from etl.stages import ingest


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m etl.ingest --config FILE`; returns the exit status."""
    return stage_main(ingest.STAGE, ingest.__doc__, argv, check_quarantine)


if __name__ == "__main__":
    sys.exit(run(main))
