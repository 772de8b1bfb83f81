"""The language model end to end on a slice of its real data, on two ranks and on one, from another master's shards."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas import manifest as manifests
from schemas.manifest import Manifest
from tests.integration.main_job import CHECKOUT, succeeded
from tests.training.devices import FOR_TWO
from training.checkpoints import store

SLICE = [
    "feature.0.vocabulary=400",
    "feature.0.length=32",
    "publish.rows_per_group=16",
    "publish.shards=3",
    "model.layers=1",
    "model.width=32",
    "model.heads=2",
    "model.dropout=0.0",
    "train.epochs=1",
    "train.batch=64",
    "train.streams=4",
    "train.window=2",
    "objective.prompts=20",
    # Few texts of one kind, most of which are too short.
    "quality.max_filtered_share=0.95",
    "quality.max_split_deviation=1.0",
]


class LanguageJob:
    """A working folder of its own for conf/licences-lm.toml on the rules whose names begin with b."""

    def __init__(self, folder: Path, licences: Path) -> None:
        self.folder, self.licences = folder, licences

    def command(self, *start: str, flags: tuple[str, ...] = (), **environment: str) -> str:
        """Run a command with the configuration of the slice; return its output."""
        places = [f"source.0.path={self.licences}/rules/b*.RULE", f"source.0.root={self.licences}"]
        sets = [flag for key in (*places, *SLICE) for flag in ("--set", key)]
        config = ["--config", str(CHECKOUT / "conf" / "licences-lm.toml"), *flags, *sets]
        return succeeded(
            subprocess.run(
                [*start, *config],
                cwd=self.folder,
                env={**os.environ, "RINGLAKE_DRIVER_MEMORY": "1g", "SPARK_MASTER": "local[2]", **environment},
                capture_output=True,
                text=True,
                timeout=420,
                check=False,
            )
        )

    def python(self, module: str, *flags: str, **environment: str) -> str:
        return self.command(sys.executable, "-m", module, flags=flags, **environment)

    def train(self, run: str, ranks: int) -> str:
        launcher = [str(Path(sys.executable).with_name("horovodrun")), "-np", str(ranks), "--gloo"]
        launcher += ["-H", f"localhost:{ranks}", sys.executable, "-m", "training.train"]
        return self.command(*launcher, flags=("--run", run), **FOR_TWO)

    def manifest(self) -> Manifest:
        return manifests.load(manifests.newest(str(self.folder / "warehouse" / "licences-lm" / "manifests")))

    def summary(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "runs" / run / "summary.json").read_bytes())
        return found


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, licences_folder: Path) -> LanguageJob:
    made = LanguageJob(tmp_path_factory.mktemp("language"), licences_folder)
    made.python("etl.pipeline")
    made.train("two", 2)
    made.python("training.evaluate", "--run", "two")
    made.python("training.report", "--run", "two")
    return made


@pytest.mark.thorough  # its links are tested one by one in test_packing.py and test_language.py
def test_the_summary_has_the_figures_of_both_models(job: LanguageJob) -> None:
    summary, manifest = job.summary("two"), job.manifest()
    evaluation, names = (
        summary["evaluation"],
        ["perplexity", "bits_per_byte", "bleu", "rouge_l", "verbatim_share"],
    )
    assert list(evaluation["figures"]) == list(evaluation["baselines"]["ngram"]) == names
    assert 1 < evaluation["figures"]["perplexity"] < 400
    dataset = summary["dataset"]
    packed = {split: content.packing for split, content in manifest.splits.items()}
    assert sum(one.records for one in packed.values() if one is not None) == dataset["published"] > 100
    page = (job.folder / summary["reports"]["run"]).read_text()
    assert manifest.manifest_root in page
    assert "Packed rows" in page
    written = subprocess.run(
        [
            sys.executable,
            "-m",
            "training.generate",
            "--run",
            "runs/two",
            "--prompt",
            "licensed under",
            "--tokens",
            "5",
        ],
        cwd=job.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert succeeded(written).startswith("licensed under")


@pytest.mark.thorough  # test_plain.py has the same for a classifier, test_packing.py the root
def test_another_master_gives_the_same_rows_and_one_rank_the_same_loss(
    job: LanguageJob, tmp_path: Path
) -> None:
    other = LanguageJob(tmp_path, job.licences)
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / "spark-defaults.conf").write_text("spark.default.parallelism 3\n")
    other.python("etl.pipeline", SPARK_MASTER="local[1]", SPARK_CONF_DIR=str(tmp_path / "spark"))
    assert other.manifest().manifest_root == job.manifest().manifest_root
    other.train("one", 1)
    losses = [
        store.read_chain(one.folder / "runs" / run)[-1].validation_loss
        for one, run in ((job, "two"), (other, "one"))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
