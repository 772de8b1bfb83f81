"""publish: exact shards, the gates, one atomic Delta version, the manifest, in that order.

Reads silver/encoded at a pinned version; writes gold/shards and manifests/.
"""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages.command import judged


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m etl.publish --config FILE`; return the exit status."""
    arguments, config = judged("publish", __doc__, argv)
    from etl.stages.running import run_stage
    from etl.versions import publishing

    return run_stage(publishing.STAGE, config, arguments.again)


if __name__ == "__main__":
    sys.exit(run(main))
