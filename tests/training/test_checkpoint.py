"""Checkpoints: atomic, hashed, tied to their manifest, safe to load."""

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import DataError, UsageError
from provenance.checksums import sha256_of
from schemas.config import Configuration, load
from schemas.kinds import OPTIMIZERS
from tests.training.published import publish
from training.checkpoints import store, tensors
from training.checkpoints.record import CheckpointState, Criterion, Record, best_of, ranked
from training.verify import check_chain


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    return load(publish(tmp_path_factory.mktemp("published"), train=((4,),)).config)


def a_state(config: Configuration, step: int, root: str = "root") -> CheckpointState:
    return {
        "format_version": store.FORMAT_VERSION,
        "manifest_root": root,
        "decisive": json.dumps(store.decisive(config)),
        "step": step,
        "position": step * 16,
        "proof": ["3", "1", str(2**64 - 1)],
        "model": {"weight": torch.full((2, 2), float(step))},
        "method": {},
    }


def facts(
    config: Configuration, validation_loss: float | None = None, criterion: Criterion | None = None
) -> dict[str, Any]:
    return {
        "configuration_sha256": config.sha256(),
        "epoch": 0,
        "finished": False,
        "world_size": 1,
        "validation_loss": validation_loss,
        "criterion": criterion,
        "seconds": 1.0,
        "seconds_waited": 0.0,
    }


def save(run: Path, config: Configuration, step: int, root: str = "root", **validation: Any) -> Record:
    """Save a checkpoint after the last of the chain, as the saver does."""
    chain = store.read_chain(run)
    previous = chain[-1].chain if chain else None
    state = tensors.copied(a_state(config, step, root))
    return store.save(run, state, previous, facts(config, **validation))


def names(run: Path) -> list[str]:
    return sorted(path.name for path in store.folder_of(run).iterdir())


def test_what_was_saved_is_read_back(config: Configuration, tmp_path: Path) -> None:
    record = save(tmp_path, config, 200)
    assert names(tmp_path) == ["chain.jsonl", "step-00000200.json", "step-00000200.pt"]
    found = store.last_good(tmp_path, pytest.fail)
    assert found is not None
    assert found[0] == record
    assert found[1]["proof"] == ["3", "1", str(2**64 - 1)]
    assert torch.equal(found[1]["model"]["weight"], torch.full((2, 2), 200.0))
    assert sha256_of(str(store.folder_of(tmp_path) / record.file))[0] == record.sha256


def test_equal_states_give_equal_files(config: Configuration, tmp_path: Path) -> None:
    assert save(tmp_path / "a", config, 5).sha256 == save(tmp_path / "b", config, 5).sha256
    assert save(tmp_path / "a", config, 5).sha256 != save(tmp_path / "b", config, 6).sha256


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "record", "no record", "swap"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    config: Configuration, tmp_path: Path, damage: str
) -> None:
    for step in (200, 400):
        save(tmp_path, config, step)
    file = store.folder_of(tmp_path) / "step-00000400.pt"
    record = file.with_suffix(".json")
    if damage == "flip":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "truncate":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "delete":
        file.unlink()
    elif damage == "record":
        record.write_text("{", encoding="utf-8")
    elif damage == "no record":
        record.unlink()
    else:
        file.write_bytes((file.parent / "step-00000200.pt").read_bytes())
    said: list[str] = []
    found = store.last_good(tmp_path, said.append)
    assert found is not None
    assert found[0].step == 200
    assert len(said) == 1
    assert said[0].startswith("the checkpoint of step 400 is skipped")
    assert "step-00000400" in said[0]


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert store.last_good(tmp_path, pytest.fail) is None


