"""Private training: its step against a reference, what it refuses, resumes, and that nothing it publishes leaks."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from common.errors import CheckError, UsageError
from schemas import config
from schemas.class_balance import ClassBalance
from schemas.config import Configuration
from schemas.manifest import FIXED, Column, Manifest
from schemas.methods.private import Private as Settings
from schemas.models.mlp import Mlp
from schemas.optimizers.adamw import AdamW
from schemas.optimizers.sgd import Sgd
from tests.training.published import Published, publish, publish_again
from tests.training.runs import result
from training import batches, methods, models, report
from training.checkpoints import store
from training.input.batch_loader import LocalBatch
from training.methods.private import Private
from training.objectives.classification import Classification
from training.parallel.communicator import Communicator
from training.privacy import accountant, draws, key_file, poisson
from training.privacy.budget import Budget
from training.train import main

CLASSES, NUMBERS = 3, 20
PRIVATE = ("--set", "method.kind=private", "--set", "method.clip_norm=0.5")
SPENT_ONE = (*PRIVATE, "--set", "method.epsilon=1")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"), vocabulary=2000)


def loaded(published: Published, *overrides: str) -> tuple[Configuration, Manifest]:
    return config.load(published.config, ["method.kind=private", *overrides]), published.load()


def train(published: Published, run: str, *flags: str) -> int:
    return main(["--config", str(published.config), "--run", run, *flags])


def folder(published: Published, run: str) -> Path:
    return published.root / "runs" / run


class Classes(Classification):
    """The objective without a data set."""

    def __init__(self) -> None:
        self.class_weights, self.weighted = None, False
        self.outputs = {"logits": CLASSES}
        self.portions = {"train": torch.ones(CLASSES)}


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    column = Column(name="x", role="feature", dtype="float32", shape=[NUMBERS], storage=FIXED)
    return models.build(Mlp(widths=[128], dropout=0.0), [column], {"logits": CLASSES})


def a_batch(x: torch.Tensor, labels: torch.Tensor) -> LocalBatch:
    rows = len(x)
    return LocalBatch({"x": x}, labels, np.zeros((rows, 2), np.uint64), None, rows, rows, 0, rows)


def context_of(
    model: nn.Module, communicator: Communicator, of_run: methods.RunContext, optimizer: Any, steps: int
) -> methods.MethodContext:
    settings = of_run.config
    return methods.MethodContext(
        model,
        Classes(),
        settings.method,
        optimizer,
        settings.train,
        communicator,
        torch.device("cpu"),
        steps,
        of_run,
    )


def test_a_step_follows_the_clipped_sum_with_its_noise(
    published: Published, communicator: Communicator, tmp_path: Path
) -> None:
    given, manifest = loaded(published, "method.noise_multiplier=2", "method.clip_norm=0.1", "train.batch=16")
    model, optimizer = perceptron(), Sgd(kind="sgd", learning_rate=1.0, momentum=0.0, warm_up=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    of_run = methods.RunContext(given, manifest, tmp_path)
    method = methods.build(context_of(model, communicator, of_run, optimizer, 10))
    assert isinstance(method, Private)
    batch = a_batch(torch.randn(7, NUMBERS), torch.arange(7) % CLASSES)
    right = method.sums.of(batch)
    method.step(batch, 0)
    clean = right.clone()
    method.noise().add(right, 2 * 0.1, 0)
    assert float((right - clean).std()) == pytest.approx(0.2, rel=0.1)
    # The divisor is that of a whole batch, though this one has seven rows; train.clip_norm is not applied.
    for old, new, sums in zip(before, model.parameters(), method.sums.views(right), strict=True):
        torch.testing.assert_close(old - new, sums / 16)


def test_a_copied_run_that_learns_something_else_has_other_noise(
    published: Published, communicator: Communicator, tmp_path: Path
) -> None:
    key_file.create(tmp_path)
    given, manifest = loaded(published, "method.epsilon=1")
    faster, _ = loaded(published, "method.epsilon=1", "optimizer.learning_rate=0.5")
    longer = manifest.model_copy(update={"manifest_root": "0" * 64})
    seeds = []
    for of_run in ((given, manifest), (faster, manifest), (given, longer), (given, manifest)):
        context = context_of(
            perceptron(), communicator, methods.RunContext(*of_run, tmp_path), AdamW(kind="adamw"), 1
        )
        method = methods.build(context)
        assert isinstance(method, Private)
        method.key = key_file.path_of(tmp_path).read_bytes()
        seeds.append(method.noise().seed)
    assert seeds[0] == seeds[3]
    assert len(set(seeds)) == 3
    # Nor if copies come to the same data with other weights.
    for weight in (1.0, 2.0):
        model = perceptron()
        nn.init.constant_(next(model.parameters()), weight)
        learned = methods.RunContext(*loaded(published, "method.noise_multiplier=99"), tmp_path)
        method = methods.build(context_of(model, communicator, learned, AdamW(kind="adamw"), 1))
        assert isinstance(method, Private)
        key = key_file.path_of(tmp_path).read_bytes()
        before = {"manifest_root": "0" * 64, "mu": 0.1}
        method.loaded = {**before, "key_fingerprint": key_file.fingerprint_of(key)}
        method.broadcast()
        seeds.append(method.noise().seed)
    assert len(set(seeds)) == 5


@pytest.mark.parametrize("private", [False, True])
def test_an_attacker_finds_planted_rows_but_not_at_epsilon_one(
    published: Published, communicator: Communicator, tmp_path: Path, private: bool
) -> None:
    """Rows of noise with random labels can only be memorised: half of them are learned, and their loss tells which.

    An area under the curve of 0.5 is a guess; at ε = 1 theory allows Φ(μ / √2) = 0.575. Without privacy it is not 1,
    since every third row that was not learned has the label that the model is sure of.
    """
    given, manifest = loaded(published, "method.epsilon=1", "train.epochs=60", "train.batch=256")
    if not private:
        given = given.model_copy(update={"method": config.load(published.config).method})
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, NUMBERS, generator=generator)
    labels = torch.randint(0, CLASSES, (512,), generator=generator)
    model, optimizer = perceptron(), AdamW(kind="adamw", learning_rate=3e-2)
    of_run = methods.RunContext(given, manifest, tmp_path)
    method = methods.build(context_of(model, communicator, of_run, optimizer, 60))
    for step in range(60):
        method.step(a_batch(x[:256], labels[:256]), step)
    with torch.no_grad():
        losses = functional.cross_entropy(model.eval()({"x": x})["logits"], labels, reduction="none")
    area = float((losses[:256, None] < losses[None, 256:]).double().mean())
    assert area < 0.575 + 3 * 0.026 if private else area > 0.75


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("train.precision=fp16", "reacts to single batches"),
        ("train.gradient_compression=fp16", "before it has all its noise"),
        ("train.reduction=adasum", "only the whole has its noise"),
        ("train.gradients=overlapped", "only with its noise"),
        ("method.delta=0.01", "less than 0.006"),
        ('method.adjacency="group"', "columns.group, which is not set"),
    ],
)
def test_what_breaks_the_promise_is_refused_by_name(published: Published, key: str, why: str) -> None:
    name, value = key.replace('"', "").split("=")
    with pytest.raises(UsageError, match=rf'{name} = "?{value}.*{why}'):
        Private.check(*loaded(published, "method.epsilon=1", key))


def test_repeated_and_packed_rows_are_refused(published: Published) -> None:
    given, manifest = loaded(published, "method.epsilon=1")
    split = manifest.splits["train"]
    for update, why in (
        (
            {"balance": ClassBalance.model_construct(policy="oversample", repeats={"alpha": 2})},
            "several times",
        ),
        ({"packing": object()}, "parts of several records"),
    ):
        content = manifest.content.model_copy(update={"splits": {"train": split.model_copy(update=update)}})
        with pytest.raises(UsageError, match=why):
            Private.check(given, manifest.model_copy(update={"content": content}))


def test_a_batch_norm_is_refused(published: Published, communicator: Communicator, tmp_path: Path) -> None:
    of_run = methods.RunContext(*loaded(published, "method.epsilon=1"), tmp_path)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(UsageError, match=r"1 \(BatchNorm1d\) learns from the rows of a batch together"):
        methods.build(context_of(model, communicator, of_run, AdamW(kind="adamw"), 1))


def test_groups_are_hidden_as_a_whole(published: Published) -> None:
    given, manifest = loaded(published, "method.epsilon=1")
    by_row = Budget.of(given, manifest)
    given = given.model_copy(update={"columns": given.columns.model_copy(update={"group": "person"})})
    with pytest.raises(UsageError, match="does not say how large they are"):
        Budget.of(given, manifest)
    split = manifest.splits["train"].model_copy(update={"largest_group": 5})
    content = manifest.content.model_copy(update={"splits": {"train": split}})
    manifest = manifest.model_copy(update={"content": content})
    by_group = Budget.of(given, manifest)
    sampled = given.method.model_copy(update={"sampling": "poisson"})
    with pytest.raises(UsageError, match="'person' are hidden as a whole"):
        Budget.of(given.model_copy(update={"method": sampled}), manifest)
    assert by_group.noise_multiplier == pytest.approx(5 * by_row.noise_multiplier)
    assert "at most 5" in by_group.as_json()["adjacency"]
    assert isinstance(given.method, Settings)
    chosen = given.method.model_copy(update={"adjacency": "row"})
    assert Budget.of(given.model_copy(update={"method": chosen}), manifest) == Budget(
        chosen, by_row.noise_multiplier, by_row.epsilon, by_row.mu, None
    )


def test_either_of_epsilon_and_noise_is_needed() -> None:
    with pytest.raises(ValueError, match="give epsilon"):
        Settings(kind="private")


@pytest.fixture(scope="module")
def whole(published: Published) -> Path:
    """Train a run from beginning to end with a known key; return its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "urandom", lambda size: b"\x05" * size)
        assert train(published, "whole", *SPENT_ONE) == 0
    return folder(published, "whole")


