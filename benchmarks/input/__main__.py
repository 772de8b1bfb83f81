"""Training input side by side: `python -m benchmarks.input` (or `make bench-input`).

Reads the same rows with this product, raw pyarrow and other libraries, in alternation, and writes
`benchmarks/results/input.json` and `input.md`. Peers are installed into environments of their own on the first run.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.input import compare, environments, generate, results
from benchmarks.input.cases import CASES, PACKAGES, PEERS, TOKEN_SETS
from benchmarks.input.kinds import KINDS, kind_of
from common import command, json_lines
from common.errors import CheckError, UsageError
from common.progress import log
from schemas import config
from schemas import manifest as contract
from schemas.tables import Layout

ROWS, ROUNDS = 400_000, 5
MEMORY_ROWS = 20_000
PASSES = 4
"""Passes over the rows of an image or table case, within the time of a round."""
DATA_SETS = (*TOKEN_SETS, *KINDS)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.input",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(case.name for case in CASES)
    found.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="of all cases (default 5)")
    found.add_argument("--rows", type=int, default=ROWS, metavar="N", help="to generate (default 400,000)")
    found.add_argument("--only", nargs="+", metavar="CASE", help=f"some of: {names}")
    found.add_argument("--data-sets", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    found.add_argument("--config", default="conf/licences.toml", metavar="FILE", help="of the demo")
    found.add_argument("--data", type=Path, default=Path("data/bench-input"), metavar="FOLDER")
    found.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    found.add_argument("--consumer-seconds", type=float, default=10.0, metavar="S")
    found.add_argument(
        "--seconds", type=float, default=compare.LIMIT, metavar="S", help="of a timed pass, at most"
    )
    found.add_argument("--keep", action="store_true", help="add to the samples of earlier runs")
    found.add_argument("--timing-only", action="store_true", help="leave out exactness, consumer and memory")
    return found


def demo_manifest(file: str) -> str:
    """Return the newest manifest of the demo; publish it first where there is none."""
    layout = Layout.of(config.load(file))
    try:
        return contract.newest(layout.at("manifests"))
    except UsageError:
        log("the demo's data set is not published yet: running the pipeline …")
        subprocess.run(
            [sys.executable, "-m", "etl.pipeline", "--config", file], check=True, stdout=sys.stderr
        )
        return contract.newest(layout.at("manifests"))


def samples_in(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the samples of a file, by name of the case."""
    found: dict[str, list[dict[str, Any]]] = {}
    for sample in json_lines.read(str(file), json.loads):
        found.setdefault(sample.pop("case"), []).append(sample)
    return found


def versions() -> dict[str, str]:
    """Return the versions of what was measured, and of what it ran on."""
    own = {name: version(name) for name in ("torch", "pyarrow", "numpy", "petastorm")}
    peers = {peer: environments.version_of(peer, package) for peer, package in PACKAGES.items()}
    return {"python": platform.python_version(), "platform": platform.platform(), **own, **peers}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the results."""
    arguments = parser().parse_args(argv)
    unknown = set(arguments.only or ()) - {case.name for case in CASES}
    if unknown:
        raise UsageError(f"there is no case {min(unknown)!r}; --help lists them")
    cases = [case for case in CASES if arguments.only is None or case.name in arguments.only]
    root: Path = arguments.data.resolve()
    root.mkdir(parents=True, exist_ok=True)
    pythons, missing = compare.interpreters(cases)

    for name in set(arguments.data_sets) - {"demo"}:
        log(f"{name}: generating rows …")
        kind = kind_of(name)
        generate.generate(root / name, min(arguments.rows, kind.rows), kind=kind)
    if "demo" in arguments.data_sets:
        generate.take(root / "demo", demo_manifest(arguments.config))
    for name in arguments.data_sets:
        folder = root / name
        rows = generate.DataSet.load(folder).rows
        failed = compare.prepare(folder, rows, pythons, cases)
        missing |= failed
        pythons = {loader: python for loader, python in pythons.items() if loader not in failed}

    extra: dict[str, Any] = {}
    exact: dict[str, Any] = {}
    if not arguments.timing_only:
        check = root / "check"
        generate.generate(check, compare.CHECK_ROWS, {"shards_128": compare.CHECK_GROUP}, seed=1)
        compare.prepare(check, compare.CHECK_ROWS, pythons, cases)
        judged = [case for case in cases if case.name in ("ours", "limit", *PEERS)]
        exact = compare.exactness(check, pythons, judged)
        if any(case.name == "ours" for case in cases):
            extra["memory_over_epochs"] = compare.memory_over_epochs(root, MEMORY_ROWS, (5, 25, 50, 75, 100))

    documents = {}
    for name in arguments.data_sets:
        file = root / f"samples-{name}.jsonl"
        if not arguments.keep:
            file.unlink(missing_ok=True)

        def keep(case: str, sample: dict[str, Any], file: Path = file) -> None:
            json_lines.append(str(file), json.dumps({"case": case, **sample}).encode())

        folder = root / name
        texts = name in TOKEN_SETS
        count = generate.DataSet.load(folder).rows
        least = arguments.rows if texts else PASSES * count
        compare.rounds(folder, arguments.rounds, least, pythons, cases, keep, arguments.seconds)
        peaks, consumer = {}, None
        if not arguments.timing_only:
            peaks = compare.peak_memory(folder, least, pythons, cases)
            if texts and any(case.name == "ours" for case in cases):
                consumer = compare.consumers(folder, arguments.consumer_seconds)
        documents[name] = results.summary(samples_in(file), exact, peaks, consumer, name)
        documents[name]["rows"] = count

    first, *rest = documents.items()
    whole = {**first[1], **dict(rest), **extra, "versions": versions(), "missing": missing}
    tables = "\n".join(
        results.markdown(document, f"{name}, {document['rows']:,} rows")
        for name, document in documents.items()
    )
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "input.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    (arguments.results / "input.md").write_text(tables, encoding="utf-8")
    print(tables)
    if any(case.name == "ours" for case in cases) and exact and not exact["ours"]["exact"]:
        raise CheckError(f"the product's reader is not exact: {exact['ours']}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
