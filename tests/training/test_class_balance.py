"""Class balance in training: each row exactly as often as the manifest says, and losses with its weights."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch

from common.errors import CheckError, DataError
from provenance.keys import key_sums
from schemas import manifest as contract
from schemas.config import load
from schemas.manifest import Manifest, SplitContent
from schemas.settings import Train
from tests.training.published import CLASSES, Published, publish
from training import batches, methods
from training.input import class_balance
from training.input.batch_loader import BatchLoader, columns_of, split_order
from training.input.columns import SplitFiles
from training.input.memory import memory_need
from training.input.petastorm_reader import PlannedReader
from training.input.proof import Proof
from training.input.wide_rows import Reading
from training.methods import plain
from training.objectives.classification import Classification, class_weights
from training.parallel.world import World
from training.tracking import metrics, non_finite, summary
from training.train import main

SHARDS = ((7, 7, 7, 3), (1, 7, 7, 2), (7, 5))
OVERSAMPLE = 'policy = "oversample"\nmost = 5'
CHANCES = (0.65, 0.3, 0.05)
EPOCHS = 2


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish a majority class, one whose rows are taken a few times, and one that would exceed the allowed repeats."""
    root = tmp_path_factory.mktemp("oversampled")
    return publish(root, train=SHARDS, length=4, balance=OVERSAMPLE, chances=CHANCES)


@pytest.fixture(scope="module")
def manifest(published: Published) -> Manifest:
    return published.load()


def settings(**values: object) -> Train:
    return Train.model_validate({"streams": 4, "window": 2, "batch": 9, "workers": 2, **values})


def rows_by_group(manifest: Manifest) -> list[list[tuple[str, str]]]:
    """Return (record id, class) of each row of each row group of the training split, from the files."""
    groups = []
    for shard in manifest.splits["train"].shards:
        file = pq.ParquetFile(manifest.shard_uri(shard))
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number, columns=["record_id", "label_index"]).to_pylist()
            groups.append([(row["record_id"], CLASSES[row["label_index"]]) for row in rows])
    return groups


@pytest.fixture(scope="module")
def times(manifest: Manifest) -> Counter[str]:
    """Return how often each record is to be taken in an epoch."""
    taken = manifest.splits["train"].balance.repeats
    return Counter({one: taken[name] for group in rows_by_group(manifest) for one, name in group})


def expected_ids(manifest: Manifest, train: Train, epoch: int) -> list[str]:
    """Return the ids of an epoch by position: the order's arithmetic, with each id repeated in its place."""
    taken = manifest.splits["train"].balance.repeats
    groups = [[one for one, name in group for _ in range(taken[name])] for group in rows_by_group(manifest)]
    rows = split_order(manifest, "train", train).epoch(epoch).all_rows()
    return [groups[group][row] for group, row in rows.tolist()]


def ids_read(manifest: Manifest, train: Train, ranks: int, position: int) -> dict[int, list[str]]:
    """Return the ids of each global batch, by the position after it, from all ranks."""
    found: dict[int, list[str]] = {}
    for rank in range(ranks):
        world = World(rank, ranks)
        with BatchLoader(
            manifest, "train", train, world, epochs=EPOCHS, position=position, with_ids=True
        ) as loader:
            for batch in loader:
                assert batch.record_ids is not None
                found.setdefault(batch.position, []).extend(batch.record_ids.tolist())
    return found


def test_the_data_set_has_a_class_that_is_capped_and_one_that_is_not(manifest: Manifest) -> None:
    train = manifest.splits["train"]
    assert train.balance.repeats["alpha"] == 1
    assert 1 < train.balance.repeats["beta"] < 5
    assert train.balance.repeats["gamma"] == 5 < train.label_counts["alpha"] // train.label_counts["gamma"]
    assert train.epoch_rows > train.rows == sum(map(sum, SHARDS))


