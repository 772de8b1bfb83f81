"""All claims about ways of training: `python -m benchmarks.methods`, or `make bench-methods`.

Each benchmark measures what it has no figures of yet (with --again everything), some of them for hours. The rows of all
of them go to results/methods.json and to the tables of docs/methods.md.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.methods.cells import HEAD, RESULTS, Row, cells_of
from common import command, files
from common.errors import CheckError
from common.progress import log

ROOT = Path(__file__).parents[2]
FILE, DOCUMENT = RESULTS / "methods.json", ROOT / "docs" / "methods.md"
BENCHMARKS = {
    "memory": "Memory and precision",
    "local_sgd": "Local SGD",
    "warm_start": "Warm starts",
    "private": "Private training",
    "adversarial": "Adversarial training",
    "federated": "Federated averaging",
    "tune": "Search",
}
"""Modules of this folder, and the headings of their tables."""
BEGIN, END = "<!-- claims: written by make bench-methods -->", "<!-- end of the claims -->"


def table(title: str, rows: Sequence[Row]) -> str:
    """Return the rows of a benchmark in Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *(cells_of(one) for one in rows)]
    return f"### {title}\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def written(document: str, tables: str) -> str:
    """Return a document with these tables between its marks. Raises CheckError where there are none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CheckError(f"{DOCUMENT} has no place for the tables: put {BEGIN} and {END} there")
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and write all rows; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.methods",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="*", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--again", action="store_true", help="measure although there are figures")
    arguments = parser.parse_args(argv)
    found = {name: importlib.import_module(f"benchmarks.methods.{name}") for name in BENCHMARKS}
    for name in arguments.only:
        log(f"{BENCHMARKS[name]} …")
        if found[name].main(["--again"] if arguments.again else []):
            raise CheckError(f"benchmarks.methods.{name} failed")
    rows = {name: list(module.rows()) for name, module in found.items()}
    document = [dict(one) for of_one in rows.values() for one in of_one]
    files.write(FILE, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
    tables = "\n".join(table(BENCHMARKS[name], of_one) for name, of_one in rows.items() if of_one)
    files.write(DOCUMENT, written(DOCUMENT.read_text(encoding="utf-8"), tables).encode())
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
