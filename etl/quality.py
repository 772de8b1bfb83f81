"""The quality gates, as Great Expectations on the aggregated summary, and its Data Docs.

A gate that fails stops the publication with exit status 3. Report and Data Docs are written before that, so that a
failed attempt can be looked at.
"""

import sys
from collections.abc import Sequence

from common.command import configuration_parser, run
from common.progress import log
from schemas.config import load


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the newest published version by the configured gates, and write Data Docs and report.

    Raises QualityGateError when a gate fails: exit status 3.
    """
    arguments = configuration_parser("python -m etl.quality", __doc__).parse_args(argv)
    config = load(arguments.config, arguments.overrides)

    from etl.versions.judging import judge_again

    gates = judge_again(config)
    gates.raise_for_failures()
    log(f"quality: all {len(gates.gates)} gates passed")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
