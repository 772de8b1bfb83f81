"""encode: turns the cleaned columns into rows for a model, with what it learns from the training split alone."""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages.command import judged


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.encode --config FILE`; return the exit status."""
    arguments, config = judged("encode", __doc__, argv)
    from etl.stages import encode
    from etl.stages.running import run_stage

    return run_stage(encode.STAGE, config, arguments.again)


if __name__ == "__main__":
    sys.exit(run(main))
