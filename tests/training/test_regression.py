"""Regression: figures by hand, the unit of the target, and a training that predicts it."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import CheckError, UsageError
from schemas.config import load
from tests.training.published import Published
from tests.training.published_tables import publish_table
from training import evaluate, objectives, report
from training.comparison.assessment import assess
from training.input.batch_loader import BatchLoader, LocalBatch
from training.objectives.regression import HEAD, Regression
from training.parallel.world import World
from training.regression.scores import Scale, figures, row_results
from training.tracking import metrics, summary
from training.train import main

MLP = '[objective]\nkind = "regression"\ntarget = "d"\n[model]\nkind = "mlp"\nwidths = [32, 16]\ndropout = 0.0\n'


def test_figures_are_those_computed_by_hand() -> None:
    true, predicted = np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.0, 4.0, 2.0, 6.0])
    found = figures(true, predicted)
    assert list(found) == ["mae", "rmse", "r2"]
    assert found["mae"] == pytest.approx(3 / 4)
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 4))
    assert found["r2"] == pytest.approx(1 - 5 / 14)
    # Large values whose variance is small.
    far = figures(true + 1e9, predicted + 1e9)
    assert far["r2"] == pytest.approx(1 - 5 / 14)


def test_figures_agree_with_those_of_scikit_learn() -> None:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    random = np.random.default_rng(0)
    true = random.normal(size=200)
    predicted = true + random.normal(size=200)
    expected = [known(true, predicted) for known in (mean_absolute_error, root_mean_squared_error, r2_score)]
    assert list(figures(true, predicted).values()) == pytest.approx(expected)


def test_the_smaller_error_is_ahead() -> None:
    random = np.random.default_rng(0)
    keys = np.arange(400, dtype=np.uint64).reshape(-1, 2)
    true, noise = random.normal(size=200), random.normal(size=200)
    found = assess([row_results(keys, true, true + 0.5 * noise), row_results(keys, true, true + noise)])
    assert {name: one.verdict for name, one in found.comparisons[0].figures.items()} == {
        "mae": "ahead",
        "rmse": "ahead",
        "r2": "ahead",
    }


@pytest.mark.parametrize("transform", [None, "asinh"])
def test_the_scale_of_the_encoder_is_undone(transform: str | None) -> None:
    scale = Scale.of({"offset": 5.0, "divisor": 2.0, **({"transform": transform} if transform else {})})
    values = np.array([5.0, 100.0, -3.0])
    scaled = (values - 5) / 2
    assert scale.undo(np.arcsinh(scaled) if transform else scaled) == pytest.approx(values)


@pytest.fixture(scope="module", params=["standard", "robust"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_table(
        tmp_path_factory.mktemp("published"), MLP, labelled=False, scale=request.param, anomalies=0
    )


def built(published: Published, *overrides: str) -> Regression:
    found = objectives.build(load(published.config, overrides), published.load(), torch.device("cpu"))
    assert isinstance(found, Regression)
    return found


class Constant(torch.nn.Module):
    """A model that predicts the same for all rows."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: Any) -> dict[str, torch.Tensor]:
        return {HEAD: torch.full((len(features["a"]), 1), self.value)}


def first_batch(published: Published, objective: Regression, split: str) -> LocalBatch:
    with BatchLoader(published.load(), split, objective.config.train, World(0, 1)) as loader:
        return next(loader)


def test_the_target_is_no_input_and_its_error_is_in_its_own_unit(published: Published) -> None:
    objective = built(published)
    assert [column.name for column in objective.inputs] == ["a", "b", "c", "town"]
    batch = first_batch(published, objective, "validation")
    terms = objective.terms(Constant(0.0), batch)
    scaled = batch.features["d"][:, 0]
    torch.testing.assert_close(terms.loss, scaled.square())
    true = objective.scale.undo(scaled.double().numpy())
    assert terms.metrics["mae"].tolist() == pytest.approx(
        abs(true - objective.scale.offset).tolist(), rel=1e-4
    )


def test_errors_are_finite_where_the_loss_is_and_cost_training_nothing(published: Published) -> None:
    objective = built(published)
    far = objective.terms(Constant(1e4), first_batch(published, objective, "validation"))
    assert far.loss.isfinite().all()
    assert far.metrics["mae"].isfinite().all()
    assert objective.terms(Constant(0.0), first_batch(published, objective, "train")).metrics == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_model_is_not_judged(published: Published, value: float) -> None:
    objective = built(published)
    batch = first_batch(published, objective, "validation")
    judge = objective.judge()
    judge.add(batch, Constant(value)(batch.features))
    with pytest.raises(
        CheckError, match=r"the model predicts for (\d+) of \1 rows a value whose error is not finite"
    ):
        judge.judgement()


def test_a_model_predicts_the_target_beside_its_baselines(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--config", str(published.config), "--run", "run"]
    assert main(flags) == 0
    assert evaluate.main(flags) == 0
    assert report.main(flags) == 0
    assert "ahead (paired bootstrap" in capsys.readouterr().out
    run = published.root / "runs" / "run"
    found = summary.read(run)["evaluation"]
    assert list(found["figures"]) == ["mae", "rmse", "r2"]
    # d is 10 + 3a - b + 2 × town, so its deviation is about 3.5.
    assert found["figures"]["r2"] > 0.9
    assert found["figures"]["rmse"] < 1.2
    assert set(found["intervals"]) == {"mae", "rmse", "r2"}
    assert set(found["baselines"]) == {"linear", "mean"}
    assert abs(found["baselines"]["mean"]["r2"]) < 0.1
    assert found["baselines"]["mean"]["rmse"] == pytest.approx(3.5, abs=0.7)
    assert found["baselines"]["linear"]["r2"] > 0.9
    last = [e for e in metrics.read(run) if e["kind"] == "validation"][-1]
    assert last["mae"] < 1.2
    assert not (run / "decision.json").exists()
    assert "Predictions by true value" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['objective.target="e"'], "'e' is not the name of a"),
        (['objective.target="town"'], "'town' is not the name of a"),
        (["feature.3.missing=mean"], "'d' has values that were filled in or clipped"),
        (['feature.3.outliers={rule="iqr", action="clip"}'], "'d' has values that were filled in or clipped"),
    ],
)
def test_a_target_that_nothing_can_be_judged_by_is_refused(
    published: Published, overrides: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        built(published, *overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.target=e", "'e' is not the name of a"),
        ("model={kind='transformer_classifier'}", "does not consist of token ids"),
    ],
)
def test_what_no_training_could_begin_with_is_refused_by_a_check(
    published: Published, override: str, message: str
) -> None:
    flags = ["--config", str(published.config), "--run", "refused", "--check"]
    assert main(flags) == 0
    with pytest.raises(UsageError, match=message):
        main([*flags, "--set", override])


def test_a_row_that_is_judged_alone_has_no_r2() -> None:
    from training.objectives.regression import judgement

    found = judgement("the model", np.zeros((1, 2), np.uint64), np.array([1.0]), np.array([3.0]))
    assert found.figures == {"mae": 2.0, "rmse": 2.0}
