"""`ringlake-etl COMMAND …`: the modules that `python -m etl.<module>` starts, under one name."""

import sys
from collections.abc import Sequence

from common import command
from common.subcommands import Commands, dispatch

COMMANDS: Commands = {
    "run": ("etl.pipeline", "the whole pipeline, from the sources to a published version, in one session"),
    "ingest": ("etl.ingest", "read the sources into the bronze tables"),
    "clean": ("etl.clean", "clean the configured columns and record the effects of each rule"),
    "deduplicate": ("etl.deduplicate", "find exact and near-duplicates"),
    "split": ("etl.split", "assign training, validation and test by cluster"),
    "encode": ("etl.encode", "turn the cleaned columns into training-ready ones"),
    "publish": ("etl.publish", "write the shards, check the quality gates, commit, write the manifest"),
    "quality": ("etl.quality", "judge the newest published version by the gates; status 3 when one fails"),
    "report": ("etl.report", "write the data-quality report of a published version"),
    "quarantine": (
        "etl.quarantine",
        "show masked records that could not be read, and why; export them for repair",
    ),
    "history": ("etl.history", "list the published versions with their counts and changes"),
    "rollback": ("etl.rollback", "make an earlier published version the current one"),
    "forget": (
        "etl.forget",
        "erase a person's records from all tables, for good, and report other places of them",
    ),
    "vacuum": ("etl.vacuum", "delete the files of versions that [versions] no longer keeps"),
    "verify": ("etl.verify", "hash every shard and artifact of a manifest again"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console script `ringlake-etl`; return the exit status of the module that it called."""
    arguments = sys.argv[1:] if argv is None else argv
    return command.run(lambda rest: dispatch("ringlake-etl", COMMANDS, rest or []), arguments)


if __name__ == "__main__":
    sys.exit(main())
