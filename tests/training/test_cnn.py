"""The convolutional network: what it takes, that its rows do not depend on each other, and that it learns."""

import pytest
import torch

from common.errors import UsageError
from schemas.manifest import FIXED, Column
from schemas.models.cnn import Cnn as Settings
from training import models
from training.models import Feature

SMALL = Settings(channels=[8, 16], dropout=0.5)


def feature(height: int = 8, width: int = 8, channels: int = 1, deviation: float = 50.0) -> Feature:
    learned = {"mean": [100.0] * channels, "deviation": [deviation] * channels}
    return Feature(
        name="image",
        role="feature",
        dtype="uint8",
        shape=[height, width, channels],
        storage=FIXED,
        statistics=learned,
    )


def images(rows: int, height: int = 8, width: int = 8, channels: int = 1) -> torch.Tensor:
    return torch.randint(
        0, 256, (rows, height, width, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_tokens_are_refused_by_name() -> None:
    tokens = Column(name="words", role="feature", dtype="uint16", shape=[16], storage=FIXED, vocabulary=300)
    with pytest.raises(UsageError, match=r"the feature 'words' .* is no image"):
        models.build(SMALL, [tokens], {"logits": 2})


def test_images_too_small_for_the_blocks_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"'image' are 7 × 64 pixels, too small for the 3 blocks .* give at most 2"
    ):
        models.build(Settings(channels=[8, 8, 8]), [feature(7, 64)], {"logits": 2})
    models.build(Settings(channels=[8, 8, 8]), [feature(8, 64)], {"logits": 2})


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (28, 28, 1), (12, 40, 3)])
def test_it_maps_bytes_to_heads(height: int, width: int, channels: int) -> None:
    model = models.build(SMALL, [feature(height, width, channels)], {"logits": 3, "more": 2}).eval()
    found = model({"image": images(5, height, width, channels)})
    assert {name: (head.shape, head.dtype) for name, head in found.items()} == {
        "logits": ((5, 3), torch.float32),
        "more": ((5, 2), torch.float32),
    }


def test_a_row_depends_on_no_other() -> None:
    model = models.build(SMALL, [feature()], {"logits": 3}).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    whole = model({"image": images(12)})["logits"]
    parts = torch.cat([model({"image": part})["logits"] for part in images(12).split(5)])
    assert torch.allclose(whole, parts, atol=1e-5)


def test_levels_are_scaled_by_what_the_training_split_taught() -> None:
    """Images twice as bright with statistics twice as large are the same to it; changed ones come as float32."""
    torch.manual_seed(1)
    model = models.build(SMALL, [feature()], {"logits": 3}).eval()
    torch.manual_seed(1)
    twice = feature().model_copy(update={"statistics": {"mean": [200.0], "deviation": [100.0]}})
    other = models.build(SMALL, [twice], {"logits": 3}).eval()
    half = images(4) // 2
    expected = model({"image": half})["logits"]
    assert torch.allclose(other({"image": half * 2})["logits"], expected, atol=1e-5)
    assert torch.equal(model({"image": half.float()})["logits"], expected)


def test_a_channel_of_one_colour_gives_numbers() -> None:
    model = models.build(SMALL, [feature(deviation=0.0)], {"logits": 3}).eval()
    assert torch.isfinite(model({"image": images(4)})["logits"]).all()


def test_it_learns_where_the_light_is() -> None:
    torch.manual_seed(0)
    model = models.build(SMALL, [feature()], {"logits": 2}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2)

    def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, 2, (rows,), generator=generator)
        found = torch.randint(0, 200, (rows, 8, 8, 1), generator=generator)
        halves = torch.stack([found[:, :4], found[:, 4:]], dim=1)
        halves[torch.arange(rows), labels] += 55
        return halves.flatten(1, 2).to(torch.uint8), labels

    for _ in range(60):
        inputs, labels = batch(32)
        loss = torch.nn.functional.cross_entropy(model({"image": inputs})["logits"], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inputs, labels = batch(200)
    assert (model.eval()({"image": inputs})["logits"].argmax(dim=1) == labels).float().mean() > 0.95
