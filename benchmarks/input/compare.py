"""Measurements of one data set: preparing the copies, rounds of all cases, exactness, the consumer, memory."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.input import environments, generate
from benchmarks.input.cases import OURS, Case
from benchmarks.input.processes import flags, run, run_ranks, run_watched
from common.errors import CheckError
from common.progress import log
from provenance.checksums import sha256_of
from schemas import manifest as contract
from training.input.batch_loader import columns_of

PYTHON = Path(sys.executable)
MEASURE = "benchmarks.input.measure"
CHECK_ROWS = 10_003
CHECK_GROUP = 128
LIMIT = 8.0
"""Seconds after which a timed pass ends."""

Sample = dict[str, Any]


def interpreters(cases: Sequence[Case]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the interpreter of each loader, built where necessary, and the error of each that failed to build."""
    found, missing = {}, {}
    for case in cases:
        if case.loader in found or case.loader in missing:
            continue
        try:
            found[case.loader] = environments.python_of(case.loader) if case.peer else PYTHON
        except (OSError, subprocess.CalledProcessError) as error:
            missing[case.loader] = f"its environment could not be built: {error}"
            log(f"{case.loader}: {missing[case.loader]}")
    return found, missing


def prepare(folder: Path, rows: int, pythons: Mapping[str, Path], cases: Sequence[Case]) -> dict[str, str]:
    """Write each loader's own copy of a folder's rows, once; return the messages of those that could not."""
    failed: dict[str, str] = {}
    content, _ = sha256_of(str(folder / "rows.npy"))
    for case in {case.loader: case for case in cases if case.loader in pythons}.values():
        stamp = folder / f"{case.loader}.prepared"
        count = min(rows, case.rows or rows)
        key = f"{count} of {content}"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == key:
            continue
        log(f"{folder.name}: rows for {case.loader} …")
        try:
            run(pythons[case.loader], MEASURE, [case.loader, *flags({"folder": folder, "prepare": count})])
        except CheckError as error:
            failed[case.loader] = str(error)
            log(f"{case.loader}: {error}")
            continue
        stamp.write_text(key, encoding="utf-8")
    return failed


def raw(folder: Path, rows: int) -> Sample:
    """Measure the two scans of pyarrow."""
    data = generate.DataSet.load(folder)
    manifest = contract.load(data.manifests[str(OURS[folder.name]["variant"])])
    shards = [manifest.shard_uri(shard) for shard in manifest.splits[data.split].shards if shard.rows]
    columns = [column.name for column in columns_of(manifest)]
    given = ["--plain", str(folder / "plain.parquet"), "--shards", *shards, "--columns", *columns]
    return run(PYTHON, "benchmarks.input.raw_pyarrow", [*given, "--rows", str(rows)])


def arguments_of(case: Case, folder: Path, epochs: int, **more: object) -> list[str]:
    values = {"folder": folder, "options": case.options_for(folder.name), "epochs": epochs, **more}
    return [case.loader, *flags(values)]


