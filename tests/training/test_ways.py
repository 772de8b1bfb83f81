"""Settings of training over whole runs: bit for bit after a resume, judged by what a checkpoint holds, and told."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from common.errors import UsageError
from schemas.config import load
from tests.training.published import Published, publish
from tests.training.runs import result, weights
from training import evaluate, report
from training.checkpoints import store, tensors
from training.tracking import summary
from training.train import main

WAYS = {
    "bf16": ["train.precision=bf16", "train.accumulate=3", "model.checkpoint_layers=true"],
    "fp16": ["train.precision=fp16", "train.ema_decay=0.9", "optimizer.kind=adam", "optimizer.schedule=step"],
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


def train(published: Published, run: str, way: str, *flags: str) -> dict[str, Any]:
    chosen = [flag for pair in WAYS[way] for flag in ("--set", pair)]
    assert main(["--config", str(published.config), "--run", run, *chosen, *flags]) == 0
    return result(published, run) if "--stop-after" not in flags else {}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_resumed_run_equals_the_uninterrupted_one(published: Published, way: str) -> None:
    whole = train(published, f"whole-{way}", way)
    train(published, way, way, "--stop-after", "7")
    resumed = train(published, way, way, "--resume")
    for key in ("weights_sha256", "checkpoint_sha256", "precision", "overflows"):
        assert resumed[key] == whole[key]
    assert whole["precision"] == way


def test_what_is_judged_is_what_the_checkpoint_holds(published: Published) -> None:
    """The average is in the model's place, so that evaluation, reports and warm starts take it without knowing."""
    told = train(published, "averaged", "fp16")
    model = weights(published, "averaged")
    method = torch.load(told["checkpoint"], weights_only=True)["method"]
    assert any(not torch.equal(model[name], value) for name, value in method["weights"].items())
    judged: Any = SimpleNamespace(state_dict=lambda: model)
    assert tensors.weights_sha256(judged) == told["weights_sha256"]
    flags = ["--config", str(published.config), "--run", "averaged"]
    assert evaluate.main([*flags, "--set", "evaluate.baseline=false"]) == 0
    assert report.main(flags) == 0
    page = (published.root / "runs" / "averaged" / "report.html").read_text()
    assert "train.ema_decay" in page
    assert "fp16" in page
    assert ("steps skipped while the scale of fp16 was too high" in page) == (told["overflows"] > 0)
    assert summary.read(published.root / "runs" / "averaged")["evaluation"]["figures"]["accuracy"] > 0.2


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(published: Published) -> None:
    """Keys that it does not know have their defaults; another value of theirs is refused."""
    flags = ["--config", str(published.config), "--run", "earlier"]
    assert main([*flags, "--stop-after", "3"]) == 0
    run = published.root / "runs" / "earlier"
    record, state = store.last_good(run, print) or pytest.fail("there is no checkpoint")
    decisive = json.loads(state["decisive"])
    for section, key in (("train", "precision"), ("model", "checkpoint_layers"), ("optimizer", "schedule")):
        del decisive[section][key]
    state["decisive"] = json.dumps(decisive)
    config = load(published.config)
    store.check_fits(record, state, config, record.manifest_root, run)
    changed = config.model_copy(update={"train": config.train.model_copy(update={"precision": "bf16"})})
    with pytest.raises(UsageError, match=r"train\.precision was 'fp32' .* and is now 'bf16'"):
        store.check_fits(record, state, changed, record.manifest_root, run)
