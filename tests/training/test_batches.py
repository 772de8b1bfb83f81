"""The auditor's command: the records of each global batch match the arithmetic of the order."""

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from common.errors import DataError, UsageError
from schemas.config import load
from schemas.manifest import Manifest
from schemas.runs import RUN_FILE
from schemas.settings import Train
from tests.training.published import Published, publish, publish_again
from training import batches, cli
from training.input.batch_loader import split_order

SHARDS = ((7, 7, 7, 3), (1, 7, 7, 2), (7, 5))
DEFAULTS = Train()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"), train=SHARDS, length=4)


@pytest.fixture(scope="module")
def manifest(published: Published) -> Manifest:
    return published.load()


def epoch_ids(manifest: Manifest, settings: Train, epoch: int, split: str = "train") -> list[str]:
    """Return the ids of an epoch by position: the order's arithmetic, applied to the ids in the files."""
    groups = []
    for shard in manifest.splits[split].shards:
        file = pq.ParquetFile(manifest.shard_uri(shard))
        for number in range(file.num_row_groups):
            groups.append(file.read_row_group(number, columns=["record_id"])["record_id"].to_pylist())
    rows = split_order(manifest, split, settings).epoch(epoch).all_rows()
    return [groups[group][row] for group, row in rows.tolist()]


def expected_lines(ids: Sequence[str], batch: int, position: int = 0) -> list[dict[str, Any]]:
    lines = []
    while position < len(ids):
        number = position // batch
        end = (number + 1) * batch
        lines.append({"batch": number, "position": position, "record_ids": list(ids[position:end])})
        position = end
    return lines