def rounds(
    folder: Path,
    count: int,
    least_rows: int,
    pythons: Mapping[str, Path],
    cases: Sequence[Case],
    keep: Callable[[str, Sample], None],
    limit: float = LIMIT,
) -> None:
    """Run every case `count` times, `limit` seconds each at most, and before each of them pyarrow.

    Passes every sample with its name to `keep`.
    """
    data = generate.DataSet.load(folder)
    for number in range(count):
        for case in cases:
            if case.loader not in pythons or not case.runs_on(folder.name):
                continue
            epochs = max(1, -(-least_rows // min(data.rows, case.rows or data.rows)))
            keep("pyarrow", raw(folder, least_rows))
            try:
                sample = run(
                    pythons[case.loader],
                    MEASURE,
                    arguments_of(case, folder, 1 if case.rows else epochs, limit=limit),
                )
            except CheckError as error:
                log(f"{case.name}: {error}")
                sample = {"error": str(error)}
            keep(case.name, sample)
            if "error" not in sample:
                rate = sample["rows"] / sample["seconds"]
                log(f"{folder.name}, round {number + 1} of {count}: {case.name} {rate:,.0f} rows/s")


def peak_memory(
    folder: Path, least_rows: int, pythons: Mapping[str, Path], cases: Sequence[Case]
) -> dict[str, float]:
    """Return the peak memory of each case's processes, in MB, in a run that is not timed."""
    found, rows = {}, generate.DataSet.load(folder).rows
    for case in cases:
        if case.loader in pythons and case.runs_on(folder.name):
            epochs = 1 if case.rows else max(1, -(-least_rows // rows))
            arguments = arguments_of(case, folder, epochs, limit=3.0)
            try:
                found[case.name] = run_watched(pythons[case.loader], MEASURE, arguments)[1]
            except CheckError as error:
                log(f"{case.name}: {error}")
    return found


def exactness(folder: Path, pythons: Mapping[str, Path], cases: Sequence[Case]) -> dict[str, Sample]:
    """Return by case the outcome of 10,003 rows read by two ranks: the worst of all passes.

    `lost` and `repeated` count rows, `wrong` those with values other than their own. `exact` is None where it could
    not be determined.
    """
    found: dict[str, Sample] = {}
    rows = generate.DataSet.load(folder).rows
    for case in cases:
        if case.loader not in pythons:
            continue
        try:
            worst = _both_ranks(case, folder, pythons[case.loader], rows)
            found[case.name] = {**worst, "passes": case.check_passes, "exact": not any(worst.values())}
        except CheckError as error:
            found[case.name] = {"error": str(error), "exact": None}
        log(f"exactness of {case.name}: {json.dumps(found[case.name])}")
    return found


def _both_ranks(case: Case, folder: Path, python: Path, rows: int) -> dict[str, int]:
    files = [folder / f"seen-{rank}.npz" for rank in (0, 1)]
    more = {"ranks": 2, "passes": case.check_passes}
    each = [arguments_of(case, folder, 1, rank=rank, check=file, **more) for rank, file in enumerate(files)]
    worst = {"lost": 0, "repeated": 0}
    worst["wrong"] = sum(int(result["wrong"]) for result in run_ranks(python, MEASURE, each))
    with np.load(files[0]) as first, np.load(files[1]) as second:
        for one_pass in first.files:
            seen = np.concatenate([first[one_pass], second[one_pass]])
            times = np.bincount(seen[seen >= 0], minlength=rows)
            worst["lost"] = max(worst["lost"], int((times == 0).sum()))
            worst["repeated"] = max(worst["repeated"], int(np.maximum(times - 1, 0).sum()))
            worst["wrong"] += int((seen < 0).sum())
    return worst


def consumers(folder: Path, seconds: float) -> Sample:
    """Run two ranks side by side that take 200,000 rows a second each; return the worse figures and each rank's."""
    rows = generate.DataSet.load(folder).rows
    epochs = max(2, round(seconds * 400_000 / rows))
    values = {"folder": folder, "options": OURS[folder.name], "epochs": epochs, "ranks": 2}
    each = [flags({**values, "rank": rank}) for rank in (0, 1)]
    ranks = run_ranks(PYTHON, "benchmarks.input.consumer", each)
    return {name: max(rank[name] for rank in ranks) for name in ("wait_share", "late_share")} | {
        "ranks": ranks
    }


def memory_over_epochs(folder: Path, rows: int, after: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return megabytes after some epochs, of a data set of `rows` rows and of one four times as large."""
    found = {}
    for size in (rows, 4 * rows):
        data = folder / f"memory-{size}"
        generate.generate(data, size, {"shards": 512})
        options = {"variant": "shards", "streams": 4, "window": 8}
        arguments = [*flags({"folder": data, "options": options}), "--after", *map(str, after)]
        found[f"{size}"] = run(PYTHON, "benchmarks.input.memory", arguments)
    return found
