"""`model.start`: the body of another run's model, proven by its chain, where the token ids mean the same."""

import json
from pathlib import Path

import pytest
import torch

from common.errors import UsageError
from schemas.config import Configuration, load
from schemas.models.transformer_classifier import TransformerClassifier
from schemas.runs import roots_of
from tests.training.published import Published, publish
from tests.training.published_tokens import publish_tokens
from training import models, train
from training.checkpoints import starting, store
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


def test_a_classifier_takes_the_layers_of_a_language_model(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    config, manifest = configured(published), published.load()
    found = starting.find(config, manifest)
    assert found is not None
    settings = TransformerClassifier(layers=2, width=32, heads=2, start=config.model.start)
    features = [column for column in columns_of(manifest) if column.role == "feature"]
    model = models.build(settings, features, {"logits": 3})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start = starting.take(model, config.model_copy(update={"model": settings}), found)
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


def test_what_does_not_fit_is_refused(published: Published, tmp_path: Path) -> None:
    manifest = published.load()
    with pytest.raises(UsageError, match="no checkpoint in"):
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
