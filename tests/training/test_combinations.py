"""Every way of training with every other: each combination takes a step, or is refused by name before the first."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UsageError
from schemas.config import Configuration, load
from schemas.kinds import METHODS, OPTIMIZERS
from schemas.manifest import Manifest
from tests.training.published import Published, publish
from tests.training.published_tables import publish_table
from tests.training.published_tokens import publish_tokens
from training import methods, models, objectives
from training.parallel.communicator import Communicator
from training.parallel.world import World
from training.silos.loading import loader_of

TABLES = {
    "regression": '[objective]\nkind = "regression"\ntarget = "d"\n[model]\nkind = "mlp"\nwidths = [8]\n',
    "reconstruction": '[objective]\nkind = "reconstruction"\n[model]\nkind = "autoencoder"\nwidths = [8]\n',
}
KEYS: dict[str, dict[str, Any]] = {"private": {"noise_multiplier": 1.0}}
"""Keys that a method cannot do without."""
REFUSED: dict[tuple[str, str], str] = {
    ("private", "next_token"): "packed rows hold parts of several records",
    ("private", "train.precision=fp16"): "the scale of the loss reacts to single batches",
    ("adversarial", "next_token"): "has none that an attack fits",
    ("federated", "train.ema_decay=0.9"): "train.ema_decay",
    ("local_sgd", "train.ema_decay=0.9"): "train.ema_decay",
}
"""What is refused, by method and objective or setting: a part of the message."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """Publish a data set for each objective."""
    root = tmp_path_factory.mktemp("combinations")
    found = {name: publish_table(root / name, training) for name, training in TABLES.items()}
    found["classification"] = publish(root / "classification")
    found["next_token"] = publish_tokens(root / "next_token", 40)
    return found


def ways() -> Iterator[dict[str, Any]]:
    """Yield all settings of training that go with every method."""
    for precision, checkpointed, (parts, average), optimizer in itertools.product(
        ("fp32", "bf16", "fp16"), (False, True), ((1, None), (3, 0.9)), sorted(OPTIMIZERS.classes)
    ):
        yield {
            "train": {"precision": precision, "accumulate": parts, "ema_decay": average},
            "model": {"checkpoint_layers": checkpointed},
            "optimizer": {"kind": optimizer},
        }


def configured(config: Configuration, method: str, way: dict[str, Any]) -> Configuration:
    """Return a configuration with these settings."""
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=way["train"]),
            "model": config.model.model_copy(update=way["model"]),
            "optimizer": OPTIMIZERS.classes[way["optimizer"]["kind"]].model_validate(way["optimizer"]),
            "method": METHODS.classes[method].model_validate({"kind": method, **KEYS.get(method, {})}),
        }
    )


@pytest.mark.parametrize("method", sorted(METHODS.classes))
@pytest.mark.parametrize("objective", ["classification", "next_token", "reconstruction", "regression"])
def test_each_combination_takes_a_step_or_is_refused_by_name(
    published: dict[str, Published], communicator: Communicator, method: str, objective: str, tmp_path: Path
) -> None:
    data = published[objective]
    manifest, config = data.load(), load(data.config)
    kind: Any = METHODS.classes[method].model_validate({"kind": method, **KEYS.get(method, {})})
    with loader_of(manifest, kind, config.train.model_copy(update={"batch": 6}), World(0, 1)) as loader:
        batch = next(loader)
    taken = 0
    for way in ways():
        chosen = configured(config, method, way)
        expected = refusal(method, objective, way)
        said = refused(chosen, manifest)
        assert (said is None) == (expected is None), f"{way}: {said or 'not refused'}"
        assert (expected or "") in (said or "")
        if said is not None:
            continue
        step(chosen, manifest, communicator, dataclasses.replace(batch, global_rows=batch.rows), tmp_path)
        taken += 1
    assert taken or (method, objective) in REFUSED


def refused(config: Configuration, manifest: Manifest) -> str | None:
    """Return what a configuration is refused with; None: it is not."""
    try:
        methods.kind(config.method.kind).check(config, manifest)
    except UsageError as error:
        return str(error)
    return None


def refusal(method: str, objective: str, way: dict[str, Any]) -> str | None:
    """Return a part of the message with which a combination is refused; None: it is not."""
    settings = {f"{section}.{key}={value}" for section, keys in way.items() for key, value in keys.items()}
    for name in (objective, *sorted(settings)):
        if (found := REFUSED.get((method, name))) is not None:
            return found
    return None


def step(
    config: Configuration, manifest: Manifest, communicator: Communicator, batch: Any, run: Path
) -> None:
    """Take two steps, of which the second begins with the state of the first."""
    device = torch.device("cpu")
    objective = objectives.build(config, manifest, device)
    torch.manual_seed(1)
    model = models.build(config.model, models.features_of(objective.inputs, manifest), objective.outputs)
    context = methods.MethodContext(
        model,
        objective,
        config.method,
        config.optimizer,
        config.train,
        communicator,
        device,
        5 * config.train.epochs,
        methods.RunContext(config, manifest, run),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    method = methods.build(context)
    result = method.step(batch, 0)
    assert result.overflow or torch.isfinite(result.gradient_norm)
    changed = any(not torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert (
        result.overflow or changed == method.settled
    )  # within a round of silos the weights wait for its end
    method.collect()
    method.load_state(method.state())
    method.step(batch, 1)
