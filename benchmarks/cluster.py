"""Seconds and Spark tasks of each stage by hand on a standalone cluster: `python -m benchmarks.cluster`.

Each stage is a process of its own, as a schedule runs them; master and worker (two cores) are this machine.
`--checkout` measures another version, in a folder with a `.venv`.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.etl.shuffles import configure
from common import command
from common.errors import CheckError
from schemas.config import STAGES
from tests.integration.cluster import standalone_cluster

TASK_END = re.compile(r'^\{"Event":"SparkListenerTaskEnd"', re.MULTILINE)


def run_stage(
    stage: str, arguments: Sequence[str], checkout: Path, master: str, work: Path
) -> tuple[float, int]:
    """Run a stage; return its seconds, start of Python and Spark included, and its tasks."""
    environment = {
        **os.environ,
        "SPARK_MASTER": master,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_CONF_DIR": str(configure(work)),
        "PYTHONPATH": str(checkout),
    }
    with (work / "conf" / "spark-defaults.conf").open("a", encoding="utf-8") as file:
        file.write(f"spark.executorEnv.PYTHONPATH {checkout}\n")
    python = str(checkout / ".venv" / "bin" / "python")
    began = time.monotonic()
    status = subprocess.run(
        [python, "-m", f"etl.{stage}", *arguments], cwd=checkout, env=environment, check=False
    ).returncode
    seconds = time.monotonic() - began
    if status != 0:
        raise CheckError(f"{stage} ended with status {status}; its messages stand above")
    texts = (file.read_text(encoding="utf-8") for file in (work / "events").iterdir())
    return seconds, sum(len(TASK_END.findall(text)) for text in texts)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="conf/licences.toml", type=Path, metavar="FILE")
    parser.add_argument("--checkout", default=".", type=Path, metavar="FOLDER")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ringlake-bench-") as name:
        folder = Path(name)
        given = ["--config", str(arguments.config.resolve()), "--set", f"dataset.root={folder / 'warehouse'}"]
        with standalone_cluster(folder, memory="2g") as master:
            rows = {
                stage: run_stage(stage, given, arguments.checkout.resolve(), master, folder / stage)
                for stage in STAGES
            }
    for stage, (seconds, tasks) in rows.items():
        print(f"{stage:<12}{seconds:8.1f} s{tasks:8,} tasks")
    print(f"{'all':<12}{sum(s for s, _ in rows.values()):8.1f} s{sum(t for _, t in rows.values()):8,} tasks")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
