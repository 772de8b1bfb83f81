"""Local SGD on rings of threads: what is averaged when, what is sent, and states between two synchronisations."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from schemas.methods.local_sgd import LocalSgd as Settings
from schemas.methods.plain import Plain as PlainSettings
from schemas.optimizers.adamw import AdamW
from schemas.optimizers.lamb import Lamb
from schemas.optimizers.sgd import Sgd
from schemas.settings import Train
from tests.training.linear import CLASSES, Classes
from tests.training.rings import together
from tests.training.silos.test_federated import BEGUN, FEATURES, flat
from training import methods
from training.checkpoints import tensors
from training.input.batch_loader import LocalBatch
from training.methods.local_sgd import LocalSgd
from training.parallel.communicator import Communicator

EPOCHS, STEPS, BATCH = 2, 7, 10
TOTAL = EPOCHS * STEPS
ADAMW = AdamW(learning_rate=0.05, epsilon=1e-3)
LAMB = Lamb(kind="lamb", learning_rate=0.05)
SGD = Sgd(kind="sgd", learning_rate=0.05, momentum=0.0, schedule="constant", warm_up=0.0)


def local_batches(ranks: int, rank: int, first: int = 0) -> Iterator[LocalBatch]:
    """Yield this rank's rows of each global batch, of different numbers; of the first batch only rank 0 has any."""
    for step in range(first, TOTAL):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn((BATCH, FEATURES), generator=generator)
        y = torch.arange(BATCH) % CLASSES
        edges = np.linspace(0, BATCH, ranks + 1).round().astype(int) if step else [0, *[BATCH] * ranks]
        part = slice(edges[rank], edges[rank + 1])
        keys = np.zeros((len(x[part]), 2), dtype=np.uint64)
        yield LocalBatch({"x": x[part]}, y[part], keys, None, len(keys), BATCH, step // STEPS, 0)


def method_of(communicator: Communicator, kind: Any, optimizer: Any = ADAMW) -> methods.Method:
    settings = Train.model_validate({"epochs": EPOCHS, "batch": BATCH, "clip_norm": None})
    model, device = copy.deepcopy(BEGUN), torch.device("cpu")
    context = methods.MethodContext(
        model, Classes(None), kind, optimizer, settings, communicator, device, TOTAL
    )
    return methods.build(context)


def trained(ranks: int, optimizer: Any = ADAMW, **keys: Any) -> tuple[list[list[torch.Tensor]], list[Any]]:
    """Return each rank's weights after each step, and what the ranks sent."""

    def work(communicator: Communicator) -> list[torch.Tensor]:
        method = method_of(communicator, Settings.model_validate(keys), optimizer)
        method.broadcast()
        found = []
        for step, batch in enumerate(local_batches(ranks, communicator.world.rank)):
            method.step(batch, step)
            found.append(flat(method.model))
        return found

    return together(ranks, work)


def test_ranks_are_equal_after_each_synchronisation_and_at_the_end_of_an_epoch() -> None:
    (first, second), _ = trained(2, synchronise_every=3)
    equal = [step for step in range(TOTAL) if first[step].equal(second[step])]
    assert equal == [2, 5, 6, 8, 11, 13]


def test_an_average_is_weighted_by_rows(communicator: Communicator) -> None:
    (first, second), _ = trained(2, optimizer=SGD, synchronise_every=2)
    # Before the second step of the first interval only rank 0 had rows: 10 + 5 against 0 + 5.
    parts = []
    for rank in (0, 1):
        alone = method_of(communicator, PlainSettings(), SGD)
        for step, batch in zip(range(2), local_batches(2, rank), strict=False):
            if batch.rows:
                alone.step(dataclasses.replace(batch, global_rows=batch.rows), step)
        parts.append(flat(alone.model))
    torch.testing.assert_close(first[1], (15 * parts[0] + 5 * parts[1]) / 20)
    assert second[1].equal(first[1])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_of_one_step_with_plain_sgd_it_is_plain_training(communicator: Communicator, ranks: int) -> None:
    plain = method_of(communicator, PlainSettings(), SGD)
    for step, batch in enumerate(local_batches(1, 0)):
        plain.step(batch, step)
    found, _ = trained(ranks, optimizer=SGD, synchronise_every=1)
    torch.testing.assert_close(found[0][-1], flat(plain.model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("every", [1, 4])
def test_one_rank_alone_is_plain_training_bit_for_bit(communicator: Communicator, every: int) -> None:
    plain = method_of(communicator, PlainSettings())
    for step, batch in enumerate(local_batches(1, 0)):
        plain.step(batch, step)
    assert trained(1, synchronise_every=every)[0][0][-1].equal(flat(plain.model))


def test_only_synchronisations_send_weights() -> None:
    sizes = {}
    for every in (1, 7):
        for state in ("average", "keep"):
            _, sent = trained(2, synchronise_every=every, optimizer_state=state)
            tensors_sent = [value for value in sent if isinstance(value, torch.Tensor)]
            parameters = len(flat(BEGUN))
            # Two moments a parameter, and four counts of steps.
            expected = 3 * parameters + 4 if state == "average" else parameters
            assert {len(one) for one in tensors_sent} == {expected}
            sizes[every, state] = sum(one.numel() for one in tensors_sent)
            small = [value for value in sent if isinstance(value, list)]
            assert all(len(value) <= 2 for value in small if all(isinstance(one, float) for one in value))
    assert sizes[1, "keep"] == 7 * sizes[7, "keep"]
    assert sizes[1, "average"] == 7 * sizes[7, "average"]


@pytest.mark.parametrize(("state", "optimizer"), [("average", ADAMW), ("keep", ADAMW), ("average", LAMB)])
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("done", [1, 4, 6, 7])
def test_a_state_goes_on_bit_for_bit_on_as_many_ranks(
    ranks: int, done: int, state: str, optimizer: Any
) -> None:
    """Synchronised every 3 steps: left at once, within an interval, after it, and at the end of an epoch.

    LAMB counts its steps outside of the tensors that are averaged, and of the first step only rank 0 has rows.
    """
    keys = {"synchronise_every": 3, "optimizer_state": state}

    def begin(communicator: Communicator) -> tuple[dict[str, Any], dict[str, Any], torch.Tensor]:
        method = method_of(communicator, Settings.model_validate(keys), optimizer)
        rank = communicator.world.rank
        for step, batch in zip(range(done), local_batches(ranks, rank), strict=False):
            method.step(batch, step)
        mine = flat(method.model)
        method.collect()
        assert flat(method.model).equal(mine)
        return tensors.copied(method.judged.state_dict()), tensors.copied(method.state()), mine

    def go_on(communicator: Communicator) -> list[torch.Tensor]:
        method = method_of(communicator, Settings.model_validate(keys), optimizer)
        assert isinstance(method, LocalSgd)
        if communicator.writes:
            method.model.load_state_dict(saved[0])
            method.load_state(saved[1])
        method.broadcast()
        resumed = [flat(method.model)]
        size, rank = communicator.world.size, communicator.world.rank
        for step, batch in zip(range(done, TOTAL), local_batches(size, rank, done), strict=True):
            method.step(batch, step)
            resumed.append(flat(method.model))
        return resumed

    parts = together(ranks, begin)[0]
    saved = parts[0]
    whole, _ = trained(ranks, optimizer, **keys)
    for before, after in zip(whole, together(ranks, go_on)[0], strict=True):
        assert [one.tolist() for one in before[done - 1 :]] == [one.tolist() for one in after]
    for resumed in together(ranks + 1, go_on)[
        0
    ]:  # from the weights that are judged, the mean of those of the ranks
        judged = torch.cat([saved[0][name].reshape(-1) for name, _ in BEGUN.named_parameters()])
        assert resumed[0].equal(judged)
        if ranks == 1:
            assert judged.equal(parts[0][2])
