"""quarantine: the records that could not be read, and why; `--export FOLDER` writes the raw records, to be repaired.

Prints each reason with its number of records and the first of them with personal data masked; with `--filtered`, each
cleaning rule that left records out, with these. The exported raw bytes are NOT masked; they go into files that only
their owner can read, one for each source file that has any, below the number of its [[source]]. Repair them, name them
in a [[source]] of their own, and run the pipeline again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.command import configuration_parser, run
from common.progress import log
from schemas.config import load


def main(argv: Sequence[str] | None = None) -> int:
    parser = configuration_parser("python -m etl.quarantine", __doc__)
    parser.add_argument(
        "--reason", action="append", default=[], metavar="REASON", help="only this (repeatable)"
    )
    parser.add_argument("--examples", type=_number, default=3, metavar="N", help="records shown of a reason")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the raw records there, not masked"
    )
    parser.add_argument(
        "--filtered", action="store_true", help="show the records that cleaning rules filtered instead"
    )
    arguments = parser.parse_args(argv)
    if arguments.filtered and arguments.export is not None:
        parser.error("--export is for records that could not be read; filtered ones lie in silver/fields")
    config = load(arguments.config, arguments.overrides)

    from etl.reporting.rejects import show
    from etl.sources.rejects import export, filtered, quarantined

    if arguments.filtered:
        table, rows = filtered(config, arguments.reason)
        column = next(iter(config.text_columns() or config.typed_columns()), "source_path")
        show(config, table, rows, arguments.examples, "filtered", column)
        return 0
    table, rows = quarantined(config, arguments.reason)
    if arguments.export is None:
        show(config, table, rows, arguments.examples, "in quarantine")
        return 0
    done = export(config, table, rows, arguments.export)
    log(
        f"{done['exported']:,} records exported to {arguments.export}, personal data and all: mind who reads it"
    )
    for kind, why in (
        ("cut off", "only their beginning is kept"),
        ("without bytes", "their file could not be read"),
        ("image left out", "no table holds their images: mend them in the sources"),
        ("forgotten", "they were erased"),
    ):
        if done[kind]:
            log(f"{done[kind]:,} records are not among them, since {why}")
    return 0


def _number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records")
    return number


if __name__ == "__main__":
    sys.exit(run(main))
