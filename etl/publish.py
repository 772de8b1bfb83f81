"""publish: exact shards, the gates, one atomic Delta version, the manifest, in that order.

Reads silver/encoded at a pinned version; writes gold/shards and manifests/.
"""

import sys
from collections.abc import Sequence

from common.command import run
from etl.stages.command import stage_main
from etl.versions import publishing


def main(argv: Sequence[str] | None = None) -> int:
    return stage_main(publishing.STAGE, __doc__, argv)


if __name__ == "__main__":
    sys.exit(run(main))
