"""What is compared, and how each of them is started."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.environments import Environments
from benchmarks.etl import quality, shuffles
from benchmarks.etl.watch import Run, watch
from schemas.errors import CheckError
from schemas.progress import say

CORES = 2
ENVIRONMENTS = Environments(Path(__file__).parent)


@dataclass(frozen=True)
class System:
    """A line of the table."""

    name: str
    settings: str
    what: str | None = None
    """For this product: what it runs."""
    package: str | None = None
    """For a peer: its package."""
    whole: bool = False
    """Reads the files with malformed records, which no peer can read."""


SYSTEMS = (
    System(
        "ours_near_duplicates",
        "from JSON lines to clusters: the product's reader and duplicate finder in Spark local[2], without the tables "
        "of texts that its stages keep; 28 bands of 5, every pair verified",
        what="near_duplicates",
    ),
    System(
        "datatrove",
        "JSON lines to clusters: signature, buckets, cluster; 14 bands of 8 (its default), our tokens, 2 workers",
        package="datatrove",
    ),
    System(
        "text_dedup",
        "JSON lines to deduplicated Arrow files: its MinHash command at threshold 0.8, 250 permutations, xxh3, "
        "2 processes",
        package="text-dedup",
    ),
    System(
        "ours_pipeline",
        "raw JSON lines to published shards, manifest and report: etl.pipeline in Spark local[2]",
        what="pipeline",
        whole=True,
    ),
)
BY_NAME = {system.name: system for system in SYSTEMS}


def interpreters(systems: Sequence[System]) -> dict[str, Path]:
    """The Python of each system; builds the environments of peers where they are missing.

    Raises subprocess.CalledProcessError where one cannot be built.
    """
    return {
        system.name: ENVIRONMENTS.python_of(system.name) if system.package else Path(sys.executable)
        for system in systems
    }


def version(system: System, ours: str) -> str:
    """Of what was measured."""
    return ENVIRONMENTS.version_of(system.name, system.package) if system.package else ours


@dataclass(frozen=True)
class Data:
    """The folders of generated files: with malformed records, without, and a small one of either kind."""

    whole: Path
    sound: Path
    small: Path

    def of(self, system: System) -> Path:
        return self.whole if system.whole else self.sound


def measure(system: System, python: Path, data: Data, work: Path, warm: bool) -> Run:
    """One run of a system in an empty working folder, which is emptied again afterwards.

    `more` of the run holds the quality of its clusters, and for this product the bytes of each shuffle.
    Raises CheckError where it fails.
    """
    folder = work / system.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = data.of(system)
    given = ["--files", str(files), "--work", str(folder)]
    log = work / f"{system.name}.log"
    try:
        if system.what is None:
            module, given = f"benchmarks.etl.peers.{system.name}", [*given, "--workers", str(CORES)]
            environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        else:
            module = "benchmarks.etl.ours"
            given = [system.what, *given, *(["--warm-up", str(data.small)] if warm else [])]
            conf = shuffles.configure(folder)
            environment = {"SPARK_MASTER": f"local[{CORES}]", "SPARK_CONF_DIR": str(conf)}
        run = watch(python, module, given, environment, log)
        run.more.update(_quality(folder, files))
        if system.what is not None:
            run.more["shuffles"] = shuffles.shuffled(folder, run.began, run.ended)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return run


def _quality(folder: Path, files: Path) -> dict[str, float | int]:
    with np.load(folder / "clusters.npz") as found:
        clusters = {name: found[name] for name in found.files}
    summary = quality.summary(files)
    return quality.judge(summary["records"], clusters, files / "truth", summary["similarity"])


def measure_undisturbed(
    system: System, python: Path, data: Data, work: Path, warm: bool, repeats: int
) -> list[Run]:
    """`measure`, again up to `repeats` times while others disturb it; the run that counts is the last of them."""
    runs: list[Run] = []
    while not runs or (runs[-1].disturbed and len(runs) <= repeats):
        try:
            run = measure(system, python, data, work, warm)
        except CheckError as error:
            say(f"{system.name}: {error}")
            break
        runs.append(run)
        say(
            f"{system.name}{'' if warm else ', cold'}: {run.seconds if warm else run.cold_seconds:.1f} s, "
            f"{run.peaks.all:,.0f} MB, recall {run.more['recall']:.4f}, precision {run.more['precision']:.4f}"
            + (f"; others took {run.others:.0%} of the processor time" if run.disturbed else "")
        )
    return sorted(runs, key=lambda run: not run.disturbed)
