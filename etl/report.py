"""Data-quality report: one self-contained page from the funnel to the provenance.

`python -m etl.report --config conf/x.toml` writes it again for the newest published version, from the versions of the
tables that its manifest names.
"""

import sys
from collections.abc import Sequence

from common.command import configuration_parser, run
from schemas.config import load


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of the newest published version again; return 0 whatever the gates say."""
    arguments = configuration_parser("python -m etl.report", __doc__).parse_args(argv)
    config = load(arguments.config, arguments.overrides)

    from etl.versions.judging import judge_again

    judge_again(config)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
