"""The transformer: padding and trimming change nothing, and a layer computes the same as PyTorch's own."""

from typing import Any

import pytest
import torch
from torch import nn

from common.errors import UsageError
from schemas.manifest import Column
from schemas.models.transformer_classifier import TransformerClassifier as Settings
from training import models
from training.models.transformer_classifier import Layer, Packing, TextEncoder

LENGTH, VOCABULARY, CLASSES = 24, 50, 5


def feature(**values: Any) -> Column:
    return Column.model_validate(
        {
            "name": "tokens",
            "role": "feature",
            "dtype": "uint16",
            "shape": [LENGTH],
            "storage": "binary",
            "vocabulary": VOCABULARY,
            **values,
        }
    )


def settings(**values: Any) -> Settings:
    return Settings.model_validate(
        {"kind": "transformer_classifier", "width": 16, "heads": 4, "dropout": 0.0, **values}
    )


def tokens(*lengths: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(1, VOCABULARY, (len(lengths), LENGTH), generator=generator, dtype=torch.int32)
    for row, length in enumerate(lengths):
        rows[row, length:] = 0
    return rows


def build(**values: Any) -> nn.Module:
    torch.manual_seed(0)
    return models.build(settings(**values), [feature()], {"logits": CLASSES}).eval()


@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max"])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_row_alone_gives_what_it_gives_in_a_batch(pooling: str, layers: int) -> None:
    model = build(pooling=pooling, layers=layers)
    batch = tokens(3, LENGTH, 1, 17, 9)  # with four groups, two rows in each but the last
    together = model({"tokens": batch})["logits"]
    assert together.shape == (5, CLASSES)
    for row in range(len(batch)):
        alone = model({"tokens": batch[row : row + 1]})["logits"]
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-6)
    # Trimmed by hand to the longest row, or not.
    torch.testing.assert_close(model({"tokens": batch[:1, :3]})["logits"], together[:1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together[0], together[1])


def test_every_token_and_its_place_matter() -> None:
    model = build(layers=2)
    batch = tokens(6)
    plain = model({"tokens": batch})["logits"]
    for place in range(6):
        changed = batch.clone()
        changed[0, place] = changed[0, place] % (VOCABULARY - 1) + 1
        assert not torch.allclose(model({"tokens": changed})["logits"], plain, atol=1e-5)
    swapped = batch[:, [1, 0, *range(2, LENGTH)]]
    assert not torch.allclose(model({"tokens": swapped})["logits"], plain, atol=1e-5)


def test_a_layer_is_pytorchs_pre_norm_layer() -> None:
    torch.manual_seed(1)
    ours = Layer(settings(feed_forward=40))
    theirs = nn.TransformerEncoderLayer(
        16, 4, 40, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    pairs = [
        (theirs.self_attn.in_proj_weight, ours.projections.weight),
        (theirs.self_attn.in_proj_bias, ours.projections.bias),
        (theirs.self_attn.out_proj.weight, ours.attention_output.weight),
        (theirs.self_attn.out_proj.bias, ours.attention_output.bias),
        (theirs.linear1.weight, ours.expand.weight),
        (theirs.linear1.bias, ours.expand.bias),
        (theirs.linear2.weight, ours.contract.weight),
        (theirs.linear2.bias, ours.contract.bias),
    ]
    with torch.no_grad():
        for to, source in pairs:
            assert to is not None
            to.copy_(source)
    # Nine rows, so that attention runs over several groups, not in the order of their lengths.
    batch = tokens(4, 11, LENGTH, 2, 7, 7, 1, 20, 3)
    packing = Packing.of(batch)
    assert len(packing.groups) == 3
    hidden = torch.randn(len(packing.ids), 16)
    found = ours(hidden, packing)
    lengths = sorted((batch != 0).sum(dim=1).tolist())
    for row, alone in zip(hidden.split(lengths), found.split(lengths), strict=True):
        torch.testing.assert_close(alone, theirs(row.unsqueeze(0))[0], rtol=1e-5, atol=1e-5)


def test_packing_keeps_every_token_with_its_row_and_place() -> None:
    batch = tokens(4, 11, LENGTH, 2, 7, 7, 1, 20, 3)
    packing = Packing.of(batch)
    padded = [
        [token for token in row if token]
        for group in packing.groups
        for row in group.pad(packing.ids.unsqueeze(1)).squeeze(2).tolist()
    ]
    assert [padded[place] for place in packing.rows.tolist()] == [
        [token for token in row if token] for row in batch.tolist()
    ]
    for group in packing.groups:
        assert torch.equal(
            group.pack(group.pad(packing.ids.unsqueeze(1)))[:, 0], packing.ids[group.first : group.last]
        )
    assert sorted(packing.positions.tolist()) == sorted(
        place for length in (4, 11, LENGTH, 2, 7, 7, 1, 20, 3) for place in range(length)
    )


def test_pooling_is_over_tokens_alone() -> None:
    torch.manual_seed(2)
    encoder = TextEncoder(settings(pooling="mean_max"), VOCABULARY, LENGTH)
    hidden = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    pooled = encoder._pool(hidden * mask.unsqueeze(2), mask)
    torch.testing.assert_close(pooled[0, :3], hidden[0, :2].mean(dim=0))
    torch.testing.assert_close(pooled[0, 3:], hidden[0, :2].amax(dim=0))
    torch.testing.assert_close(pooled[1, 3:], hidden[1].amax(dim=0))


def test_a_row_of_padding_alone_gives_finite_numbers() -> None:
    model = build()
    logits = model({"tokens": tokens(0, 5)})["logits"]
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_sizes_come_from_the_settings_and_the_manifest() -> None:
    model = build(layers=3, width=32, feed_forward=48)
    state = model.state_dict()
    assert state["encoders.0.tokens.weight"].shape == (VOCABULARY, 32)
    assert state["encoders.0.positions.weight"].shape == (LENGTH, 32)
    assert state["encoders.0.layers.2.expand.weight"].shape == (48, 32)
    assert state["output.weight"].shape == (CLASSES, 64)


def test_several_features_are_used_all() -> None:
    torch.manual_seed(0)
    columns = [feature(name="title", shape=[4], vocabulary=9), feature(name="body")]
    model = models.build(settings(), columns, {"logits": CLASSES}).eval()
    batch = {"title": torch.tensor([[1, 2, 0, 0]], dtype=torch.int32), "body": tokens(7)}
    plain = model(batch)["logits"]
    assert not torch.allclose(model({**batch, "title": batch["title"] * 3})["logits"], plain, atol=1e-5)
    assert not torch.allclose(model({**batch, "body": tokens(8)})["logits"], plain, atol=1e-5)


def test_dropout_follows_the_seed_alone() -> None:
    model = build(dropout=0.5).train()
    batch = {"tokens": tokens(5, 9)}
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(batch)["logits"])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_features_without_token_ids_are_refused() -> None:
    with pytest.raises(UsageError, match="'picture' does not consist of token ids"):
        models.build(
            settings(), [feature(name="picture", shape=[8, 8], vocabulary=None)], {"logits": CLASSES}
        )


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (nn.Identity(), "the model 'transformer_classifier' has no parameters that could be trained"),
        (nn.Linear(2, 2).requires_grad_(False), "has no parameters that could be trained"),
        (None, "must return a torch.nn.Module, not NoneType"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    monkeypatch: pytest.MonkeyPatch, built: object, message: str
) -> None:
    monkeypatch.setattr("training.models.transformer_classifier.build", lambda *_: built)
    with pytest.raises(UsageError, match=message):
        models.build(settings(), [feature()], {"logits": 3})


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(4, 3), "it returned Tensor"),
        ({"other": torch.zeros(4, 3)}, r"it returned \{'other': \(4, 3\)\}"),
        ({"logits": torch.zeros(4, 5)}, r"it returned \{'logits': \(4, 5\)\}"),
        ({"logits": torch.zeros(3, 3)}, r"it returned \{'logits': \(3, 3\)\}"),
    ],
)
def test_outputs_that_do_not_fit_the_objective_are_named(outputs: object, message: str) -> None:
    models.check_outputs("tiny", {"logits": torch.zeros(4, 3)}, {"logits": 3}, 4)
    with pytest.raises(
        UsageError, match=rf"the model 'tiny' must return .* 'logits' is \(4, 3\) .*; {message}"
    ):
        models.check_outputs("tiny", outputs, {"logits": 3}, 4)
