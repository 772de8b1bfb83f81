"""The main job end to end: raw files to a trained, evaluated model, and what it refuses."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from common.command import run
from etl import ingest, pipeline
from tests.integration.main_job import CHECKOUT, MainJob, succeeded
from training import train


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, licences_folder: Path) -> MainJob:
    """Run the whole job in one folder: pipeline, training on 2 ranks, evaluation, both reports."""
    job = MainJob(tmp_path_factory.mktemp("first"), licences_folder)
    succeeded(job.command("etl.pipeline"))
    succeeded(job.train("--run", "demo"))
    succeeded(job.command("training.evaluate", "--run", "demo"))
    succeeded(job.command("training.report", "--run", "demo"))
    return job


@pytest.mark.thorough  # runs the whole job; its links are tested one by one elsewhere
def test_the_summary_accounts_for_every_record(first: MainJob) -> None:
    summary, manifest = first.summary("demo"), first.manifest()
    dataset, training = summary["dataset"], summary["training"]
    lost = ("quarantined", "exact_duplicates", "near_duplicates", "filtered")
    assert dataset["records_in"] == sum(dataset[key] for key in lost) + dataset["published"]
    assert dataset["published"] == sum(dataset["splits"].values())
    assert dataset["records_in"] == manifest.content.sources.files > 1000
    assert dataset["exact_duplicates"] + dataset["near_duplicates"] > 0
    assert dataset["manifest"] == first.manifest_location()
    assert dataset["manifest_root"] == manifest.manifest_root
    assert dataset["delta_version"] == manifest.delta_version
    assert training["world_size"] == 2
    assert training["samples_seen"] == 2 * dataset["splits"]["train"]
    assert training["steps"] == 2 * -(-dataset["splits"]["train"] // 64)
    assert 0 <= training["input_wait_share"] <= 1
    assert len(training["weights_sha256"]) == len(training["checkpoint_sha256"]) == 64
    assert (first.folder / training["checkpoint"]).is_file()
    assert set(summary["evaluation"]) >= {"accuracy", "macro_f1", "baseline_accuracy", "baseline_macro_f1"}
    for report in ("quality", "run"):
        page = (first.folder / summary["reports"][report]).read_text(encoding="utf-8")
        assert manifest.manifest_root in page


@pytest.mark.thorough  # test_killed_pipeline.py tests roots, test_training.py weights, with small data
def test_another_folder_master_and_partitions_give_the_same_root_and_weights(
    first: MainJob, tmp_path: Path
) -> None:
    second = MainJob(tmp_path, first.licences)
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / "spark-defaults.conf").write_text("spark.default.parallelism 3\n", encoding="utf-8")
    environment = {"SPARK_MASTER": "local[1]", "SPARK_CONF_DIR": str(tmp_path / "spark")}
    succeeded(second.command("etl.pipeline", environment=environment))
    assert second.manifest().manifest_root == first.manifest().manifest_root
    assert second.manifest().table_uri != first.manifest().table_uri
    succeeded(second.train("--run", "again"))
    assert (
        second.summary("again")["training"]["weights_sha256"]
        == first.summary("demo")["training"]["weights_sha256"]
    )


@pytest.mark.thorough
def test_the_notebook_runs_on_it(first: MainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLAKE_DATASET", str(first.folder / "warehouse" / "licences"))
    monkeypatch.setenv("RINGLAKE_RUN", str(first.folder / "runs" / "demo"))
    notebook = nbformat.read(CHECKOUT / "notebooks" / "explore.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(CHECKOUT)}}).execute()
    printed = "".join(output.get("text", "") for output in notebook.cells[1].outputs)
    assert first.manifest().manifest_root in printed


@pytest.mark.thorough  # the status is also tested in test_personal_data.py, the rest in test_publish.py
def test_a_failing_gate_ends_the_pipeline_with_status_3_and_publishes_nothing(
    first: MainJob, tmp_path: Path
) -> None:
    strict = MainJob(tmp_path, first.licences)
    process = strict.command("etl.pipeline", sets=["quality.max_duplicate_share=0.0"])
    assert process.returncode == 3, process.stderr
    assert "duplicate" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "warehouse" / "licences" / "manifests").exists()
    assert not (tmp_path / "warehouse" / "licences" / "gold" / "shards" / "_delta_log").exists()


@pytest.mark.parametrize("main", [pipeline.main, ingest.main, train.main])
def test_a_wrong_key_ends_with_status_2_before_anything_runs(
    main: Callable[[Sequence[str] | None], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--config", str(CHECKOUT / "conf" / "licences.toml"), "--set", "model.widht=3"]
    assert run(main, flags + ["--run", "r"] * (main is train.main)) == 2
    assert "unknown key 'model.widht'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough  # also in test_publish.py and test_training.py, with less around it
def test_one_flipped_byte_is_found_by_verify_and_refused_by_training(first: MainJob) -> None:
    manifest = first.manifest()
    shard = Path(manifest.shard_uri(manifest.splits["train"].shards[-1]))
    content, status = shard.read_bytes(), shard.stat()
    damaged = bytearray(content)
    damaged[len(damaged) // 3] ^= 0x10
    shard.write_bytes(damaged)
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        verify = first.command("etl.verify")
        assert verify.returncode == 1
        assert f"{shard} is damaged" in verify.stderr
        for mode in ("full", "cached"):
            refused = first.train("--run", f"refused-{mode}", "--verify", mode)
            assert refused.returncode != 0
            assert f"{shard} is damaged" in refused.stdout + refused.stderr
            assert not (first.folder / "runs" / f"refused-{mode}" / "summary.json").exists()
    finally:
        shard.write_bytes(content)
    assert first.command("etl.verify").returncode == 0
