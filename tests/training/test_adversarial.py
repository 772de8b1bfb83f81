"""Attacks within ε, and the method that trains on them: exact where there is a closed form, the same on any ranks."""

import copy
import dataclasses
import functools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import UsageError
from schemas.config import Configuration, load
from schemas.features.number import NumberFeature
from schemas.manifest import FIXED, Column
from schemas.methods.adversarial import Adversarial as Settings
from schemas.optimizers.sgd import Sgd
from schemas.settings import Train
from tests.training.linear import CLASSES, Classes
from tests.training.pretrained_folder import write_folder
from tests.training.published import publish
from tests.training.test_pretrained_encoder import built
from training import methods, models
from training.adversarial.attacks import FGSM, Attack, attacked, noise, started, unmoved
from training.adversarial.surface import LEVELS, Movable, Moves, Surface, movable
from training.input.batch_loader import LocalBatch
from training.methods.adversarial import Adversarial
from training.parallel.communicator import Communicator

IMAGE = Column(name="x", role="feature", dtype="uint8", shape=[4, 4, 1], storage=FIXED)
NUMBERS = Column(name="x", role="feature", dtype="float32", shape=[4], storage=FIXED)
TOKENS = Column(name="x", role="feature", dtype="uint16", shape=[6], storage=FIXED, vocabulary=20)
ROWS, EPSILON = 8, 0.1


