"""Systems to compare, and how to start each of them."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.environments import Environments
from benchmarks.etl import quality, shuffles
from benchmarks.etl.watch import Run, watch
from common.errors import CheckError
from common.progress import log

CORES = 2
ENVIRONMENTS = Environments(Path(__file__).parent)


@dataclass(frozen=True)
class System:
    """Line of the table."""

    name: str
    settings: str
    what: str | None = None
    """For this product: the function to run."""
    peer: str | None = None
    """For a peer: its module, and its environment."""
    package: str | None = None
    flags: tuple[str, ...] = ()
    """Flags of the peer's module."""
    usual: bool = True
    """Run by default; other systems run only on request."""
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
        peer="datatrove",
        package="datatrove",
    ),
    System(
        "datatrove_as_it_comes",
        "the same with its own tokeniser for English (spaCy) and its own normalisation",
        peer="datatrove",
        package="datatrove",
        flags=("--as-it-comes",),
        usual=False,
    ),
    System(
        "text_dedup",
        "JSON lines to deduplicated Arrow files: its MinHash command at threshold 0.8, 250 permutations, xxh3, "
        "2 processes",
        peer="text_dedup",
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
    """Return the Python of each system; build missing environments of peers.

    Raises subprocess.CalledProcessError where one cannot be built.
    """
    return {
        system.name: ENVIRONMENTS.python_of(system.peer) if system.peer else Path(sys.executable)
        for system in systems
    }


def version(system: System, ours: str) -> str:
    """Return the version of the measured system."""
    if system.peer is None or system.package is None:
        return ours
    return ENVIRONMENTS.version_of(system.peer, system.package)


@dataclass(frozen=True)
class Data:
    """Folders of generated files: with malformed records, without, and a small one of either kind."""

    whole: Path
    sound: Path
    small: Path

    def of(self, system: System) -> Path:
        return self.whole if system.whole else self.sound


def measure(system: System, python: Path, data: Data, work: Path, warm: bool) -> Run:
    """Run a system once in an empty working folder, which is emptied again afterwards.

    `more` of the run holds the quality of its clusters, and for this product the bytes of each shuffle. Raises
    CheckError where it fails.
    """
    folder = work / system.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = data.of(system)
    given = ["--files", str(files), "--work", str(folder)]
    log_file = work / f"{system.name}.log"
    try:
        if system.what is None:
            module = f"benchmarks.etl.peers.{system.peer}"
            given += ["--workers", str(CORES), *system.flags]
            environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        else:
            module = "benchmarks.etl.ours"
            given = [system.what, *given, *(["--warm-up", str(data.small)] if warm else [])]
            conf = shuffles.configure(folder)
            environment = {"SPARK_MASTER": f"local[{CORES}]", "SPARK_CONF_DIR": str(conf)}
        run = watch(python, module, given, environment, log_file)
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
) -> Iterator[Run]:
    """Yield runs of `measure`, repeated up to `repeats` times while others disturb it; only the last counts.

    Yields fewer runs, or none, where one fails, and logs why.
    """
    for _ in range(1 + repeats):
        try:
            run = measure(system, python, data, work, warm)
        except CheckError as error:
            log(f"{system.name}: {error}")
            return
        log(
            f"{system.name}{'' if warm else ', cold'}: {run.seconds if warm else run.cold_seconds:.1f} s, "
            f"{run.peaks.all:,.0f} MB, recall {run.more['recall']:.4f}, precision {run.more['precision']:.4f}"
            + (f"; others took {run.others:.0%} of the processor time" if run.disturbed else "")
        )
        yield run
        if not run.disturbed:
            return
