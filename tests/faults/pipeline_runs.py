"""Runs of the whole pipeline as separate processes, on small generated files, and the contents of their tables."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Self

import etl
from etl.lake.log import open_table
from etl.runs.audit import FILE, TABLES
from schemas import manifest as manifests
from schemas.config import Configuration, load
from schemas.manifest import Manifest
from schemas.tables import Layout
from tests.data_sets import copy_of

WITHOUT_GENERATED_CODE = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""Settings of Spark for tests: compiling the code of a query takes longer than a query over a few rows without it."""
REPOSITORY = Path(etl.__file__).parents[1]
CONFIGURATION = """
[dataset]
name = "example"
root = "{root}"
[[source]]
format = "jsonl"
path = "{files}/*.jsonl"
[columns]
id = "id"
label = "label"
[[feature]]
name = "tokens"
column = "text"
vocabulary = 300
length = 8
[publish]
shards = 2
rows_per_group = 16
[quality]
max_quarantine_share = 0.5
max_class_deviation = 1.0
max_split_deviation = 1.0
"""
SECONDS = 300
"""Longest time that a run may take."""
ALTER = {"sources": {"ingested"}}
"""Columns with the time of an action."""


def write_files(folder: Path) -> None:
    """Write a few hundred records in three files: some to be edited, filtered or quarantined, and copies."""
    folder.mkdir()
    for part in range(3):
        lines = []
        for number in range(part * 100, part * 100 + 100):
            text = f"record {number} of {number * number} says <b>{number * 31}</b> things"
            if number % 7 == 0:
                text = f"the same text as {number % 3} others of its kind"
            if number % 11 == 0:
                text = "!!! ???"
            record = {"id": f"{number}", "label": "xyz"[number % 3], "text": text}
            lines.append(json.dumps(record) if number % 13 else "{broken")
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n")


class PipelineFolder:
    """A data set in a folder of its own, made from files that several may share."""

    def __init__(self, folder: Path, files: Path) -> None:
        self.folder, self.files = folder, files
        self.conf = folder / "conf.toml"
        if not folder.exists():
            folder.mkdir()
            self.conf.write_text(CONFIGURATION.format(root=folder / "warehouse", files=files))
            (folder / "spark").mkdir()
            settings = "".join(f"{key} {value}\n" for key, value in WITHOUT_GENERATED_CODE.items())
            (folder / "spark" / "spark-defaults.conf").write_text(settings)

    def copied_to(self, folder: Path) -> Self:
        """Copy the data set and its files to a folder of its own."""
        copied = type(self)(folder, folder / "files")
        shutil.copytree(self.files, copied.files)
        copy_of(self.config, folder / "warehouse")
        return copied

    @property
    def config(self) -> Configuration:
        return load(self.conf)

    @property
    def layout(self) -> Layout:
        return Layout.of(self.config)

    def start(self, *flags: str, command: str = "pipeline") -> "subprocess.Popen[str]":
        """Start `python -m etl.pipeline` or another command; its process id is that of Spark's driver."""
        return subprocess.Popen(
            [sys.executable, "-m", f"etl.{command}", "--config", str(self.conf), *flags],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "SPARK_MASTER": "local[1]",
                "SPARK_CONF_DIR": str(self.folder / "spark"),
                "RINGLAKE_DRIVER_MEMORY": "1g",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *flags: str, command: str = "pipeline") -> tuple[int, str]:
        """Run to the end; return the status and the output."""
        with self.start(*flags, command=command) as process:
            said, _ = process.communicate(timeout=SECONDS)
        return process.returncode, said

    def manifest(self) -> Manifest:
        return manifests.load(manifests.newest(self.layout.manifests))

    def rows(self) -> dict[str, list[str]]:
        """Return the rows of each table of bronze and silver in a fixed order, without the times of the run."""
        found = {}
        for layer in ("bronze", "silver"):
            for name in TABLES[layer]:
                found_table = open_table(self.layout.at(layer, name), self.config.storage)
                if found_table is None:  # nothing was ever erased
                    continue
                table = found_table.to_pyarrow_table()
                kept = [column for column in table.column_names if column not in ALTER.get(name, ())]
                found[name] = sorted(map(repr, table.select(kept).to_pylist()))
        return found

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of the audit trail."""
        whole, _, _ = Path(self.layout.at(FILE)).read_bytes().rpartition(b"\n")  # the rest is being written
        return [json.loads(line) for line in whole.splitlines()]

    def counted(self, event: str) -> Counter[str]:
        """Count an event by stage."""
        return Counter(entry["action"] for entry in self.entries() if entry["event"] == event)

    def ended(self) -> Counter[str]:
        """Count the completions of each stage."""
        return self.counted("end")