class Auditor:
    """Runner of the command on a data set, which returns its output."""

    def __init__(self, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.manifest, self.capsys = manifest, capsys

    def __call__(self, *flags: object) -> list[dict[str, Any]]:
        return self.run("--manifest", self.manifest, *flags)

    def run(self, *flags: object) -> list[dict[str, Any]]:
        assert batches.main([str(flag) for flag in flags]) == 0
        self.said = self.capsys.readouterr()
        return [json.loads(line) for line in self.said.out.splitlines()]


@pytest.fixture
def audit(published: Published, capsys: pytest.CaptureFixture[str]) -> Auditor:
    return Auditor(published.manifest, capsys)


@pytest.mark.parametrize(("epoch", "seed", "batch"), [(0, 0, 16), (3, 0, 1), (0, 7, 1000), (2, 7, 5)])
def test_all_rows_of_an_epoch_in_the_order_of_the_arithmetic(
    audit: Auditor, manifest: Manifest, epoch: int, seed: int, batch: int
) -> None:
    ids = epoch_ids(manifest, Train(seed=seed), epoch)
    assert len(set(ids)) == sum(map(sum, SHARDS))
    found = audit("--split", "train", "--epoch", epoch, "--seed", seed, "--batch", batch)
    assert found == expected_lines(ids, batch)


def test_the_ranks_together_have_the_rows_of_the_global_batch(audit: Auditor, manifest: Manifest) -> None:
    whole = audit("--epoch", 1, "--batch", 10)
    streams = split_order(manifest, "train", DEFAULTS).stream_count
    assert streams == 10
    for ranks in (1, 2, 3, streams):
        assert audit("--epoch", 1, "--batch", 10, "--ranks", ranks) == whole
        shares = [
            audit("--epoch", 1, "--batch", 10, "--ranks", ranks, "--rank", rank) for rank in range(ranks)
        ]
        for line, *parts in zip(whole, *shares, strict=True):
            assert all(
                (part["batch"], part["position"]) == (line["batch"], line["position"]) for part in parts
            )
            owners = (line["position"] + np.arange(len(line["record_ids"]))) % streams % ranks
            for rank, part in enumerate(parts):
                own = [one for one, owner in zip(line["record_ids"], owners, strict=True) if owner == rank]
                assert part["record_ids"] == own


def test_from_a_position_on_the_rest_is_that_of_the_whole_epoch(audit: Auditor, manifest: Manifest) -> None:
    ids = epoch_ids(manifest, DEFAULTS, 2)
    for position, ranks in itertools.product((0, 1, 16, 23, len(ids) - 1), (1, 3)):
        found = audit("--epoch", 2, "--batch", 16, "--position", position, "--ranks", ranks)
        assert found == expected_lines(ids, 16, position)
    assert audit("--epoch", 2, "--position", len(ids)) == []


def test_a_rank_without_rows_takes_part_in_every_batch(audit: Auditor) -> None:
    found = audit("--epoch", 0, "--batch", 1, "--ranks", 4, "--rank", 3)
    assert [line["batch"] for line in found] == list(range(sum(map(sum, SHARDS))))
    assert {len(line["record_ids"]) for line in found} == {0, 1}


def test_the_other_splits_can_have_more_ranks_than_row_groups(audit: Auditor, manifest: Manifest) -> None:
    ids = epoch_ids(manifest, DEFAULTS, 0, "validation")
    found = audit("--split", "validation", "--epoch", 0, "--batch", 8, "--ranks", 5)
    assert found == expected_lines(ids, 8)


def test_settings_come_from_the_configuration_and_flags_go_before_them(
    audit: Auditor, published: Published, manifest: Manifest
) -> None:
    train = load(published.config).train
    assert (train.streams, train.window, train.batch) == (8, 2, 16)
    found = audit.run("--config", published.config, "--epoch", 1)
    assert found == expected_lines(epoch_ids(manifest, train, 1), 16)
    assert "seed 0, 8 streams, window 2, batches of 16" in audit.said.err
    changed = train.model_copy(update={"streams": 3, "seed": 9})
    found = audit(
        "--config", published.config, "--set", "train.streams=3", "--seed", 9, "--batch", 7, "--epoch", 1
    )
    assert found == expected_lines(epoch_ids(manifest, changed, 1), 7)


def test_a_version_is_named_by_its_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = publish(tmp_path, train=SHARDS, length=4)
    newest = publish_again(published)
    audit, train = Auditor(published.manifest, capsys), load(published.config).train
    of_first = expected_lines(epoch_ids(published.load(), train, 0), 16)
    assert audit.run("--config", published.config, "--version", 0, "--epoch", 0) == of_first
    of_newest = audit.run("--config", published.config, "--epoch", 0)
    assert of_newest == expected_lines(epoch_ids(newest, train, 0), 16)
    assert of_newest != of_first


def write_run(folder: Path, manifest: Path, root: str, train: Train) -> Path:
    document = {
        "manifest": str(manifest),
        "manifest_root": root,
        "configuration": {"train": train.model_dump(mode="json")},
    }
    folder.mkdir()
    (folder / RUN_FILE).write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_the_folder_of_a_run_is_all_that_is_needed(
    audit: Auditor, published: Published, manifest: Manifest, tmp_path: Path
) -> None:
    train = Train(streams=4, window=3, batch=9, seed=5)
    run = write_run(tmp_path / "run", published.manifest, manifest.manifest_root, train)
    assert audit.run("--run", run, "--epoch", 6) == expected_lines(epoch_ids(manifest, train, 6), 9)
    # The manifest may have moved since, but it has to be the same one.
    write_run(tmp_path / "moved", tmp_path / "nowhere.json", manifest.manifest_root, train)
    assert len(audit("--run", tmp_path / "moved", "--epoch", 0)) == 6
    with pytest.raises(DataError, match="nowhere"):
        audit.run("--run", tmp_path / "moved", "--epoch", 0)
    other = write_run(tmp_path / "other", published.manifest, "f" * 64, train)
    with pytest.raises(UsageError, match=r"was trained on the manifest root ffffffffffffffff….*--manifest"):
        audit.run("--run", other, "--epoch", 0)
    with pytest.raises(UsageError, match=r"absent/run.json cannot be read .*--run"):
        audit.run("--run", tmp_path / "absent", "--epoch", 0)
    (run / RUN_FILE).write_text('{"configuration": {}}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"run/run.json does not tell how the run was configured.*--config"):
        audit.run("--run", run, "--epoch", 0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epoch", "-1"], "--epoch -1: the first epoch is 0"),
        (["--epoch", "0", "--split", "dev"], "--split dev: the data set has test, train, validation"),
        (["--epoch", "0", "--position", "-1"], "--position -1: an epoch of the train split has 53 rows"),
        (["--epoch", "0", "--position", "54"], "--position 54: an epoch of the train split has 53 rows"),
        (["--epoch", "0", "--batch", "0"], "--batch 0: allowed is 1 or more"),
        (["--epoch", "0", "--seed", "-1"], "--seed -1: allowed is 0 or more"),
        (["--epoch", "0", "--ranks", "0"], "--ranks 0: give at least 1"),
        (["--epoch", "0", "--rank", "0"], "--rank 0 of how many"),
        (["--epoch", "0", "--ranks", "2", "--rank", "2"], "--rank 2: of 2 ranks the first is 0, the last 1"),
        (["--epoch", "0", "--ranks", "2", "--rank", "-1"], "--rank -1: of 2 ranks"),
        (["--epoch", "0", "--ranks", "65"], "65 ranks cannot share 10 streams"),
        (["--epoch", "0", "--set", "train.seed=1"], "--set overrides keys of a configuration"),
    ],
)
def test_wrong_flags_are_refused_with_what_is_allowed(audit: Auditor, flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        audit(*flags)


def test_without_any_data_set_the_remedy_is_named(audit: Auditor) -> None:
    for flags in ([], ["--manifest", "latest"]):
        with pytest.raises(UsageError, match="which data set"):
            audit.run("--epoch", 0, *flags)


def test_a_missing_shard_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = publish(tmp_path, length=4)
    own.shard(number=1).unlink()
    with pytest.raises(DataError, match=own.shard(number=1).name):
        Auditor(own.manifest, capsys)("--epoch", 0)


def test_the_console_script_has_the_command(
    published: Published, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["batches", "--manifest", str(published.manifest), "--epoch", "0"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected_lines(
        epoch_ids(manifest, DEFAULTS, 0), DEFAULTS.batch
    )


def test_a_reader_who_has_seen_enough_is_no_error(published: Published) -> None:
    command = [sys.executable, "-m", "training.batches", "--manifest", str(published.manifest)]
    with subprocess.Popen(
        [*command, "--epoch", "0", "--batch", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=120) == 0
    assert "error" not in said.lower()
    assert "Traceback" not in said
