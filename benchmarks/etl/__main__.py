"""Pipeline and near-duplicate stage beside other systems: `python -m benchmarks.etl --size 100MB` (or 1GB, 10GB), or
`make bench-etl SIZE=100MB`.

Generates the files, runs every system in turn, `--rounds` times, and writes `benchmarks/results/etl.json` (figures of
other sizes stay) and `etl.md`. Peers are installed into environments of their own on the first run.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import generate
from benchmarks.etl import quality, results
from benchmarks.etl.systems import BY_NAME, SYSTEMS, Data, System, interpreters, measure_undisturbed, version
from common import command, json_lines
from common.errors import CheckError, UsageError
from common.progress import log
from common.version import code_version

SMALL = "2MB"
LARGE = 5 * 10**9
"""Size from which only this product runs, on the same files for both of its figures."""
REPEATS = 2
MINUTES = 28.0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.etl",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [system.name for system in SYSTEMS]
    found.add_argument("--size", default="100MB", metavar="SIZE")
    found.add_argument("--rounds", type=int, metavar="N", help="by default 5 below 1 GB, otherwise 3")
    found.add_argument(
        "--only", nargs="+", choices=names, metavar="SYSTEM", help=f"some of: {', '.join(names)}"
    )
    found.add_argument("--seed", type=int, default=0, metavar="N", help="of the generated files")
    found.add_argument(
        "--no-cold", action="store_true", help="leave out the runs that start a Java machine anew"
    )
    found.add_argument("--keep", action="store_true", help="add to the runs of an earlier call for this size")
    found.add_argument(
        "--minutes", type=float, metavar="N",
        help=f"no disturbed run is repeated where all would then take longer (below 1 GB by default {MINUTES:g})",
    )  # fmt: skip
    found.add_argument("--data", type=Path, default=Path("data/bench-etl"), metavar="FOLDER")
    found.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    return found


def prepare(root: Path, size: str, seed: int, systems: Sequence[System]) -> Data:
    """Generate the missing files."""

    def generated(name: str, bytes_wanted: int, malformed: float) -> Path:
        folder = root / name
        wanted = {"size": bytes_wanted, "seed": seed, "malformed_share": malformed}
        if (folder / "ringlake.toml").exists() and wanted.items() <= quality.summary(folder).items():
            return folder
        log(f"generating {folder} …")
        generate.generate(folder, bytes_wanted, seed, malformed)
        return folder

    wanted = generate.bytes_of(size)
    small = generated("small", generate.bytes_of(SMALL), 0.0)
    share = generate.MALFORMED_SHARE
    if wanted >= LARGE:
        whole = sound = generated(size, wanted, share)
    else:
        need = {system.whole for system in systems}
        whole = generated(size, wanted, share) if True in need else root / size
        sound = generated(f"{size}-sound", wanted, 0.0) if False in need else root / f"{size}-sound"
    return Data(whole, sound, small)


def turns(systems: Sequence[System], cold: bool) -> list[tuple[System, bool]]:
    """Return a round: each system, whether warm; this product's near-duplicate stage also cold."""
    found = [(system, True) for system in systems]
    return found + [(system, False) for system in systems if cold and system.what == "near_duplicates"]


def samples_in(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of earlier rounds, by system."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for sample in json_lines.read(str(file), json.loads):
        found[sample.pop("system")].append(sample)
    return found


def document_with(
    file: Path, size: str, samples: dict[str, list[dict[str, Any]]], data: Data
) -> dict[str, Any]:
    """Return the document in `file` with new entries for the systems of this size that were run."""
    whole: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    entries = whole.setdefault(size, {})
    for name, runs in samples.items():
        system = BY_NAME[name]
        summary = quality.summary(data.of(system))
        # The last run of a turn counts: those before it were disturbed.
        counting = list({(run["warm"], run["turn"]): run for run in runs}.values())
        entries[name] = results.figures(counting, summary["bytes"], summary["records"]) | {
            "version": version(system, code_version()),
            "settings": system.settings,
            "malformed_share": summary["malformed_share"],
        }
    whole["slope"] = results.slope(whole)
    return {name: whole[name] for name in [*results.sizes_of(whole), "slope"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the results."""
    arguments = parser().parse_args(argv)
    size = str(arguments.size).upper()
    wanted = generate.bytes_of(size)
    systems = [
        system
        for system in SYSTEMS
        if (
            system.name in arguments.only
            if arguments.only
            else system.usual and (wanted < LARGE or system.what is not None)
        )
    ]
    if wanted >= LARGE and any(system.peer for system in systems):
        raise UsageError(f"the peers are not run at {size}: leave them out of --only")
    count = arguments.rounds or (5 if wanted < 10**9 else 3)
    minutes = arguments.minutes or (MINUTES if wanted < 10**9 else float("inf"))
    began = time.monotonic()
    try:
        pythons = interpreters(systems)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CheckError(f"the environment of a peer could not be built: {error}") from error
    root: Path = arguments.data.resolve()
    data = prepare(root, size, arguments.seed, systems)
    file = root / f"runs-{size}.jsonl"
    if not arguments.keep:
        file.unlink(missing_ok=True)
    failed: set[str] = set()
    order = turns(systems, not arguments.no_cold)
    first, stamp = time.monotonic(), int(time.time())
    for number in range(count):
        log(f"round {number + 1} of {count} …")
        for place, (system, warm) in enumerate(order):
            done = number * len(order) + place
            now = time.monotonic()
            left = (now - first) / done * (count * len(order) - done) if done else 0.0
            repeats = REPEATS if now - began + left < 60 * minutes else 0
            attempts = 0
            for run in measure_undisturbed(system, pythons[system.name], data, root / "work", warm, repeats):
                attempts += 1
                sample = {"system": system.name, "warm": warm, "turn": f"{stamp} {number}"} | run.as_dict()
                json_lines.append(str(file), json.dumps(sample).encode())
            if not attempts:
                failed.add(system.name)
    arguments.results.mkdir(parents=True, exist_ok=True)
    target = arguments.results / "etl.json"
    document = document_with(target, size, samples_in(file), data)
    target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    tables = results.markdown(document)
    (arguments.results / "etl.md").write_text(tables, encoding="utf-8")
    print(tables)
    log(f"{(time.monotonic() - began) / 60:.0f} minutes")
    if failed:
        raise CheckError(f"did not run every time: {', '.join(sorted(failed))}; its messages stand above")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
