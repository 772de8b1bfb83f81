"""Seconds of each stage of the pipeline and the speed of one epoch of training: `python benchmarks/stages.py`.

Runs conf/licences.toml (or the configuration given) afresh in a temporary folder, so that only the disk cache is
warm, and prints a table. The figures are wall-clock times of this machine as it is, whatever else it is doing.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import command
from common.errors import CheckError
from common.progress import log

STAGE_BEGINS = re.compile(r"^(\w+) …$")
BIN = Path(sys.executable).parent


def pipeline_seconds(config: str, root: Path) -> dict[str, float]:
    """Run the pipeline into `root` and return seconds by stage, from its log lines.

    The first entry, `start`, is the time before the first stage: imports and the start of Spark.
    """
    arguments = [sys.executable, "-m", "etl.pipeline", "--config", config, "--set", f"dataset.root={root}"]
    began = [("start", time.monotonic())]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stderr or ():
            print(line, end="", file=sys.stderr, flush=True)
            if match := STAGE_BEGINS.match(line):
                began.append((match[1], time.monotonic()))
    ended = time.monotonic()
    if process.returncode != 0:
        raise CheckError(f"the pipeline ended with status {process.returncode}; its messages stand above")
    ends = [when for _, when in began[1:]] + [ended]
    return {name: end - when for (name, when), end in zip(began, ends, strict=True)}


def training_figures(config: str, root: Path, ranks: int) -> dict[str, float]:
    """Train one epoch on the data published in `root`; return seconds, samples per second, share of input waits."""
    launcher = [str(BIN / "horovodrun"), "-np", str(ranks), "--gloo", "-H", f"localhost:{ranks}"]
    training = [sys.executable, "-m", "training.train", "--config", config, "--run", "bench"]
    settings = [f"dataset.root={root}", f"train.runs={root / 'runs'}", "train.epochs=1"]
    overrides = [part for setting in settings for part in ("--set", setting)]
    status = subprocess.run([*launcher, *training, *overrides], stdout=sys.stderr, check=False).returncode
    if status != 0:
        raise CheckError(f"the training ended with status {status}; its messages stand above")
    summary = json.loads((root / "runs" / "bench" / "summary.json").read_text(encoding="utf-8"))["training"]
    return {name: summary[name] for name in ("seconds", "samples_per_second", "input_wait_share")}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="conf/licences.toml", metavar="FILE")
    parser.add_argument("--ranks", type=int, default=2, metavar="N", help="training processes (default 2)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ringlake-bench-") as folder:
        stages = pipeline_seconds(arguments.config, Path(folder))
        log("training …")
        training = training_figures(arguments.config, Path(folder), arguments.ranks)
    for name, seconds in stages.items():
        print(f"{name:<24}{seconds:10.1f} s")
    print(f"{'all of the pipeline':<24}{sum(stages.values()):10.1f} s")
    for name, value in training.items():
        print(f"{'training, ' + name.replace('_', ' '):<32}{value:10,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
