"""`python -m training.train` in a world of one: whole runs on a small published data set."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.errors import CheckError, DataError, UsageError
from provenance.checksums import sha256_of
from schemas import manifest
from schemas.config import load
from tests.training.published import Published, publish, publish_again
from training.checkpoints import store
from training.input import windows
from training.input.batch_loader import split_order
from training.input.proof import Proof
from training.methods import plain
from training.parallel.communicator import Communicator
from training.tracking import metrics, non_finite, summary
from training.train import main

logging.getLogger("tensorboard").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


def train(published: Published, run: str, *flags: str) -> int:
    return main(["--config", str(published.config), "--run", run, *flags])


def training(published: Published, run: str) -> dict[str, Any]:
    section: dict[str, Any] = summary.read(folder(published, run))["training"]
    return section


def folder(published: Published, run: str) -> Path:
    return published.root / "runs" / run


@pytest.fixture(scope="module")
def whole(published: Published) -> str:
    """Train a run from beginning to end; return its name."""
    assert train(published, "whole") == 0
    return "whole"


def test_the_folders_of_data_set_and_run_may_have_any_name(tmp_path: Path) -> None:
    published = publish(tmp_path / "50% of é, a;b`c`")
    runs = tmp_path / "h#1 [2] %20 \\ q?x *"
    assert train(published, "run", "--set", f"train.runs={runs}", "--set", "train.epochs=1") == 0
    assert Path(summary.read(runs / "run")["training"]["checkpoint"]).parent == runs / "run" / "checkpoints"


def test_the_summary_tells_of_data_set_and_training(published: Published, whole: str) -> None:
    content = json.loads((folder(published, whole) / "summary.json").read_text())
    sealed = published.load()
    assert content["dataset"] == {
        "records_in": 239,
        "quarantined": 1,
        "exact_duplicates": 2,
        "near_duplicates": 1,
        "filtered": 1,
        "published": 234,
        "splits": {"train": 173, "validation": 41, "test": 20},
        "manifest": str(published.manifest),
        "manifest_root": sealed.manifest_root,
        "delta_version": 0,
        "seconds": 1.5,
    }
    part = content["training"]
    assert (part["world_size"], part["epochs"], part["steps"], part["samples_seen"]) == (1, 2, 22, 346)
    assert part["seconds"] > 0
    assert part["samples_per_second"] > 0
    assert 0 <= part["input_wait_share"] <= 1
    file = Path(part["checkpoint"])
    assert file == folder(published, whole) / "checkpoints" / "step-00000022.pt"
    assert sha256_of(str(file))[0] == part["checkpoint_sha256"]
    state = torch.load(file, weights_only=True)
    assert state["manifest_root"] == sealed.manifest_root
    assert state["position"] == 346


def test_an_earlier_version_can_be_trained_on_by_its_number(tmp_path: Path) -> None:
    published = publish(tmp_path)
    newest = publish_again(published)
    flags = ("--set", "train.epochs=1")
    assert train(published, "newest", *flags) == 0
    assert train(published, "earlier", "--version", "0", *flags) == 0
    found = [summary.read(folder(published, run))["dataset"] for run in ("newest", "earlier")]
    assert [(one["manifest_root"], one["delta_version"]) for one in found] == [
        (newest.manifest_root, 1),
        (published.load().manifest_root, 0),
    ]
    with pytest.raises(UsageError, match=r"there is no manifest of version 7 in .*; there are those of 0, 1"):
        train(published, "none", "--version", "7")


def test_metrics_stand_in_both_places(published: Published, whole: str) -> None:
    entries = metrics.read(folder(published, whole))
    steps = [entry["step"] for entry in entries if entry["kind"] == "train"]
    assert steps == [4, 8, 11, 12, 16, 20, 22]
    for entry in entries:
        if entry["kind"] == "train":
            assert entry["position"] == min(entry["step"] * 16, 173 + max(0, entry["step"] - 11) * 16, 346)
            assert set(entry) >= {"loss", "learning_rate", "gradient_norm", "samples_per_second"}
            assert 0 <= entry["input_wait_share"] <= 1
    validation = [entry for entry in entries if entry["kind"] == "validation"]
    assert [entry["epoch"] for entry in validation] == [1, 2]
    assert all(0 <= entry["accuracy"] <= 1 and entry["loss"] > 0 for entry in validation)
    events = EventAccumulator(str(folder(published, whole) / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "validation/accuracy"} <= set(events.Tags()["scalars"])
    assert [one.step for one in events.Scalars("train/loss")] == steps


def test_a_model_learns(tmp_path: Path) -> None:
    published = publish(tmp_path, train=((64,) * 8,) * 2, validation=((128,),))
    assert train(published, "learns", "--set", "train.epochs=6") == 0
    entries = [entry for entry in metrics.read(folder(published, "learns")) if entry["kind"] == "validation"]
    assert entries[-1]["accuracy"] > 0.7  # three classes; guessing gives a third


def test_a_rerun_gives_the_same_weights(published: Published, whole: str) -> None:
    assert train(published, "again") == 0
    assert training(published, "again")["weights_sha256"] == training(published, whole)["weights_sha256"]
    assert train(published, "other", "--set", "train.seed=1") == 0
    assert training(published, "other")["weights_sha256"] != training(published, whole)["weights_sha256"]


@pytest.mark.parametrize("steps", ["3", "11", "14"])  # in mid-epoch, at its end, in the second
def test_a_resumed_run_equals_the_uninterrupted_one(published: Published, whole: str, steps: str) -> None:
    run = f"halves-{steps}"
    assert train(published, run, "--stop-after", steps) == 0
    assert not (folder(published, run) / "summary.json").exists()
    assert train(published, run, "--resume") == 0
    for key in ("weights_sha256", "checkpoint_sha256", "samples_seen", "steps"):
        assert training(published, run)[key] == training(published, whole)[key]
    logged = [e["step"] for e in metrics.read(folder(published, run)) if e["kind"] == "train"]
    assert logged == sorted(set(logged))
    assert logged[-1] == 22


def test_resume_takes_the_last_good_checkpoint(
    published: Published, whole: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(published, "damaged", "--stop-after", "13") == 0
    file = folder(published, "damaged") / "checkpoints" / "step-00000013.pt"
    file.write_bytes(file.read_bytes()[:-1])
    assert train(published, "damaged", "--resume") == 0
    shown = capsys.readouterr().err
    assert "the checkpoint of step 13 is skipped" in shown
    assert "from step 11 on" in shown
    assert "set aside as .rejected: step-00000013.json, step-00000013.pt" in shown
    assert training(published, "damaged")["weights_sha256"] == training(published, whole)["weights_sha256"]
    # Entries between the two checkpoints are logged again, once.
    logged = [e["step"] for e in metrics.read(folder(published, "damaged")) if e["kind"] == "train"]
    assert logged == [4, 8, 11, 12, 16, 20, 22]


def test_a_lost_summary_is_written_again(published: Published) -> None:
    assert train(published, "lost") == 0
    before = training(published, "lost")
    (folder(published, "lost") / "summary.json").unlink()
    assert train(published, "lost", "--resume") == 0
    after = training(published, "lost")
    assert {k: after[k] for k in ("steps", "samples_seen", "weights_sha256", "checkpoint_sha256")} == {
        k: before[k] for k in ("steps", "samples_seen", "weights_sha256", "checkpoint_sha256")
    }


def test_resume_with_other_data_or_settings_is_refused(published: Published, tmp_path: Path) -> None:
    assert train(published, "changed", "--stop-after", "2") == 0
    with pytest.raises(UsageError, match=r"model\.dropout was 0\.1 .* and is now 0\.2"):
        train(published, "changed", "--resume", "--set", "model.dropout=0.2")
    other = publish(tmp_path, seed=2)
    with pytest.raises(UsageError, match="was trained on the manifest with the root"):
        train(published, "changed", "--resume", "--manifest", str(other.manifest))


def test_check_validates_and_writes_nothing(published: Published) -> None:
    assert train(published, "checked", "--check") == 0
    assert not folder(published, "checked").exists()
    with pytest.raises(UsageError, match="use letters"):
        train(published, "../outside", "--check")
    with pytest.raises(UsageError, match=r"unknown key 'train\.epoch'"):
        train(published, "checked", "--check", "--set", "train.epoch=1")


def test_a_configuration_that_does_not_belong_to_the_data_is_refused(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        UsageError, match=r"of the data set: feature\.0\.length is 32, published with 16: publish"
    ):
        train(published, "wrong", "--set", "feature.0.length=32")
    with pytest.raises(UsageError, match="the manifest is of the data set 'synthetic'"):
        train(published, "w", "--set", "dataset.name=other", "--manifest", str(published.manifest))
    assert train(published, "wrong", "--check", "--set", "split.seed=5") == 0
    assert "has changed in split since" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_damaged_shard_is_refused_before_the_first_step(tmp_path: Path, split: str) -> None:
    published = publish(tmp_path)
    shard = published.shard(split)
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=shard.name):
        train(published, "refused")
    assert not folder(published, "refused").exists()


def test_a_damaged_artifact_is_refused(tmp_path: Path) -> None:
    published = publish(tmp_path)
    sealed = published.load()
    Path(sealed.artifact_uri(sealed.content.artifacts[0].sha256)).write_text('["x"]', encoding="utf-8")
    with pytest.raises(DataError, match=sealed.content.artifacts[0].sha256):
        train(published, "refused")


def test_too_little_memory_is_refused_with_the_figure(published: Published) -> None:
    with pytest.raises(UsageError, match=r"reading would hold [\d,]+ bytes .* above train.read_memory = 10"):
        train(published, "refused", "--set", "train.read_memory=10")


def test_lost_rows_are_found_at_the_end_of_the_epoch(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Purpose of the proof: a reader that loses a row, or reads one twice, does not pass."""
    real = windows.WindowPool._gather

    def losing(pool: windows.WindowPool, places: Any, *rest: Any) -> windows.Block:
        block = real(pool, places, *rest)
        return dataclasses.replace(block, keys=block.keys[:-1])

    def repeating(pool: windows.WindowPool, places: Any, *rest: Any) -> windows.Block:
        places[0] = places[-1]
        return real(pool, places, *rest)

    for broken in (losing, repeating):
        monkeypatch.setattr(windows.WindowPool, "_gather", broken)
        with pytest.raises(CheckError, match=r"epoch 1 read .* rows were lost or repeated"):
            train(published, broken.__name__)


