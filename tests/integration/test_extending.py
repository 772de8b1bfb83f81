"""docs/extending.md from end to end: data without a label, read, published, trained on and judged by new kinds."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import extending

pytestmark = (
    pytest.mark.thorough
)  # a whole chain with six new kinds; tests/test_kinds.py finds and refuses kinds

TOWNS = ("Basel", "Bern", "Chur")
ROWS = 90
WORDS = (
    "quiet",
    "sunny",
    "large",
    "garden",
    "near",
    "school",
    "lake",
    "new",
    "roof",
    "old",
    "stairs",
    "view",
)
CHAIN = """
import sys
from common import command
from etl import pipeline
from training import evaluate, report, train
config, run = ["--config", "conf/houses.toml"], ["--run", "first"]
assert command.run(pipeline.main, config) == 0
for main in (train.main, evaluate.main, report.main):
    assert command.run(main, [*config, *run]) == 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the whole chain in a working folder, in one process; return the folder."""
    folder = tmp_path_factory.mktemp("houses")
    environment = extending.install(folder)
    write_houses(folder / "raw")
    done = subprocess.run(
        [sys.executable, "-c", CHAIN],
        cwd=folder,
        env={**environment, "SPARK_LOCAL_DIRS": str(folder / "scratch")},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return folder


def write_houses(raw: Path) -> None:
    """Write two files of houses with prices that follow from the area, and one line that is not a record."""
    chance = random.Random(0)
    lines = []
    for number in range(ROWS):
        area = chance.uniform(40, 200)
        price, town = 7000 * area + chance.gauss(0, 20000), TOWNS[number % len(TOWNS)]
        remark = " ".join(chance.choices(WORDS, k=12))
        lines.append(f"id=h{number};area={area:.1f};price={price:.0f};town={town};remark={remark}")
    raw.mkdir()
    (raw / "a.txt").write_text("\n".join(lines[:40]) + "\n", encoding="utf-8")
    (raw / "b.txt").write_text("\n".join([*lines[40:], "no record"]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "runs" / "first" / "summary.json").read_text())
    return content


def test_no_file_of_ringlake_is_among_the_new_ones() -> None:
    kinds = [name for name in extending.blocks() if name.startswith("my_kinds/")]
    assert len(kinds) == 2 * 6
    for name in kinds:
        assert not (extending.CHECKOUT / name.removeprefix("my_kinds/")).exists()


def test_the_source_format_reads_all_records_and_rejects_what_is_none(results: dict[str, Any]) -> None:
    data = results["dataset"]
    assert (data["records_in"], data["quarantined"]) == (ROWS + 1, 1)
    assert data["published"] == ROWS == sum(data["splits"].values())


def test_the_feature_is_a_column_of_the_shards(folder: Path) -> None:
    (manifest,) = (folder / "lake" / "houses" / "manifests").glob("*.json")
    content = json.loads(manifest.read_text())["content"]
    columns = {column["name"]: column for column in content["columns"]}
    assert (columns["town"]["dtype"], columns["town"]["shape"]) == ("float32", [4])
    assert "label_index" not in columns
    assert "Classes" not in (folder / "lake" / "houses" / "quality" / "report.html").read_text(
        encoding="utf-8"
    )


def test_model_objective_method_and_optimizer_train_and_are_judged(
    folder: Path, results: dict[str, Any]
) -> None:
    assert results["training"]["samples_seen"] == 4 * results["dataset"]["splits"]["train"]
    evaluation = results["evaluation"]
    assert evaluation["objective"] == "copying"
    assert evaluation["rows"] == results["dataset"]["splits"]["test"]
    assert 0 < evaluation["figures"]["squared_error"] < 1
    began = json.loads((folder / "runs" / "first" / "run.json").read_text())["configuration"]
    kinds = {name: began[name]["kind"] for name in ("objective", "model", "method", "optimizer")}
    assert kinds == {
        "objective": "copying",
        "model": "bottleneck",
        "method": "noisy",
        "optimizer": "momentum",
    }
