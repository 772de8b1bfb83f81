"""`model.start`: the body of another run's model, proven by its chain, where the token ids mean the same."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from common.errors import ConfigurationError, UsageError
from schemas.config import Configuration, load
from schemas.models.transformer_classifier import TransformerClassifier
from schemas.runs import roots_of
from schemas.split_content import SplitContent
from tests.training.published import Published, publish
from tests.training.published_tokens import publish_tokens
from training import models, report, train
from training.checkpoints import starting, store
from training.checkpoints.record import CheckpointState, Record
from training.engine import overlap
from training.input.batch_loader import columns_of


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Publish packed tokens, and train a language model on them."""
    found = publish_tokens(tmp_path_factory.mktemp("tokens"), train=40)
    assert train.main(["--config", str(found.config), "--run", "first"]) == 0
    return found


def configured(published: Published, *overrides: str) -> Configuration:
    return load(published.config, [f"model.start={published.root}/runs/first", *overrides])


def test_a_training_goes_on_with_the_weights_of_another_run(published: Published) -> None:
    first, second = (published.root / "runs" / name for name in ("first", "second"))
    flags = ["--config", str(published.config), "--set", f"model.start={first}", "--run", "second"]
    assert train.main([*flags, "--check"]) == 0
    assert train.main([*flags, "--stop-after", "3"]) == 0
    assert train.main([*flags, "--resume"]) == 0
    best, _ = store.best_good(first, print) or pytest.fail("no checkpoint")
    began = json.loads((second / "run.json").read_bytes())
    assert began["started_from"]["sha256"] == best.sha256
    assert began["started_from"]["left"] == []
    assert {record.started_from for record in store.read_chain(second)} == {best.sha256}
    assert {record.started_from for record in store.read_chain(first)} == {None}
    assert roots_of(second) == roots_of(first) == {published.load().manifest_root}
    losses = [store.read_chain(run)[-1].validation_loss for run in (first, second)]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[1] < losses[0]


def started(
    published: Published, heads: int
) -> tuple[nn.Module, Configuration, tuple[Record, CheckpointState]]:
    """Return a classifier, the configuration that starts it from the language model, and the checkpoint to take."""
    config, manifest = configured(published), published.load()
    found = starting.find(config, manifest)
    assert found is not None
    settings = TransformerClassifier(layers=2, width=32, heads=heads, start=str(starting.start_of(config)))
    features = [column for column in columns_of(manifest) if column.role == "feature"]
    model = models.build(settings, features, {"logits": 3})
    return model, config.model_copy(update={"model": settings}), found


def test_a_classifier_takes_the_layers_of_a_language_model(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    model, config, found = started(published, heads=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start = starting.take(model, config, found)
    after, saved = model.state_dict(), found[1]["model"]
    for name in start.taken:
        assert torch.equal(after[name], saved[name.removeprefix("encoders.0.")])
    for name in after.keys() - set(start.taken):
        assert torch.equal(after[name], before[name])
    assert "encoders.0.tokens.weight" in start.taken
    assert "encoders.0.layers.0.projections.weight" in start.taken
    # The decoder has one layer, and rotary positions.
    assert {name.split(".")[2] for name in start.left} == {"positions", "layers"}
    assert all(name.startswith(("encoders.0.positions", "encoders.0.layers.1")) for name in start.left)
    assert "all but encoders.0.positions.weight" in capsys.readouterr().err


def test_weights_of_other_heads_are_refused(published: Published) -> None:
    model, config, found = started(published, heads=4)
    with pytest.raises(UsageError, match=r"has model\.heads = 2, this model 4: give it the same"):
        starting.take(model, config, found)


def test_records_to_judge_by_that_the_other_run_learned_from_are_counted(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(splits: dict[str, SplitContent]) -> None:
        splits["train"], splits["test"] = splits["test"], splits["train"]

    other = publish_tokens(tmp_path / "swapped", train=40, changed=changed)
    flags = ["--config", str(other.config), "--set", f"model.start={published.root}/runs/first"]
    assert train.main([*flags, "--run", "second", "--stop-after", "1"]) == 0
    told = "has learned from 40 of the 40 records of the test split: figures on them are too good"
    assert told in capsys.readouterr().err
    began = json.loads((other.root / "runs" / "second" / "run.json").read_bytes())
    found = began["started_from"]["overlap"]
    assert found["splits"] == {
        "validation": {"records": 12, "learned": 0},
        "test": {"records": 40, "learned": 40},
    }
    assert found["unchecked"] == []
    assert report.main([*flags, "--run", "second"]) == 0
    assert told in (other.root / "runs" / "second" / "report.html").read_text()


def test_where_the_other_data_are_gone_it_cannot_be_checked(published: Published, tmp_path: Path) -> None:
    other = publish_tokens(tmp_path / "other", train=20)
    config, manifest, run = load(other.config), other.load(), tmp_path / "moved" / "first"
    shutil.copytree(published.root / "runs" / "first", run)
    began = json.loads((run / "run.json").read_bytes())
    began |= {"manifest": str(tmp_path / "gone.json"), "manifest_from_run": "../../gone.json"}
    (run / "run.json").write_text(json.dumps(began))
    root = published.load().manifest_root
    found = overlap.overlap(run, config, manifest)
    assert found == {
        "splits": {"validation": {"records": 12, "learned": 0}, "test": {"records": 20, "learned": 0}},
        "unchecked": [root],
    }
    [said] = overlap.sentences(found)
    assert "could not be checked" in said
    assert root[:16] in said


def test_models_without_such_layers_do_not_know_the_key(published: Published) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.start"):
        load(published.config, ["model={kind = 'mlp', start = 'runs/first'}"])


def test_what_does_not_fit_is_refused(published: Published, tmp_path: Path) -> None:
    manifest = published.load()
    with pytest.raises(UsageError, match=r"no checkpoint in .*: give the folder of a run, such as runs/demo"):
        starting.find(load(published.config, [f"model.start={tmp_path}"]), manifest)
    config = configured(published, "model.width=16")
    found = starting.find(config, manifest)
    assert found is not None
    features = [column for column in columns_of(manifest) if column.role == "feature"]
    narrow = models.build(config.model, features, {"logits": features[0].vocabulary or 0})
    with pytest.raises(UsageError, match="give model the same width"):
        starting.take(narrow, config, found)
    other = publish(tmp_path / "other")
    flags = ["--config", str(other.config), "--set", f"model.start={published.root}/runs/first"]
    with pytest.raises(UsageError, match="would mean other words"):
        train.main([*flags, "--run", "refused", "--check"])
    with pytest.raises(UsageError, match="would mean other words"):
        train.main([*flags, "--run", "refused"])
    assert not (other.root / "runs" / "refused" / "checkpoints").exists()
