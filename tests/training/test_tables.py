"""Models of tables: what they take, refuse and learn."""

from pathlib import Path

import pytest
import torch

from common.errors import UsageError
from schemas.manifest import Column
from schemas.models.autoencoder import Autoencoder as AutoencoderSettings
from schemas.models.mlp import Mlp as MlpSettings
from tests.training.published_tables import publish_table
from training import evaluate, models, report
from training.models.mlp import embedding_width
from training.tracking import summary
from training.train import main

CLASSES = '[objective]\nkind = "classification"\n[model]\nkind = "mlp"\nwidths = [32]\ndropout = 0.0\n'
HEADS = {"one": 3, "two": 1}


def column(
    name: str, dtype: str = "float32", shape: tuple[int, ...] = (1,), vocabulary: int | None = None
) -> Column:
    return Column(
        name=name,
        role="feature",
        dtype=dtype,
        shape=list(shape),
        storage="fixed_size_binary",
        vocabulary=vocabulary,
    )


COLUMNS = [column("x", shape=(2,)), column("town", "int32", vocabulary=5), column("sold")]


@pytest.mark.parametrize("settings", [MlpSettings(), AutoencoderSettings(widths=[16, 8], bottleneck=2)])
def test_numbers_and_categories_give_a_tensor_for_each_head(
    settings: MlpSettings | AutoencoderSettings,
) -> None:
    torch.manual_seed(0)
    model = models.build(settings, COLUMNS, HEADS).eval()
    features = {
        "x": torch.randn(7, 2),
        "town": torch.tensor([[0], [1], [2], [3], [4], [1], [1]], dtype=torch.int32),
        "sold": torch.ones(7, 1),
        "not a feature of the model": torch.ones(7, 9),
    }
    outputs = model(features)
    models.check_outputs(settings.kind, outputs, HEADS, 7)
    assert set(outputs) == set(HEADS)
    # Each input counts, the category as well.
    for name in ("x", "town", "sold"):
        other = {**features, name: features[name].roll(1, 0) if name != "sold" else features[name] + 1}
        assert not torch.equal(model(other)["one"], outputs["one"]), name


def test_a_row_is_squeezed_into_the_bottleneck() -> None:
    model = models.build(AutoencoderSettings(widths=[16, 8], bottleneck=2), COLUMNS, {"all": 4})
    shapes = [
        tuple(p.shape) for n, p in model.named_parameters() if n.endswith("weight") and "category" not in n
    ]
    width = 3 + embedding_width(5)
    assert shapes == [(16, width), (8, 16), (2, 8), (8, 2), (16, 8), (4, 16)]


def test_the_width_of_an_embedding_grows_with_the_codes() -> None:
    assert [embedding_width(codes) for codes in (2, 10, 1000, 1 << 20)] == [2, 6, 77, 600]
    model = models.build(MlpSettings(embedding=3), COLUMNS, HEADS)
    assert sorted(tuple(p.shape) for n, p in model.named_parameters() if "category" in n) == [(5, 3)]


@pytest.mark.parametrize("kind", ["mlp", "autoencoder"])
def test_a_feature_of_another_kind_is_refused_by_name(kind: str) -> None:
    settings = MlpSettings() if kind == "mlp" else AutoencoderSettings()
    for other in (column("tokens", "uint16", (16,), 300), column("picture", "uint8", (28, 28))):
        with pytest.raises(UsageError, match=f"the feature '{other.name}' .* model.kind = '{kind}' takes"):
            models.build(settings, [*COLUMNS, other], HEADS)


def test_a_perceptron_learns_classes_beside_a_linear_baseline_on_the_same_features(tmp_path: Path) -> None:
    published = publish_table(tmp_path, CLASSES, anomalies=0.3)
    flags = ["--config", str(published.config), "--run", "run"]
    assert main(flags) == 0
    assert evaluate.main(flags) == 0
    assert report.main(flags) == 0
    found = summary.read(tmp_path / "runs" / "run")["evaluation"]
    # "fault" and "odd" differ in nothing, normal rows from both.
    assert found["accuracy"] > 0.75
    assert found["baseline_accuracy"] is not None