def test_summary_checkpoint_and_report_say_what_is_promised(published: Published, whole: Path) -> None:
    privacy = result(published, "whole")["privacy"]
    assert privacy["epsilon"] == pytest.approx(1)
    assert privacy["delta"] == 1e-5
    assert privacy["clip_norm"] == 0.5
    assert privacy["noise_multiplier"] == pytest.approx(2**0.5 / accountant.mu_of(1, 1e-5))
    assert privacy["adjacency"] == "one row replaced by a row without gradient"
    assert privacy["sampling"] == "once"
    assert any("tokenizer" in one for one in privacy["not_covered"])
    found = store.last_good(whole, pytest.fail)
    assert found is not None
    assert privacy.items() <= found[1]["method"]["privacy"].items()
    assert report.main(["--config", str(published.config), "--run", "whole", *SPENT_ONE]) == 0
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert "Privacy" in page
    assert "one row replaced by a row without gradient" in page


def test_nothing_of_a_batch_and_no_key_is_published(whole: Path) -> None:
    key = key_file.path_of(whole).read_bytes()
    files = [path for path in whole.rglob("*") if path.is_file() and path != key_file.path_of(whole)]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        assert key not in content
        assert key.hex().encode() not in content
    entries = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    of_batches = [entry for entry in entries if entry["kind"] == "train"]
    assert of_batches
    assert not any({"loss", "gradient_norm"} & entry.keys() for entry in of_batches)
    for step in store.steps_of(whole, ".json"):
        state = store.read(store.folder_of(whole) / f"step-{step:08d}.json")[1]
        assert state["metrics"]["loss"] == [0.0, 0.0]
    assert not (whole / "non_finite.jsonl").exists()