class Net(nn.Module):
    """Small network over images or numbers, or the embeddings of tokens, with dropout."""

    def __init__(self, column: Column, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedded = nn.Embedding(20, 3) if column.vocabulary else None
        width = math.prod(column.shape) * (3 if column.vocabulary else 1)
        self.scale = 1 / LEVELS if column.dtype == "uint8" else 1.0
        self.layers = nn.Sequential(
            nn.Linear(width, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, CLASSES)
        )
        self.modes: list[bool] = []

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.modes.append(self.training)
        x = features["x"] if self.embedded is None else self.embedded(features["x"])
        return {"logits": self.layers(x.flatten(1).float() * self.scale)}


class Answers(Classes):
    """A classification of one feature, without a data set."""

    def __init__(self, column: Column, features: Any = ()) -> None:
        super().__init__(None)
        self.column = column
        settings = SimpleNamespace(feature=list(features), objective=SimpleNamespace(kind="classification"))
        self.config = cast(Configuration, settings)
        self.portions = {"train": torch.ones(CLASSES), "validation": torch.ones(CLASSES)}

    @property
    def inputs(self) -> list[Column]:
        return [self.column]


def a_batch(column: Column, split: str = "train") -> LocalBatch:
    random = np.random.default_rng(1)
    if column.dtype == "uint8":
        values = random.integers(0, 256, (ROWS, *column.shape), dtype=np.uint8)
        values[0], values[1] = 0, 255
    elif column.vocabulary:
        values = random.integers(1, 20, (ROWS, *column.shape)).astype(np.int32)
        values[:, 4:] = 0
    else:
        values = random.normal(size=(ROWS, *column.shape)).astype(np.float32)
    keys = random.integers(0, 2**64, (ROWS, 2), dtype=np.uint64)
    labels = torch.arange(ROWS) % CLASSES
    return LocalBatch({"x": torch.from_numpy(values)}, labels, keys, None, ROWS, ROWS, 0, ROWS, split)


def surface_of(model: nn.Module, objective: Answers) -> Surface:
    return Surface(movable(objective.config, objective.inputs), model)


def under(
    attack: Attack, surface: Surface, objective: Answers, batch: LocalBatch, random: bool = True
) -> Moves:
    box = surface.box(batch, EPSILON)
    start = started(surface, box, batch, 0, 0) if random else unmoved(surface, batch)
    return attacked(surface, objective, batch, box, attack, start)


def losses(surface: Surface, objective: Answers, batch: LocalBatch, moves: Moves) -> torch.Tensor:
    with torch.no_grad(), surface.moved(moves):
        return objective.terms(surface.model, batch).loss


@pytest.mark.parametrize("attack", [FGSM, Attack(1, 1.25), Attack.pgd(7)])
@pytest.mark.parametrize("column", [IMAGE, NUMBERS, TOKENS], ids=["image", "numbers", "tokens"])
def test_an_attack_stays_within_epsilon_and_the_range(column: Column, attack: Attack) -> None:
    torch.manual_seed(0)
    model, objective, batch = Net(column), Answers(column), a_batch(column)
    surface = surface_of(model, objective)
    moves = under(attack, surface, objective, batch)["x"]
    unit = 1.0
    if column is IMAGE:
        unit = LEVELS
        moved = batch.features["x"].float() + moves
        assert moved.min() >= 0
        assert moved.max() <= LEVELS
    elif model.embedded is not None:
        unit = float(model.embedded.weight.detach().square().mean().sqrt())
    assert moves.abs().max() <= EPSILON * unit * (1 + 1e-6)
    # It goes as far as it may, somewhere.
    assert moves.abs().max() == pytest.approx(EPSILON * unit, rel=1e-5)


def test_fgsm_of_a_linear_model_is_its_closed_form() -> None:
    """The loss grows fastest along the weights, each weighted by the probability that is too high or too low."""
    torch.manual_seed(0)
    model, objective, batch = Net(NUMBERS), Answers(NUMBERS), a_batch(NUMBERS)
    model.layers = nn.Sequential(nn.Linear(4, CLASSES))
    layer = model.layers[0]
    found = under(FGSM, surface_of(model, objective), objective, batch, random=False)["x"]
    assert batch.labels is not None
    with torch.no_grad():
        excess = layer(batch.features["x"]).softmax(dim=1)
        excess[torch.arange(ROWS), batch.labels] -= 1
        expected = EPSILON * torch.sign(excess @ layer.weight)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("column", [IMAGE, NUMBERS, TOKENS], ids=["image", "numbers", "tokens"])
def test_steps_harm_more_than_one_and_any_more_than_none(column: Column) -> None:
    torch.manual_seed(0)
    model, objective, batch = Net(column).eval(), Answers(column), a_batch(column)
    surface = surface_of(model, objective)
    still = losses(surface, objective, batch, unmoved(surface, batch))
    assert torch.equal(still, objective.terms(model, batch).loss)
    fast = losses(surface, objective, batch, under(FGSM, surface, objective, batch, random=False))
    slow = losses(surface, objective, batch, under(Attack.pgd(20), surface, objective, batch))
    assert (fast > still).all()
    assert slow.sum() >= fast.sum() * (1 - 1e-4)


def test_a_model_that_hides_its_gradients_withstands_fgsm_and_not_pgd() -> None:
    """The trap of single steps: what lies between a row and the end of one step is not looked at."""

    class Hidden(nn.Module):
        """Right at the row and ε away from it, wrong between."""

        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            x = features["x"][:, 0]
            right = 1 - 2 * torch.exp(-(((x.abs() / EPSILON - 0.6) / 0.15) ** 2))
            return {"logits": torch.stack([right, torch.zeros_like(x), torch.zeros_like(x)], dim=1)}

    objective, batch = Answers(NUMBERS), a_batch(NUMBERS)
    batch.features["x"] = torch.full((ROWS, 4), 1e-4)
    batch = dataclasses.replace(batch, labels=torch.zeros(ROWS, dtype=torch.int64))
    surface = surface_of(Hidden(), objective)

    def accuracy(moves: Moves) -> float:
        with surface.moved(moves):
            return float(objective.terms(surface.model, batch).metrics["accuracy"].mean())

    assert accuracy(under(FGSM, surface, objective, batch, random=False)) == 1.0
    assert accuracy(under(Attack.pgd(20), surface, objective, batch)) == 0.0


def test_marks_and_categories_stay_as_they_are() -> None:
    column = Column(name="x", role="feature", dtype="float32", shape=[2], storage=FIXED)
    feature = NumberFeature(name="x", column="x", encode="number", missing="mean", mark_missing=True)
    objective, batch = Answers(column, [feature]), a_batch(column)
    moves = under(Attack.pgd(3), surface_of(Net(column), objective), objective, batch)["x"]
    assert (moves[:, 0] != 0).all()
    assert not moves[:, 1].any()
    category = Column(name="x", role="feature", dtype="int32", shape=[1], storage=FIXED, vocabulary=5)
    with pytest.raises(UsageError, match="no feature can be attacked: 'x' are neither images nor numbers"):
        movable(objective.config, [category])
    with pytest.raises(
        UsageError, match=r"'x' are attacked .* an nn.Embedding of 20 rows, of which this model has 0"
    ):
        Surface(movable(objective.config, [TOKENS]), Net(NUMBERS))


def test_a_table_that_is_computed_again_is_refused() -> None:
    model = Net(TOKENS)
    assert model.embedded is not None
    model.embedded.forward = functools.partial(model.embedded.forward)  # type: ignore[method-assign]
    with pytest.raises(
        UsageError, match=r"of 'x' lies within a layer that model\.checkpoint_layers computes again"
    ):
        surface_of(model, Answers(TOKENS))


def test_starts_follow_from_record_key_seed_and_step_alone() -> None:
    batch = a_batch(IMAGE)
    whole = noise(batch.keys, (4, 4, 1), 7, 3, 0)
    parts = [
        noise(part.keys, (4, 4, 1), 7, 3, 0)
        for part in (batch.part(0, 3), batch.part(3, 3), batch.part(3, 8))
    ]
    assert np.array_equal(whole, np.concatenate(parts))
    for other in (
        noise(batch.keys, (4, 4, 1), 8, 3, 0),
        noise(batch.keys, (4, 4, 1), 7, 4, 0),
        noise(batch.keys, (4, 4, 1), 7, 3, 1),
    ):
        assert not np.isclose(whole, other).any()
    many = noise(np.random.default_rng(2).integers(0, 2**64, (500, 2), dtype=np.uint64), (20,), 0, 0, 0)
    assert abs(many.mean()) < 0.02
    assert many.var() == pytest.approx(1 / 3, rel=0.03)


def test_starts_of_many_columns_set_up_one_generator_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one a column, the starts of a table would take longer than its training."""
    columns = [NUMBERS.model_copy(update={"name": name}) for name in "abc"]
    surface = Surface([Movable(column, "numbers") for column in columns], Net(NUMBERS))
    batch, philox, made = a_batch(NUMBERS), np.random.Philox, []
    batch = dataclasses.replace(batch, features=dict.fromkeys("abc", batch.features["x"]))

    def counted(**given: Any) -> np.random.Philox:
        made.append(given)
        return philox(**given)

    monkeypatch.setattr(np.random, "Philox", counted)
    moves = started(surface, surface.box(batch, EPSILON), batch, 0, 0)
    assert len(made) == ROWS
    together = torch.stack(list(moves.values()))
    assert together.shape == (3, ROWS, 4)
    assert len(together.unique()) == together.numel()


def test_a_moved_token_moves_its_own_row_alone(tmp_path: Any) -> None:
    """The model sorts and packs its tokens: each finds its own move, and padding none."""
    published = publish(tmp_path)
    config, manifest = load(published.config), published.load()
    columns = [column for column in manifest.content.columns if column.role == "feature"]
    torch.manual_seed(0)
    model = models.build(config.model, columns, {"logits": CLASSES}).eval()
    surface = Surface(movable(config, columns), model)
    tokens = torch.randint(1, 300, (9, 16), dtype=torch.int32)
    lengths = torch.tensor([16, 3, 9, 1, 12, 7, 16, 5, 2])
    tokens[torch.arange(16) >= lengths[:, None]] = 0
    batch = LocalBatch({"tokens": tokens}, None, np.zeros((9, 2), np.uint64), None, 9, 9, 0, 9)
    moves, encoder = unmoved(surface, batch), cast(Any, model).encoders[0]
    with torch.no_grad():
        clean = model(batch.features)["logits"]
        moves["tokens"][2, 4] = 1.0
        moves["tokens"][2, 12] = 1.0  # padding
        with surface.moved(moves):
            moved = model(batch.features)["logits"]
        changed = (moved != clean).any(dim=1)
        assert changed.tolist() == [row == 2 for row in range(9)]
        # The same by hand: the row alone, whose embeddings come packed in their order.
        handle = encoder.tokens.register_forward_hook(
            lambda _, __, found: found + (torch.arange(9) == 4).float()[:, None]
        )
        alone = model({"tokens": tokens[2:3]})["logits"]
        handle.remove()
    torch.testing.assert_close(moved[2:3], alone, atol=1e-5, rtol=1e-5)


def test_tokens_find_their_moves_behind_special_ones(tmp_path: Path) -> None:
    """A pretrained encoder puts tokens of its own around each text, which stay as they are."""
    model = built(write_folder(tmp_path / "encoder"))
    column = Column(name="tokens", role="feature", dtype="uint16", shape=[4], storage=FIXED, vocabulary=300)
    surface = Surface([Movable(column, "embedding")], model)
    tokens = torch.tensor([[5, 6, 0, 0], [7, 0, 0, 0], [8, 9, 10, 11]], dtype=torch.int32)
    batch = LocalBatch({"tokens": tokens}, None, np.zeros((3, 2), np.uint64), None, 3, 3, 0, 3)
    moves = unmoved(surface, batch)
    with torch.no_grad():
        clean = model(batch.features)["logits"]
        with surface.moved(moves):
            assert torch.equal(model(batch.features)["logits"], clean)
        moves["tokens"][1, 0] = 1.0
        moves["tokens"][0, 3] = 1.0  # padding
        with surface.moved(moves):
            changed = (model(batch.features)["logits"] != clean).any(dim=1)
    assert changed.tolist() == [False, True, False]


def method_of(
    model: nn.Module, communicator: Communicator, column: Column, accumulate: int = 1, **keys: Any
) -> Adversarial:
    context = methods.MethodContext(
        model,
        Answers(column),
        Settings.model_validate({"ramp": 0, **keys}),
        Sgd(kind="sgd", learning_rate=0.1, momentum=0.0, schedule="constant", warm_up=0.0),
        Train(clip_norm=None, epochs=5, accumulate=accumulate),
        communicator,
        torch.device("cpu"),
        10,
    )
    return cast(Adversarial, methods.build(context))


@pytest.mark.parametrize("column", [IMAGE, NUMBERS, TOKENS], ids=["image", "numbers", "tokens"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_gradients_of_the_parts_add_up_to_that_of_the_whole(
    communicator: Communicator, column: Column, attack: str
) -> None:
    """As of two ranks and one without rows, and of micro-batches."""
    torch.manual_seed(0)
    model, batch = Net(column), a_batch(column)
    whole, cut = copy.deepcopy(model), copy.deepcopy(model)
    method_of(whole, communicator, column, attack=attack).step(batch, 0)
    method_of(cut, communicator, column, accumulate=3, attack=attack).step(batch, 0)
    total = [torch.zeros_like(p) for p in model.parameters()]
    for first, last in ((0, 3), (3, 3), (3, 8)):
        part = copy.deepcopy(model)
        method_of(part, communicator, column, attack=attack).step(batch.part(first, last), 0)
        for so_far, parameter in zip(total, part.parameters(), strict=True):
            assert parameter.grad is not None
            so_far += parameter.grad
    for so_far, ours, micro in zip(total, whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(so_far, ours.grad, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(micro.grad, ours.grad, atol=1e-5, rtol=1e-4)


def test_the_attack_knows_no_dropout_and_the_update_does(communicator: Communicator) -> None:
    model = Net(NUMBERS, dropout=0.5)
    method = method_of(model, communicator, NUMBERS, attack="pgd", steps=3)
    method.step(a_batch(NUMBERS), 0)
    assert model.modes == [False] * 3 + [True]
    assert model.training
    # So the random numbers of dropout are those that plain training would draw.
    first = method.moves(a_batch(NUMBERS), 1)["x"]
    torch.rand(5)
    assert torch.equal(method.moves(a_batch(NUMBERS), 1)["x"], first)
    assert not any(one.grad is not None and one.grad.isnan().any() for one in model.parameters())


def test_half_the_loss_from_clean_rows(communicator: Communicator) -> None:
    batch, found = a_batch(NUMBERS), []
    for share in (0.0, 0.5, 1.0):
        torch.manual_seed(0)
        method = method_of(Net(NUMBERS), communicator, NUMBERS, clean=share)
        method.begin(0, None)
        found.append(method.terms(batch, 0).loss)
    torch.testing.assert_close(found[1], (found[0] + found[2]) / 2)
    assert found[0].sum() > found[2].sum()


def test_epsilon_grows_over_the_ramp(communicator: Communicator) -> None:
    """Ten steps are five epochs: over four epochs ε grows for eight steps, by default for five."""
    for ramp, expected in ((4.0, [1 / 8, 2 / 8, 1.0]), (0.0, [1.0, 1.0, 1.0]), (None, [1 / 5, 2 / 5, 1.0])):
        method = method_of(Net(NUMBERS), communicator, NUMBERS, epsilon=0.2, ramp=ramp)
        reached = []
        for step in (0, 1, 9):
            method.begin(step + 100, step)  # the schedule counts, as after data were added
            reached.append(method.epsilon / 0.2)
        assert reached == pytest.approx(expected)


def test_validation_judges_under_attack_at_the_whole_epsilon(communicator: Communicator) -> None:
    torch.manual_seed(0)
    model, batch = Net(NUMBERS), a_batch(NUMBERS, "validation")
    method = method_of(model, communicator, NUMBERS, epsilon=0.5, ramp=5)
    model.eval()
    with torch.no_grad():
        terms = method.validation_terms(batch)
    assert (terms.metrics["attacked_loss"] > terms.loss).all()
    assert {"accuracy", "attacked_accuracy", "balanced_accuracy", "attacked_balanced_accuracy"} <= set(
        terms.metrics
    )
    assert method.epsilon == 0.0  # the ramp is training's alone
    assert not model.training


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match='steps belongs to attack = "pgd"'):
        Settings(attack="fgsm", steps=3)


def test_half_precision_still_finds_a_way(communicator: Communicator) -> None:
    """A gradient that vanished in float16 would leave the rows where the start put them."""
    for precision in ("bf16", "fp16"):
        torch.manual_seed(0)
        model, batch = Net(NUMBERS), a_batch(NUMBERS)
        method = method_of(model, communicator, NUMBERS, attack="pgd")
        exact = method
        exact.begin(0, None)
        right = exact.moves(batch, 0)["x"]
        context = dataclasses.replace(
            method.context, train=method.context.train.model_copy(update={"precision": precision})
        )
        halved = cast(Adversarial, methods.build(context))
        halved.begin(0, None)
        with halved.precision.autocast():
            found = halved.moves(batch, 0)["x"]
        assert (found.sign() == right.sign()).float().mean() > 0.9
