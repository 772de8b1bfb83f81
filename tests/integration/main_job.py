"""The main job on a slice of the demo's real data, started as by a user: separate processes, in a folder."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import manifest as manifests
from schemas.manifest import Manifest
from tests.training.devices import FOR_TWO

CHECKOUT = Path(__file__).resolve().parents[2]
SLICE = [
    "feature.0.vocabulary=600",
    "feature.0.length=48",
    "publish.rows_per_group=32",
    "publish.shards=4",
    "model.width=16",
    "model.heads=2",
    "train.epochs=2",
    "train.batch=64",
    "train.streams=4",
    "train.window=2",
    "train.checkpoint_every=7",
    "evaluate.regularisation=[10.0]",
    # A class of a few rows cannot be spread evenly.
    "quality.max_class_deviation=1.0",
]


@dataclass(frozen=True)
class MainJob:
    """A working folder of its own, and the data that all of these read."""

    folder: Path
    licences: Path

    def settings(self, *more: str) -> list[str]:
        """Return the `--set` flags of the slice: the licences and the rules whose names begin with b."""
        paths = [
            f"source.0.path={self.licences}/licenses/b*.LICENSE",
            f"source.1.path={self.licences}/rules/b*.RULE",
        ]
        roots = [f"source.{n}.root={self.licences}" for n in (0, 1)]
        return [flag for key in (*paths, *roots, *SLICE, *more) for flag in ("--set", key)]

    def command(
        self, module: str, *flags: str, sets: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m module --config conf/licences.toml flags --set …` in the folder."""
        return self._start([sys.executable, "-m", module], flags, sets, environment)

    def train(
        self, *flags: str, ranks: int = 2, sets: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run training.train under `horovodrun -np ranks`."""
        launcher = [str(Path(sys.executable).with_name("horovodrun")), "-np", str(ranks), "--gloo"]
        launcher += ["-H", f"localhost:{ranks}", sys.executable, "-m", "training.train"]
        return self._start(launcher, flags, sets, FOR_TWO)

    def _start(
        self,
        start: list[str],
        flags: Sequence[str],
        sets: Sequence[str],
        environment: Mapping[str, str] | None,
    ) -> subprocess.CompletedProcess[str]:
        config = ["--config", str(CHECKOUT / "conf" / "licences.toml")]
        return subprocess.run(
            [*start, *config, *flags, *self.settings(*sets)],
            cwd=self.folder,
            env={
                **os.environ,
                "RINGLAKE_DRIVER_MEMORY": "1g",
                "SPARK_MASTER": "local[2]",
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=420,
            check=False,
        )

    def manifest_location(self) -> str:
        return manifests.newest(str(self.folder / "warehouse" / "licences" / "manifests"))

    def manifest(self) -> Manifest:
        return manifests.load(self.manifest_location())

    def summary(self, run: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(
            (self.folder / "runs" / run / "summary.json").read_text(encoding="utf-8")
        )
        return content


def succeeded(process: subprocess.CompletedProcess[str]) -> str:
    """Return the output, both streams; fail with all of it if the exit status is not 0."""
    told = process.stdout + process.stderr
    assert process.returncode == 0, told
    return told