def test_a_resumed_training_ends_with_the_same_bits_and_needs_its_key(
    published: Published, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "urandom", lambda size: b"\x05" * size)
        assert train(published, "parted", *SPENT_ONE, "--stop-after", "7") == 0
    parted = folder(published, "parted")
    key = key_file.path_of(parted)
    key.rename(parted / "elsewhere")
    with pytest.raises(UsageError, match=r"noise\.key.*put it back"):
        train(published, "parted", *SPENT_ONE, "--resume")
    (parted / "elsewhere").rename(key)
    assert train(published, "parted", *SPENT_ONE, "--resume") == 0
    assert result(published, "parted")["weights_sha256"] == result(published, "whole")["weights_sha256"]
    # Another key, other weights: nobody can compute the noise from the configuration.
    assert train(published, "again", *SPENT_ONE) == 0
    assert result(published, "again")["weights_sha256"] != result(published, "whole")["weights_sha256"]


def test_nothing_is_learned_past_epsilon(tmp_path: Path) -> None:
    published = publish(tmp_path, train=((32,),), validation=((9,),))
    limited = (*PRIVATE, "--set", "method.noise_multiplier=10", "--set", "method.epsilon=1")
    assert train(published, "spent", *SPENT_ONE) == 0
    assert train(published, "limited", *limited) == 0
    first = result(published, "limited")["privacy"]
    publish_again(published)
    before = {path: path.read_bytes() for path in folder(published, "spent").rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="epsilon = 1 was spent on the data before"):
        train(published, "spent", *SPENT_ONE, "--resume", "--new-data")
    assert {path: path.read_bytes() for path in before} == before
    assert train(published, "limited", *limited, "--resume", "--new-data") == 0
    second = result(published, "limited")["privacy"]
    both = accountant.epsilon_of(accountant.spent(10, epochs=4), 1e-5)
    assert first["epsilon"] < second["epsilon"] == pytest.approx(both)
    with pytest.raises(UsageError, match=r"40 epochs.* spend ε = .* more than method.epsilon = 1"):
        train(published, "more", *limited, "--set", "train.epochs=40")
    shutil.rmtree(folder(published, "limited"))


