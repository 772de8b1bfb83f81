"""history: the published versions of a data set, with their counts, their configuration and the changes between them.

A version whose files `vacuum` deleted is marked; its manifest still states what it held.
"""

import sys
from collections.abc import Sequence

from common.command import configuration_parser, run
from common.errors import UsageError
from schemas.config import load


def main(argv: Sequence[str] | None = None) -> int:
    arguments = configuration_parser("python -m etl.history", __doc__).parse_args(argv)
    config = load(arguments.config, arguments.overrides)

    from etl.versions.timeline import history, lines

    versions = history(config)
    if not versions:
        raise UsageError(
            f"{config.dataset.name} has no published version yet; run the pipeline (python -m etl.pipeline)"
        )
    print("\n".join(lines(versions)))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
