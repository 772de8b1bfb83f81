"""Packages from `make package` let `spark-submit` run our code on a standalone cluster and on local masters."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.spark.session import EXECUTOR_PYTHON
from schemas import manifest
from tests.integration.cluster import clean_environment, standalone_cluster, submit

pytestmark = pytest.mark.thorough  # packing and unpacking the whole environment takes minutes
CHECKOUT = Path(__file__).resolve().parents[2]
JOB = CHECKOUT / "tests" / "integration" / "submitted_job.py"
# A cluster's own defaults are made for large data: 200 and 50 tasks for a hundred rows.
SMALL = {"spark.sql.shuffle.partitions": "4", "spark.databricks.delta.snapshotPartitions": "2"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run `make package` into a temporary folder."""
    folder = tmp_path_factory.mktemp("dist")
    script = [sys.executable, str(CHECKOUT / "deploy" / "package.py"), str(folder)]
    subprocess.run(script, check=True, cwd=folder, env=clean_environment())
    return folder


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package without its archive, whose unpacking takes most of a submission.

    Executors run the Python of this machine instead.
    """
    folder = tmp_path_factory.mktemp("unpacked")
    (folder / "ringlake.zip").symlink_to(package / "ringlake.zip")
    lines = (package / "spark.properties").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("spark.archives ", EXECUTOR_PYTHON))]
    assert len(kept) == len(lines) - 2
    kept.append(f"{EXECUTOR_PYTHON} {sys.executable}")
    (folder / "spark.properties").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a standalone master with one worker; yield its URL."""
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as url:
        yield url


def test_a_job_runs_on_a_standalone_cluster_from_another_folder(
    package: Path, master: str, tmp_path: Path
) -> None:
    arguments = [str(tmp_path / "table"), str(tmp_path / "findings.json")]
    settings = {**SMALL, "spark.driver.host": "127.0.0.1"}
    result = submit(package, JOB, arguments, tmp_path, master, settings)
    assert result.returncode == 0, result.stdout[-5000:]
    found = json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))
    assert found["master"] == master
    assert found["total"] == sum(number % 7 for number in range(100))
    # the submission's settings take precedence over those of the job
    assert found["time_zone"] == "UTC"
    # driver and workers run the code in the zip, and the workers the packages in the archive
    assert [name for name in ("etl", "schemas", "driver_etl") if "ringlake.zip" not in found[name]] == []
    assert "/environment/site-packages/" in found["pyarrow"]


def test_a_submission_without_the_properties_names_the_remedy(package: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "ringlake.zip").symlink_to(package / "ringlake.zip")
    (bare / "spark.properties").write_text(
        f"spark.pyspark.driver.python {sys.executable}\n", encoding="utf-8"
    )
    result = submit(bare, JOB, ["table", "findings.json"], tmp_path, "local[1]")
    assert result.returncode != 0
    assert "--properties-file dist/spark.properties" in result.stdout


STAGES = ("ingest", "clean", "deduplicate", "split", "encode", "publish")
CONFIGURATION = """
[dataset]
name = "colours"
root = "warehouse"
[[source]]
format = "jsonl"
path = "in/*.jsonl"
[columns]
id = "id"
label = "label"
[[feature]]
name = "tokens"
column = "text"
encode = "tokens"
vocabulary = 300
length = 16
[publish]
shards = 2
rows_per_group = 16
"""


def write_data_set(folder: Path) -> None:
    """Write 120 records in two files: random words, among them a few copies and some e-mail addresses."""
    rng = random.Random(5)
    words = [
        f"{a}{b}"
        for a in ("red", "green", "blue", "pale", "dark")
        for b in ("stone", "river", "cloud", "leaf")
    ]
    texts = [" ".join(rng.choices(words, k=rng.randint(12, 30))) for _ in range(110)]
    texts += texts[:6] + [f"write to {name}@example.org " + texts[7] for name in ("ann", "bob", "eve", "joe")]
    (folder / "in").mkdir(parents=True)
    (folder / "x.toml").write_text(CONFIGURATION, encoding="utf-8")
    for part in range(2):
        with (folder / "in" / f"{part}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(part, len(texts), 2):
                record = {"id": f"r{number}", "label": "ab"[number % 2], "text": texts[number]}
                file.write(json.dumps(record) + "\n")


def root_of(folder: Path) -> str:
    return manifest.load(manifest.newest(str(folder / "warehouse" / "colours" / "manifests"))).manifest_root


@pytest.mark.timeout(1800)
def test_submitted_stages_publish_the_same_root_as_the_local_pipeline(
    unpacked: Path, master: str, tmp_path: Path
) -> None:
    cluster, local = tmp_path / "cluster", tmp_path / "local"
    for folder in (cluster, local):
        write_data_set(folder)
    settings = {"spark.driver.host": "127.0.0.1"}
    for stage in STAGES:
        script = CHECKOUT / "etl" / f"{stage}.py"
        # one stage with the same submission but without a master, which is then local[*]
        chosen, set_for_it = (None, {}) if stage == "split" else (master, settings)
        result = submit(unpacked, script, ["--config", "x.toml"], cluster, chosen, set_for_it)
        assert result.returncode == 0, f"{stage}: {result.stdout[-5000:]}"
        assert " INFO " not in result.stdout
        assert result.stdout.splitlines()[-1].startswith(f"{stage}: ")
    command = [sys.executable, "-m", "etl.pipeline", "--config", "x.toml"]
    variables = {**clean_environment(), "SPARK_MASTER": "local[2]", "RINGLAKE_DRIVER_MEMORY": "1g"}
    subprocess.run(command, check=True, cwd=local, env=variables)
    assert root_of(cluster) == root_of(local)