@pytest.mark.parametrize(("streams", "window"), [(4, 2), (3, 1), (64, 1000)])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_each_row_exactly_as_often_as_the_manifest_says(
    manifest: Manifest, times: Counter[str], streams: int, window: int, ranks: int
) -> None:
    train = settings(streams=streams, window=window)
    rows = manifest.splits["train"].epoch_rows
    found = ids_read(manifest, train, ranks, 0)
    whole = [expected_ids(manifest, train, epoch) for epoch in range(EPOCHS)]
    assert whole[0] != whole[1]
    together = [*whole[0], *whole[1]]
    for epoch in range(EPOCHS):
        of_epoch = [
            one for at, ids in found.items() if epoch * rows < at <= (epoch + 1) * rows for one in ids
        ]
        assert Counter(of_epoch) == Counter(whole[epoch]) == times
    before = 0
    for at in sorted(found):
        # A global batch holds the same rows on any number of ranks.
        assert sorted(found[at]) == sorted(together[before:at])
        before = at


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_reading_goes_on_from_any_position(manifest: Manifest, ranks: int) -> None:
    train = settings()
    rows = manifest.splits["train"].epoch_rows
    whole = expected_ids(manifest, train, 0) + expected_ids(manifest, train, 1)
    starts = [*range(0, rows, 9), 1, 40, rows - 1, rows, rows + 13, 2 * rows - 1]
    for start in starts:
        found = ids_read(manifest, train, ranks, start)
        assert max(found) == 2 * rows
        before = start
        for at in sorted(found):
            assert sorted(found[at]) == sorted(whole[before:at])
            before = at


def test_every_time_a_row_is_taken_it_has_its_own_label_and_features(manifest: Manifest) -> None:
    rows = {}
    for shard in manifest.splits["train"].shards:
        for row in pq.read_table(manifest.shard_uri(shard)).to_pylist():
            rows[row["record_key"]] = (row["label_index"], np.frombuffer(row["tokens"], "<u2").tolist())
    seen = 0
    with BatchLoader(manifest, "train", settings(), World(0, 1)) as loader:
        for batch in loader:
            assert batch.labels is not None
            for key, label, tokens in zip(
                batch.keys, batch.labels.tolist(), batch.features["tokens"].tolist(), strict=True
            ):
                assert rows[key.tobytes()] == (label, tokens)
                seen += 1
    assert seen == manifest.splits["train"].epoch_rows


def test_the_other_splits_are_read_once(manifest: Manifest) -> None:
    validation = manifest.splits["validation"]
    with BatchLoader(manifest, "validation", settings(), World(0, 1), with_ids=True) as loader:
        ids = [one for batch in loader for one in (batch.record_ids if batch.record_ids is not None else [])]
    assert len(ids) == len(set(ids)) == validation.rows == validation.epoch_rows


def test_rows_lie_once_in_memory_however_often_they_are_taken(tmp_path: Path) -> None:
    chances = (0.98, 0.01, 0.01)
    sizes = ((64,) * 8,)
    plain = publish(tmp_path / "plain", train=sizes, chances=chances).load()
    often = publish(
        tmp_path / "often", train=sizes, chances=chances, balance='policy = "oversample"\nmost = 500'
    ).load()
    assert often.splits["train"].epoch_rows > 2 * plain.splits["train"].rows
    train = settings(streams=2, window=2)
    needs = []
    for made in (plain, often):
        order, columns = split_order(made, "train", train), columns_of(made)
        largest = SplitFiles.of(made, "train", columns).largest
        needs.append(memory_need(order, World(0, 1), columns, train, largest=largest))
        assert largest == 64
    assert needs[0].windows_bytes == needs[1].windows_bytes
    assert needs[0].ahead_bytes == needs[1].ahead_bytes
    # The need grows by 8 bytes each time a row is taken.
    largest_taken = max(often.splits["train"].shards[0].epoch_row_groups or [])
    longest = split_order(often, "train", train).stream_rows(0)
    assert needs[1].index_bytes == (3 + 4) * 8 * min(2 * largest_taken, longest) > needs[0].index_bytes
    with BatchLoader(often, "train", train, World(0, 1)) as loader:
        assert sum(batch.rows for batch in loader) == often.splits["train"].epoch_rows