def test_code_in_a_checkpoint_is_not_run(config: Configuration, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    save(tmp_path, config, 1)
    file = store.folder_of(tmp_path) / "step-00000001.pt"
    torch.save({"format_version": 1, "manifest_root": "root", "trap": Trap()}, file)
    record = Record.model_validate_json(file.with_suffix(".json").read_text())
    sha256 = sha256_of(str(file))[0]
    forged = record.model_copy(update={"sha256": sha256})
    forged = forged.model_copy(update={"chain": forged.link()})
    file.with_suffix(".json").write_text(forged.model_dump_json())
    with pytest.raises(DataError, match="cannot be read"):
        store.read(file.with_suffix(".json"))
    assert not (tmp_path / "sprung").exists()


def test_an_interrupted_write_leaves_the_last_one_good(
    config: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, config, 200)

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    for place in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os if place == "fsync" else Path, place, fail)
            with pytest.raises(OSError, match="no space"):
                save(tmp_path, config, 400)
        found = store.last_good(tmp_path, pytest.fail)
        assert found is not None
        assert found[0].step == 200
    store.prune(tmp_path, 3)
    assert names(tmp_path) == ["chain.jsonl", "step-00000200.json", "step-00000200.pt"]


def test_the_newest_are_kept(config: Configuration, tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        save(tmp_path, config, step)
        store.prune(tmp_path, 2)
    expected = [f"step-000000{step}.{end}" for step in (15, 20) for end in ("json", "pt")]
    assert names(tmp_path) == ["chain.jsonl", *expected]
    assert [record.step for record in store.read_chain(tmp_path)] == [5, 10, 15, 20]
    assert store.clear(tmp_path) == 5
    assert names(tmp_path) == []


def test_the_best_is_kept_as_well(config: Configuration, tmp_path: Path) -> None:
    for step, loss in ((10, 0.5), (20, 0.3), (30, None), (40, 0.4), (50, 0.3)):
        save(tmp_path, config, step, validation_loss=loss)
        store.prune(tmp_path, 1)
    assert [name for name in names(tmp_path) if name.endswith(".pt")] == [
        "step-00000020.pt",
        "step-00000050.pt",
    ]


def test_the_best_is_taken_or_else_the_last(config: Configuration, tmp_path: Path) -> None:
    said: list[str] = []

    def taken() -> int:
        found = store.best_good(tmp_path, said.append)
        assert found is not None
        return found[0].step

    assert store.best_good(tmp_path, said.append) is None
    for step, loss in ((10, None), (20, None)):
        save(tmp_path, config, step, validation_loss=loss)
    assert taken() == 20
    assert said.pop() == "takes the last checkpoint, of step 20, as none was validated"
    for step, loss in ((30, 0.5), (40, 0.3), (50, 0.4)):
        save(tmp_path, config, step, validation_loss=loss)
    assert taken() == 40
    assert said.pop() == "takes the checkpoint of step 40, the best by validation loss 0.3000"
    (store.folder_of(tmp_path) / "step-00000040.pt").write_bytes(b"")
    assert taken() == 50
    assert said[0].startswith("the checkpoint of step 40 is skipped: ")
    assert said[1] == "takes the checkpoint of step 50, the best by validation loss 0.4000"


@pytest.mark.parametrize(
    ("values", "higher"),
    [((0.5, 0.7, 0.7, 0.6), True), ((20.1, 12.2, None), False)],  # None: it was not finite, and never wins
)
def test_a_metric_decides_in_place_of_the_loss(
    config: Configuration, tmp_path: Path, values: tuple[float | None, ...], higher: bool
) -> None:
    last = 10 * len(values)
    for step, value in zip(range(10, last + 10, 10), values, strict=True):
        criterion = Criterion(name="metric", value=value, higher_is_better=higher)
        save(tmp_path, config, step, validation_loss=0.1, criterion=criterion)
        store.prune(tmp_path, 1)
    best = best_of(store.read_chain(tmp_path))
    assert best is not None
    assert best.step == 20
    assert [name for name in names(tmp_path) if name.endswith(".pt")] == [
        "step-00000020.pt",
        f"step-{last:08d}.pt",
    ]


def test_results_of_other_kinds_are_not_compared(config: Configuration, tmp_path: Path) -> None:
    save(tmp_path, config, 10, validation_loss=-5.0)  # as by a version that knew no metrics
    criterion = Criterion(name="accuracy", value=0.5, higher_is_better=True)
    save(tmp_path, config, 20, validation_loss=2.4, criterion=criterion)
    assert [record.step for record in ranked(store.read_chain(tmp_path))] == [20]


def test_a_step_back_over_a_damaged_chain_warns_and_forgets_no_best(
    config: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [save(tmp_path, config, step, validation_loss=step / 100) for step in (10, 20, 30)]
    chain = store.folder_of(tmp_path) / "chain.jsonl"
    lines = chain.read_bytes().splitlines(keepends=True)
    chain.write_bytes(b"{cut\n" + b"".join(lines[1:]))
    store.go_on_from(tmp_path, records[2])
    assert f"warning: line 1 of {chain} cannot be read" in capsys.readouterr().err
    assert store.best_on_disk(tmp_path) == records[0]
    # The damaged line stays, so that it is named for good.
    with pytest.raises(DataError, match=f"line 1 of {chain} cannot be read"):
        check_chain(tmp_path)


def test_a_step_back_without_a_chain_is_told(
    config: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [save(tmp_path, config, step) for step in (10, 20)]
    chain = store.folder_of(tmp_path) / "chain.jsonl"
    chain.unlink()
    store.go_on_from(tmp_path, records[1])
    assert (
        f"warning: {chain} is missing or empty, though checkpoints came before: line 1"
        in capsys.readouterr().err
    )
    with pytest.raises(DataError, match=f"line 1 of {chain} does not follow"):
        check_chain(tmp_path)
    chain.unlink()
    store.go_on_from(tmp_path, records[0])  # nothing came before the first
    assert capsys.readouterr().err == ""
    assert check_chain(tmp_path) == [records[0]]


def test_the_damaged_line_of_the_checkpoint_itself_is_written_again(
    config: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [save(tmp_path, config, step) for step in (10, 20, 30)]
    chain = store.folder_of(tmp_path) / "chain.jsonl"
    lines = chain.read_bytes().splitlines(keepends=True)
    chain.write_bytes(b"".join([lines[0], lines[1][:40] + b"\n", lines[2]]))
    store.go_on_from(tmp_path, records[1])
    assert capsys.readouterr().err == ""
    assert check_chain(tmp_path) == records[:2]


def test_the_best_after_a_step_back_is_one_that_exists(config: Configuration, tmp_path: Path) -> None:
    kept = {}
    for step, loss in ((10, 0.8), (20, 0.3), (30, 0.5), (40, 0.2)):
        kept[step] = save(tmp_path, config, step, validation_loss=loss)
        store.prune(tmp_path, 2)
    assert names(tmp_path)[1::2] == ["step-00000030.json", "step-00000040.json"]
    store.go_on_from(tmp_path, kept[30])
    assert best_of(store.read_chain(tmp_path)) == kept[20]
    assert store.best_on_disk(tmp_path) == kept[30]


def test_a_checkpoint_of_an_earlier_format_is_named(config: Configuration, tmp_path: Path) -> None:
    state = tensors.copied({**a_state(config, 5), "format_version": store.FORMAT_VERSION - 1})
    store.save(tmp_path, state, None, facts(config))
    record = store.folder_of(tmp_path) / "step-00000005.json"
    for read in (store.read, store.check):
        with pytest.raises(DataError, match="has the format 2, this version of ringlake reads the format 3"):
            read(record)


def test_each_checkpoint_names_the_one_before(config: Configuration, tmp_path: Path) -> None:
    first, second = save(tmp_path, config, 5), save(tmp_path, config, 10)
    assert (first.previous, second.previous) == (None, first.chain)
    # Earlier checkpoints change the link, not the contents.
    other = save(tmp_path / "other", config, 10)
    assert (other.sha256, other.previous) == (second.sha256, None)
    assert other.chain != second.chain


def test_what_a_kill_left_of_a_line_in_the_chain_is_removed_by_the_next(
    config: Configuration, tmp_path: Path
) -> None:
    first, second = save(tmp_path, config, 5), save(tmp_path, config, 10)
    chain = store.folder_of(tmp_path) / "chain.jsonl"
    chain.write_bytes(chain.read_bytes()[:-20])
    assert store.read_chain(tmp_path) == [first]
    assert store.go_on_from(tmp_path, second) == []
    chain.write_bytes(chain.read_bytes() + b'{"file":')
    third = save(tmp_path, config, 15)
    assert check_chain(tmp_path) == [first, second, third]


def test_going_on_from_an_earlier_checkpoint_sets_later_ones_aside(
    config: Configuration, tmp_path: Path
) -> None:
    kept, *_ = [save(tmp_path, config, step) for step in (5, 10, 15)]
    aside = store.go_on_from(tmp_path, kept)
    assert aside == [f"step-000000{step}.{end}" for step in (10, 15) for end in ("json", "pt")]
    assert store.read_chain(tmp_path) == [kept]
    found = store.last_good(tmp_path, pytest.fail)
    assert found is not None
    assert found[0] == kept
    assert sum(name.endswith(".rejected") for name in names(tmp_path)) == 4
    # A kill between a checkpoint's record and its line in the chain: the line is added later.
    (store.folder_of(tmp_path) / "chain.jsonl").write_text("", encoding="utf-8")
    assert store.go_on_from(tmp_path, kept) == []
    assert store.read_chain(tmp_path) == [kept]


def test_another_manifest_or_configuration_is_refused(config: Configuration, tmp_path: Path) -> None:
    record = save(tmp_path, config, 5)
    state = a_state(config, 5)
    store.check_fits(record, state, config, "root", tmp_path)
    with pytest.raises(
        UsageError, match=r"manifest with the root root…, not other…: .*--manifest.*--new-data"
    ):
        store.check_fits(record, state, config, "other", tmp_path)
    store.check_fits(record, state, config, "other", tmp_path, new_data=True)
    for section, key, value in (("model", "width", 32), ("train", "batch", 8), ("optimizer", "warm_up", 0.5)):
        part = getattr(config, section).model_copy(update={key: value})
        changed = config.model_copy(update={section: part})
        with pytest.raises(UsageError, match=rf"{section}\.{key} was .* and is now {value}"):
            store.check_fits(record, state, changed, "root", tmp_path)
    of_other_kind = config.model_copy(
        update={"optimizer": OPTIMIZERS.classes["sgd"].model_validate({"kind": "sgd"})}
    )
    with pytest.raises(UsageError, match=r"optimizer\.kind was 'adamw' in the run .* and is now 'sgd'"):
        store.check_fits(record, state, of_other_kind, "root", tmp_path)
    # On other data all of a training may change but what the optimizer's state belongs to.
    others: list[tuple[str, str, Any]] = [
        ("train", "freeze", ["body.*"]),
        ("optimizer", "head_learning_rate", 0.5),
        ("train", "batch", 8),
    ]
    for section, key, other in others:
        part = getattr(config, section).model_copy(update={key: other})
        changed = config.model_copy(update={section: part})
        with (
            nullcontext()
            if key == "batch"
            else pytest.raises(UsageError, match=rf"{section}\.{key} was None")
        ):
            store.check_fits(record, state, changed, "other", tmp_path, new_data=True)
    # Settings of reading and logging may change.
    part = config.train.model_copy(update={"workers": 4, "log_every": 1, "checkpoint_every": 7})
    store.check_fits(record, state, config.model_copy(update={"train": part}), "root", tmp_path)


def test_the_hash_of_the_weights_covers_names_types_shapes_and_values() -> None:
    def hashed(**weights: torch.Tensor) -> str:
        module = nn.Module()
        for name, tensor in weights.items():
            module.register_buffer(name, tensor)
        return tensors.weights_sha256(module)

    plain = hashed(a=torch.zeros(4), b=torch.ones(2))
    assert plain == hashed(b=torch.ones(2), a=torch.zeros(4))
    others = [
        hashed(a=torch.zeros(4), c=torch.ones(2)),
        hashed(a=torch.zeros(2, 2), b=torch.ones(2)),
        hashed(a=torch.zeros(4, dtype=torch.int32), b=torch.ones(2)),
        hashed(a=torch.tensor([0.0, 0.0, 0.0, 1e-45]), b=torch.ones(2)),
    ]
    assert len({plain, *others}) == 5


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"the weights in here do not fit"):
        tensors.load_model(nn.Linear(2, 2), {"model": {"weight": torch.zeros(3)}}, "here")
