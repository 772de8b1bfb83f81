"""Five records, one group with four of them, no test rows: published, copied, trained on where the copy lies."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from etl import history
from etl import verify as verify_data
from etl.versions.building import run_stages
from schemas.config import Configuration, load
from schemas.manifest import load as load_manifest
from schemas.manifest import newest
from schemas.tables import Layout
from training import evaluate, report, train, verify

CONFIGURATION = """
[dataset]
name = "few"
root = "{root}/warehouse"
[[source]]
format = "jsonl"
path = "{root}/*.jsonl"
[columns]
id = "id"
label = "label"
group = "user"
[[feature]]
name = "tokens"
column = "text"
vocabulary = 300
length = 8
[model]
kind = "transformer_classifier"
layers = 1
width = 16
heads = 4
[train]
epochs = 1
runs = "{root}/runs"
"""
TEXTS = (
    "red boats at dawn",
    "seven green hills",
    "a cold black river",
    "the long way home",
    "snow in the yard",
)


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Configuration, str]:
    """Publish five records; return their configuration, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("few")
    records = [
        {"id": f"r{place}", "text": text, "label": "ab"[place % 2], "user": "v" if place == 4 else "u"}
        for place, text in enumerate(TEXTS)
    ]
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in records))
    (folder / "conf.toml").write_text(CONFIGURATION.format(root=folder))
    config = load(folder / "conf.toml")
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        for module in ("etl.stages.split", "etl.versions.publishing"):
            patch.setattr(f"{module}.log", said.append)
        run_stages(spark, config, 0.0, again=False)
    return config, "\n".join(said)


@pytest.fixture
def copy(published: tuple[Configuration, str], tmp_path: Path) -> Iterator[Path]:
    """Copy the data set elsewhere, and damage the original; return the `dataset.root` of the copy."""
    config, _ = published
    root = tmp_path / "elsewhere"
    shutil.copytree(config.dataset.root, root)
    shutil.copytree(config.dataset.root, tmp_path / "kept")
    for shard in Path(Layout.of(config).shards).rglob("*.parquet"):
        shard.write_bytes(b"damaged")
    yield root
    shutil.rmtree(config.dataset.root)
    shutil.copytree(tmp_path / "kept", config.dataset.root)


def test_what_is_the_case_is_told(published: tuple[Configuration, str]) -> None:
    config, said = published
    assert said.count("warning: the test split has no rows: no model can be judged on it") == 2
    page = (Path(Layout.of(config).quality) / "report.html").read_text(encoding="utf-8")
    assert "Needs attention" in page
    assert "The test split has no rows: no model can be judged on it." in page


def test_the_manifest_has_the_largest_group_of_each_split(published: tuple[Configuration, str]) -> None:
    splits = load_manifest(newest(Layout.of(published[0]).manifests)).splits
    assert {name: split.largest_group for name, split in splits.items()} == {
        "train": 4,
        "validation": 1,
        "test": 0,
    }


def test_a_copy_is_verified_and_trained_on_where_it_lies(
    published: tuple[Configuration, str], copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = str(copy.parent / "conf.toml")
    original = Path(published[0].dataset.root).parent
    shutil.copy(original / "conf.toml", conf)
    root, given = ["--root", str(copy)], ["--config", conf, "--run", "first"]
    assert verify_data.main(["--config", conf, *root]) == 0
    assert verify_data.main(["--config", conf]) == 1  # there the original still is
    manifest = newest(str(copy / "few" / "manifests"))
    assert verify_data.main([manifest]) == 0
    assert history.main(["--config", conf, "--set", f"dataset.root={copy}"]) == 0
    runs = ["--set", f"train.runs={tmp_path / 'runs'}"]
    assert train.main([*given, *root, *runs]) == 0
    capsys.readouterr()
    assert evaluate.main([*given, *root, *runs]) == 0
    assert "the test split has no rows: there is nothing to judge the model by" in capsys.readouterr().out
    assert report.main([*given, *root, *runs]) == 0
    assert verify.main([str(tmp_path / "runs" / "first")]) == 0
    summary = json.loads((tmp_path / "runs" / "first" / "summary.json").read_bytes())
    assert summary["dataset"]["splits"] == {"train": 4, "validation": 1, "test": 0}
    assert summary["evaluation"]["accuracy"] is None