def test_the_auditor_shows_each_record_as_often(
    published: Published, manifest: Manifest, times: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--manifest", str(published.manifest), "--epoch", "1", "--batch", "7", "--ranks", "2"]
    assert batches.main(flags) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ids = [one for line in lines for one in line["record_ids"]]
    assert ids == expected_ids(manifest, Train(), 1)
    assert Counter(ids) == times
    assert lines[-1]["position"] == (len(lines) - 1) * 7


def altered(manifest: Manifest, folder: Path, **changes: object) -> Manifest:
    """Return a manifest altered in the training split and resealed."""
    split = manifest.splits["train"].model_copy(update=changes)
    content = manifest.content.model_copy(update={"splits": {**manifest.splits, "train": split}})
    again = contract.Manifest.seal(content, manifest.provenance, manifest.delta_version, manifest.dataset_uri)
    file = Path(manifest.dataset_uri) / "manifests" / "altered.json"
    file.write_bytes(again.to_json())
    return contract.load(str(file))


def moved(split: SplitContent) -> list[contract.Shard]:
    """Return the shards with one of the rows taken moved to another row group: the sums stay the same."""
    first = split.shards[0]
    groups = list(first.epoch_row_groups or [])
    larger = next(n for n, rows in enumerate(groups) if rows > first.row_groups[n])
    groups[larger], groups[larger - 1] = groups[larger] - 1, groups[larger - 1] + 1
    return [first.model_copy(update={"epoch_row_groups": groups}), *split.shards[1:]]


@pytest.mark.timeout(60)
def test_rows_that_a_row_group_does_not_give_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    lying = altered(manifest, tmp_path, shards=moved(manifest.splits["train"]))
    message = r"row group \d of .* gives \d+ rows in an epoch instead of the \d+ that the manifest says"
    with (
        pytest.raises(DataError, match=message),
        BatchLoader(lying, "train", settings(), World(0, 1)) as loader,
    ):
        list(loader)


@pytest.mark.timeout(60)
def test_labels_without_a_class_are_refused(manifest: Manifest) -> None:
    columns = columns_of(manifest)
    files = SplitFiles.of(manifest, "train", columns)
    assert files.repeats is not None
    fewer = SplitFiles(**{**vars(files), "repeats": files.repeats[:1]})
    reader = PlannedReader(fewer, map(Reading, range(10)), workers=1, ahead=1)
    try:
        with pytest.raises(DataError, match="labels without a class"):
            list(reader)
    finally:
        reader.stop()
        reader.join()


def test_a_proof_tells_rows_that_were_taken_in_place_of_others(manifest: Manifest) -> None:
    train = manifest.splits["train"]
    keys: list[npt.NDArray[np.uint64]] = []
    with BatchLoader(manifest, "train", settings(), World(0, 1)) as loader:
        keys += [batch.keys for batch in loader]
    whole = np.concatenate(keys)
    assert key_sums(whole) == train.epoch_key_sums != train.key_sums
    right, wrong = Proof(), Proof()
    right.add(whole)
    right.check(train, "epoch 1")
    wrong.add(np.concatenate([whole[:-1], whole[:1]]))
    with pytest.raises(CheckError, match=r"epoch 1 read .*: rows were lost or repeated"):
        wrong.check(train, "epoch 1")
    once = Proof(train.rows, train.key_sums)
    with pytest.raises(CheckError, match="rows were lost"):
        once.check(train, "epoch 1")


def train(published: Published, run: str, *flags: str) -> dict[str, object]:
    assert main(["--config", str(published.config), "--run", run, *flags]) == 0
    section: dict[str, object] = summary.read(published.root / "runs" / run).get("training", {})
    return section


def test_a_training_takes_the_rows_as_often_and_resumes_bit_for_bit(
    published: Published, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = manifest.splits["train"].epoch_rows
    whole = train(published, "whole")
    shown = capsys.readouterr().err
    assert "class balance: oversample" in shown
    assert (
        f"epoch 2: every one of {manifest.splits['train'].rows} rows read exactly as often as the manifest says, "
        f"{rows} in all" in shown
    )
    assert (whole["steps"], whole["samples_seen"]) == (2 * -(-rows // 16), 2 * rows)
    entries = metrics.read(published.root / "runs" / "whole")
    assert [e["position"] for e in entries if e["kind"] == "validation"] == [rows, 2 * rows]
    train(published, "halves", "--stop-after", "3")
    halves = train(published, "halves", "--resume")
    assert halves["weights_sha256"] == whole["weights_sha256"]


def test_a_batch_of_a_later_epoch_that_is_not_finite_names_its_records(
    published: Published, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, steps = plain.Plain.step, -(-manifest.splits["train"].epoch_rows // 16)

    def poisoned(method: Any, batch: Any, step: int, *rest: Any) -> Any:
        if step == steps + 1:  # the second batch of the second epoch
            method.parameters[-1].register_hook(lambda gradient: gradient * torch.nan)
        return real(method, batch, step, *rest)

    monkeypatch.setattr(plain.Plain, "step", poisoned)
    with pytest.raises(CheckError, match="not finite at step"):
        train(published, "poisoned")
    (found,) = non_finite.read(published.root / "runs" / "poisoned")
    assert (found.epoch, found.position) == (2, 16)
    configured = load(published.config).train
    assert found.record_ids == expected_ids(manifest, configured, 1)[16:32]


def as_before(manifest: Manifest, power: float) -> torch.Tensor:
    """Return the class weights as training itself computed them before the manifest stated them."""
    counts = manifest.splits["train"].label_counts
    rarity = [counts[name] ** -power if counts.get(name) else 0.0 for name in CLASSES]
    mean = sum(weight * counts.get(name, 0) for name, weight in zip(CLASSES, rarity, strict=True))
    return torch.tensor([weight * manifest.splits["train"].rows / mean for weight in rarity])


@pytest.mark.parametrize(("strength", "power"), [("balanced", 1.0), ("square_root", 0.5)])
def test_losses_weigh_what_they_weighed_when_training_decided_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strength: str, power: float
) -> None:
    weighted = publish(tmp_path, balance=f'policy = "weights"\nstrength = "{strength}"', chances=CHANCES)
    manifest = weighted.load()
    assert class_balance.repeats_of(manifest, "train") is None
    found = class_weights(manifest, list(CLASSES), torch.device("cpu"))
    assert found is not None
    assert found.dtype == torch.float32
    assert len(set(found.tolist())) == 3
    torch.testing.assert_close(found, as_before(manifest, power), rtol=1e-7, atol=0)
    plain = publish(tmp_path / "plain", chances=CHANCES).load()
    assert class_weights(plain, list(CLASSES), torch.device("cpu")) is None
    used: list[torch.Tensor | None] = []
    build = methods.build

    def noting(context: methods.MethodContext) -> methods.Method:
        assert isinstance(context.objective, Classification)
        used.append(context.objective.class_weights)
        return build(context)

    monkeypatch.setattr(methods, "build", noting)
    train(weighted, "run", "--stop-after", "3")
    assert len(used) == 1
    assert used[0] is not None
    assert torch.equal(used[0].cpu(), found)


def test_weights_that_an_objective_does_not_announce_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighted = publish(tmp_path, balance='policy = "weights"', chances=CHANCES)
    monkeypatch.setattr(Classification, "weighted", property(lambda _: False, lambda *_: None), raising=False)
    with pytest.raises(
        CheckError, match=r"weights of 16 rows sum to .*'classification' is not weighted: set"
    ):
        train(weighted, "run")
