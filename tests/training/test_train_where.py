"""`train.where`: an epoch takes the rows of some classes alone, each exactly once, on any number of ranks."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import CheckError, UsageError
from provenance.keys import key_sums
from schemas.config import load
from schemas.manifest import Manifest
from tests.training.published import Published, publish
from tests.training.test_class_balance import EPOCHS, expected_ids, ids_read, rows_by_group, settings
from training.engine.preparation import check_configuration
from training.input.batch_loader import BatchLoader, split_order
from training.input.proof import Proof
from training.parallel.world import World
from training.tracking import metrics, summary
from training.train import main

SHARDS = ((7, 7, 7, 3), (1, 7, 7, 2), (7, 5), (2, 2, 2))
WHERE = 'where = {label = ["alpha", "gamma"]}'


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish classes of which one is left out; of some row groups no row is taken."""
    root = tmp_path_factory.mktemp("where")
    return publish(root, train=SHARDS, length=4, chances=(0.2, 0.75, 0.05), where=WHERE)


@pytest.fixture(scope="module")
def manifest(published: Published) -> Manifest:
    return published.load()


@pytest.fixture(scope="module")
def taken(manifest: Manifest) -> Counter[str]:
    """Return the ids that an epoch takes, from the files."""
    return Counter(one for group in rows_by_group(manifest) for one, name in group if name != "beta")


def test_the_data_set_has_row_groups_without_a_row_to_take(manifest: Manifest) -> None:
    train = manifest.splits["train"]
    groups = [rows for shard in train.shards for rows in shard.epoch_row_groups or []]
    assert 0 in groups
    assert 0 < sum(groups) == train.epoch_rows < train.rows
    order = split_order(manifest, "train", settings(streams=64))
    assert order.stream_count == sum(rows > 0 for rows in groups)


@pytest.mark.parametrize(("streams", "window"), [(4, 2), (3, 1), (64, 1000)])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_each_row_that_is_taken_exactly_once_and_no_other(
    manifest: Manifest, taken: Counter[str], streams: int, window: int, ranks: int
) -> None:
    train = settings(streams=streams, window=window)
    rows = manifest.splits["train"].epoch_rows
    whole = [expected_ids(manifest, train, epoch) for epoch in range(EPOCHS)]
    assert whole[0] != whole[1]
    together = [*whole[0], *whole[1]]
    for start in (0, 1, rows - 1, rows, rows + 5):
        found, before = ids_read(manifest, train, ranks, start), start
        assert max(found) == 2 * rows
        for at in sorted(found):
            # A global batch holds the same rows on any number of ranks, wherever reading begins.
            assert sorted(found[at]) == sorted(together[before:at])
            before = at
    assert Counter(whole[0]) == Counter(whole[1]) == taken


def test_a_proof_tells_rows_of_another_class(manifest: Manifest) -> None:
    train = manifest.splits["train"]
    with BatchLoader(manifest, "train", settings(), World(0, 1)) as loader:
        keys = np.concatenate([batch.keys for batch in loader])
    assert key_sums(keys) == train.epoch_key_sums != train.key_sums
    right, all_rows = Proof(), Proof(train.rows, train.key_sums)
    right.add(keys)
    right.check(train, "epoch 1")
    with pytest.raises(CheckError, match="rows were lost or repeated"):
        all_rows.check(train, "epoch 1")


def test_the_other_splits_are_read_whole(manifest: Manifest) -> None:
    validation = manifest.splits["validation"]
    with BatchLoader(manifest, "validation", settings(), World(0, 1)) as loader:
        assert sum(batch.rows for batch in loader) == validation.rows == validation.epoch_rows


def train(published: Published, run: str, *flags: str) -> dict[str, Any]:
    assert main(["--config", str(published.config), "--run", run, *flags]) == 0
    section: dict[str, Any] = summary.read(published.root / "runs" / run).get("training", {})
    return section


def test_a_training_takes_these_rows_and_resumes_bit_for_bit(
    published: Published, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    split = manifest.splits["train"]
    rows = split.epoch_rows
    whole = train(published, "whole")
    shown = capsys.readouterr().err
    assert f"every one of the {rows} rows that train.where takes, of {split.rows}, read exactly once" in shown
    assert (whole["steps"], whole["samples_seen"]) == (2 * -(-rows // 16), 2 * rows)
    entries = metrics.read(published.root / "runs" / "whole")
    assert [e["position"] for e in entries if e["kind"] == "validation"] == [rows, 2 * rows]
    train(published, "halves", "--stop-after", "2")
    halves = train(published, "halves", "--resume")
    assert halves["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize("changed", ['train.where={label="alpha"}', None])
def test_a_condition_that_was_not_published_is_refused(
    published: Published, manifest: Manifest, changed: str | None, tmp_path: Path
) -> None:
    """A changed `train.where` takes effect when the data set is published again, so training says that."""
    if changed is None:
        without = tmp_path / "without.toml"
        without.write_text(published.config.read_text().replace(WHERE, ""))
        config = load(without)
    else:
        config = load(published.config, [changed])
    with pytest.raises(UsageError, match=r"published with \['alpha', 'gamma'\]: publish it again"):
        check_configuration(config, manifest)
    check_configuration(load(published.config), manifest)
