"""publish: exact shards, the gates, one atomic Delta version, the manifest, in that order.

Reads silver/encoded at a pinned version; writes gold/shards and manifests/.
"""

import sys
from collections.abc import Sequence

from common.command import run
from etl.runs.stage import stage_main
from etl.versions.publishing import publish, published_counts


def main(argv: Sequence[str] | None = None) -> int:
    return stage_main("publish", __doc__, publish, argv, published_counts)


if __name__ == "__main__":
    sys.exit(run(main))