def test_rows_are_drawn_alone_and_nothing_public_tells_which(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = (*SPENT_ONE, "--set", "method.sampling=poisson")
    # As the calibration itself is tested elsewhere, and takes seconds.
    monkeypatch.setattr(poisson, "noise_multiplier_of", lambda *_: 2.5)
    with monkeypatch.context() as patch:
        patch.setattr(os, "urandom", lambda size: b"\x07" * size)
        assert train(published, "drawn", *drawn) == 0
        assert train(published, "drawn-parted", *drawn, "--stop-after", "7") == 0
    assert train(published, "drawn-parted", *drawn, "--resume") == 0
    assert result(published, "drawn")["weights_sha256"] == result(published, "drawn-parted")["weights_sha256"]
    privacy = result(published, "drawn")["privacy"]
    assert (privacy["sampling"], privacy["noise_multiplier"]) == ("poisson", 2.5)
    assert privacy["epsilon"] == poisson.epsilon_of(2.5, 16 / 173, 22, 1e-5)
    private = folder(published, "drawn") / key_file.FOLDER
    record = [json.loads(line) for line in (private / draws.NAME).read_text().splitlines()]
    assert (private / draws.NAME).stat().st_mode & 0o077 == 0
    assert [entry["step"] for entry in record] == list(range(22))
    assert len({entry["rows"] for entry in record}) > 5
    parted = folder(published, "drawn-parted") / key_file.FOLDER / draws.NAME
    assert parted.read_text() == (private / draws.NAME).read_text()
    assert parted.stat().st_mode & 0o077 == 0
    entries = [json.loads(line) for line in (private.parent / "metrics.jsonl").read_text().splitlines()]
    assert [entry["position"] for entry in entries if entry["kind"] == "train"][:3] == [64, 128, 173]
    state = store.last_good(private.parent, pytest.fail)
    assert state is not None
    assert state[1]["proof"] == ["0", "0", "0"]
    with pytest.raises(UsageError, match=r"who took part is secret.*private/draws\.jsonl"):
        batches.main(["--run", str(private.parent), "--epoch", "0"])


def test_the_share_of_rows_drawn_is_that_accounted_for() -> None:
    counts = [len(draws.drawn(b"s" * 32, step, 1000, 0.1)) for step in range(400)]
    assert np.mean(counts) == pytest.approx(100, abs=4 * (90 / 400) ** 0.5)
    assert np.var(counts) == pytest.approx(90, rel=4 * (2 / 400) ** 0.5)
    assert len(draws.drawn(b"s" * 32, 0, 50, 1.0)) == 50
    assert not np.array_equal(draws.drawn(b"s" * 32, 0, 50, 0.5), draws.drawn(b"t" * 32, 0, 50, 0.5))


def test_drawing_is_refused_where_it_cannot_be_accounted_for(published: Published) -> None:
    given = ("method.noise_multiplier=2", "method.sampling=poisson")
    with pytest.raises(UsageError, match="holds the rows of the training split in memory"):
        Private.check(*loaded(published, *given, "train.read_memory=100"))
    with pytest.raises(UsageError, match="accounted for by row"):
        loaded(published, *given, "method.adjacency=group")


def test_rows_other_than_those_drawn_are_noticed(
    published: Published, communicator: Communicator, tmp_path: Path
) -> None:
    given, manifest = loaded(published, "method.noise_multiplier=2", "method.sampling=poisson")
    (tmp_path / key_file.FOLDER).mkdir()
    taken = draws.DrawnBatches(given, manifest, tmp_path, communicator, 0, lambda: b"s" * 32)
    found = list(taken)
    assert len(found) == 22
    taken.check("both epochs")
    taken.check("nothing more")
    taken.taken.add(found[0].keys)
    with pytest.raises(CheckError, match="did not take the rows that were drawn"):
        taken.check("an epoch")
