"""MinHash kernels side by side: `python -m benchmarks.minhash` (or `make bench-minhash`).

Every kernel makes 140 MinHash values of 5-token shingles for the same generated texts, on one core, in alternation;
writes `benchmarks/results/minhash.json` and `minhash.md`. Peers are installed into environments of their own on the
first run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environments import Environments
from benchmarks.minhash import results, texts
from benchmarks.minhash.cases import CASES, PACKAGES, Case
from common import command
from common.errors import UsageError
from common.progress import log

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
ENVIRONMENTS = Environments(HERE)
LIMIT = 300.0
"""Seconds after which a kernel is given up."""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.minhash",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(case.name for case in CASES)
    found.add_argument("--rounds", type=int, default=5, metavar="N", help="of all kernels (default 5)")
    found.add_argument("--texts", type=int, default=20_000, metavar="N", help="to generate (default 20,000)")
    found.add_argument("--only", nargs="+", metavar="KERNEL", help=f"some of: {names}")
    found.add_argument("--data", type=Path, default=Path("data/bench-minhash"), metavar="FOLDER")
    found.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    return found


def interpreters(cases: Sequence[Case]) -> tuple[dict[str | None, Path], dict[str, str]]:
    """Return the interpreter of each environment, built where necessary, and the error of each that failed to build."""
    found: dict[str | None, Path] = {None: Path(sys.executable)}
    missing: dict[str, str] = {}
    for peer in dict.fromkeys(case.peer for case in cases):
        if peer is None:
            continue
        try:
            found[peer] = ENVIRONMENTS.python_of(peer)
        except (OSError, subprocess.CalledProcessError) as error:
            missing[peer] = f"its environment could not be built: {error}"
            log(f"{peer}: {missing[peer]}")
    return found, missing


def measure(python: Path, case: Case, file: Path, count: int) -> dict[str, Any]:
    """Return one sample, with `error` where the kernel failed."""
    command_line = [str(python), "-m", "benchmarks.minhash.measure", case.kernel]
    command_line += ["--run", case.run, "--prepare", case.prepare, "--texts", str(file)]
    command_line += ["--count", str(min(count, case.texts or count))]
    one_thread = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "ARROW_NUM_THREADS"), "1"
    )
    try:
        done = subprocess.run(
            command_line,
            cwd=CHECKOUT,
            env={**os.environ, **one_thread, "PYTHONPATH": str(CHECKOUT), "DO_NOT_TRACK": "true"},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        return {"error": "\n".join(error.stderr.splitlines()[-8:])}
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {LIMIT:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(json.loads(lines[-1]))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the results."""
    arguments = parser().parse_args(argv)
    unknown = set(arguments.only or ()) - {case.name for case in CASES}
    if unknown:
        raise UsageError(f"there is no kernel {min(unknown)!r}; --help lists them")
    cases = [case for case in CASES if arguments.only is None or case.name in arguments.only]
    pythons, missing = interpreters(cases)
    file = arguments.data.resolve() / "texts.jsonl"
    texts.write(file, arguments.texts)
    samples: dict[str, list[dict[str, Any]]] = {case.name: [] for case in cases}
    for number in range(arguments.rounds):
        for case in cases:
            if case.peer not in pythons:
                continue
            sample = measure(pythons[case.peer], case, file, arguments.texts)
            samples[case.name].append(sample)
            said = sample.get("error") or f"{sample['done'] / sample['cpu_seconds']:,.0f} documents/s"
            log(f"round {number + 1} of {arguments.rounds}: {case.name}: {said}")
            if "error" in sample:
                missing[case.name] = str(sample["error"])
    versions = {
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "pyarrow", "pyspark")},
        **{peer: ENVIRONMENTS.version_of(peer, package) for peer, package in PACKAGES.items()},
    }
    document = results.summary(samples, versions, missing)
    table = results.markdown(document)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "minhash.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (arguments.results / "minhash.md").write_text(table, encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
