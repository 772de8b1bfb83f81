"""Command of the stage `encode`: see etl/stages/encode.py."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages import encode
from etl.stages.command import stage_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.encode --config FILE`; return the exit status."""
    return stage_main(encode.STAGE, encode.__doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