def test_the_proof_is_exact_for_the_largest_sums(communicator: Communicator) -> None:
    proof = Proof(2**40, (2**64 - 1, 2**63)).over_all_ranks(communicator)
    assert (proof.count, proof.sums) == (2**40, (2**64 - 1, 2**63))


DIVERGING = ["--set", "optimizer.learning_rate=1e38", "--set", "train.clip_norm=1e30"]


def test_a_loss_that_is_not_finite_ends_the_training_and_names_the_records(published: Published) -> None:
    with pytest.raises(
        CheckError, match=r"not finite at step 2 \(record ids in .*non_finite\.jsonl\): lower"
    ):
        train(published, "diverged", *DIVERGING)
    run = folder(published, "diverged")
    (found,) = non_finite.read(run)
    assert (found.step, found.epoch, found.position) == (2, 1, 16)
    # The second batch of the first epoch, by the arithmetic of the order.
    loaded, settings = published.load(), load(published.config).train
    rows = split_order(loaded, "train", settings).epoch(0).all_rows()[16:32].tolist()
    groups = [(shard, first) for shard in (0, 1) for first in (0, 32, 64)]
    ids = [f"train-{groups[group][0]}-{groups[group][1] + row}" for group, row in rows]
    assert found.record_ids == ids
    assert store.last_good(run, pytest.fail) is None


def test_batches_that_are_not_finite_can_be_skipped(
    published: Published, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = plain.Plain.step

    def once(method: Any, batch: Any, step: int, *rest: Any) -> Any:
        if step == 4:
            method.parameters[-1].register_hook(lambda gradient: gradient * torch.nan)
        return real(method, batch, step, *rest)

    monkeypatch.setattr(plain.Plain, "step", once)
    assert train(published, "skipping", "--set", "train.on_non_finite=skip", "--set", "train.epochs=1") == 0
    shown = capsys.readouterr().err
    assert "warning: the batch of step 5" in shown
    assert "; 7 batches skipped, whose loss or gradient was not finite; summary: " in shown.splitlines()[-1]
    found = training(published, "skipping")
    # The hook stays, so every batch from the fifth on is skipped, but read.
    assert (found["batches_skipped"], found["steps"], found["samples_seen"]) == (7, 11, 173)
    assert [one.step for one in non_finite.read(folder(published, "skipping"))] == list(range(5, 12))
    record = store.last_good(folder(published, "skipping"), pytest.fail)
    assert record is not None
    assert all(torch.isfinite(tensor).all() for tensor in record[1]["model"].values())
    flags = ("--set", "train.on_non_finite=skip", "--set", "train.max_skipped=3")
    with pytest.raises(
        CheckError, match=r"3 batches in a row were skipped up to step 7 .*train\.max_skipped"
    ):
        train(published, "skipping-in-vain", *flags)


def test_learning_goes_on_with_other_data_when_told_so(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(published, "moving") == 0
    other = publish(tmp_path, train=((32, 32), (20,)), seed=2)
    flags = [
        "--config",
        str(published.config),
        "--run",
        "moving",
        "--manifest",
        str(other.manifest),
        "--resume",
    ]
    with pytest.raises(UsageError, match="learn on from these weights on the other data with --new-data"):
        main(flags)
    with pytest.raises(UsageError, match="--new-data says from which data"):
        main([*flags[:-1], "--new-data"])
    before = training(published, "moving")
    assert main([*flags, "--new-data"]) == 0
    shown = capsys.readouterr().err
    assert "goes on from step 22 with the weights that were trained on" in shown
    after = training(published, "moving")
    # Two epochs of 84 rows in batches of 16 more.
    assert (after["steps"], after["samples_seen"]) == (22 + 2 * 6, 2 * 84)
    chain = store.read_chain(folder(published, "moving"))
    assert [r.manifest_root for r in chain].count(other.load().manifest_root) >= 2
    first = next(r for r in chain if r.manifest_root == other.load().manifest_root)
    assert first.previous == before["checkpoint_chain"]
    entries = metrics.read(folder(published, "moving"))
    rates = {e["step"]: e["learning_rate"] for e in entries if e["kind"] == "train"}
    assert rates[24] > rates[22]  # the schedule starts again


def test_a_folder_that_cannot_be_written_is_named(published: Published) -> None:
    (published.root / "runs").mkdir(exist_ok=True)
    (published.root / "runs" / "file").touch()
    with pytest.raises(UsageError, match="runs/file/lock cannot be created"):
        train(published, "file")


def test_clipping_runs_and_a_credential_is_not_noted(published: Published) -> None:
    secret = ("--set", "storage.fsspec.secret=hush")
    assert train(published, "clipped", "--set", "train.clip_norm=0.1", *secret, "--stop-after", "3") == 0
    began = (folder(published, "clipped") / "run.json").read_text()
    assert "--set storage.fsspec.secret=... --stop-after 3" in began
    assert "hush" not in began


def test_run_json_holds_what_repeats_the_run(published: Published, whole: str) -> None:
    document = json.loads((folder(published, whole) / "run.json").read_text())
    assert document["command"] == f"python -m training.train --config {published.config} --run whole"
    assert document["manifest"] == str(published.manifest)
    assert document["manifest_root"] == manifest.load(str(published.manifest)).manifest_root
    assert document["configuration"]["train"]["batch"] == 16
    assert "storage" not in document["configuration"]
    assert document["environment"]["world_size"] == 1
    assert document["environment"]["torch"].startswith(torch.__version__.split("+")[0])


def test_only_rank_0s_folder_is_written_by_summary_updates(tmp_path: Path) -> None:
    summary.update(tmp_path, training={"steps": 1})
    summary.update(tmp_path, evaluation={"accuracy": 0.5})
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content == {"training": {"steps": 1}, "evaluation": {"accuracy": 0.5}}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    (tmp_path / "summary.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"summary\.json is no JSON object"):
        summary.update(tmp_path, reports={})
