"""Silos of the benchmark under attack: every row in one of them, of the shape that is claimed."""

import pytest
import torch

from benchmarks.methods import federated


@pytest.mark.parametrize("split", federated.SPLITS)
def test_each_row_is_in_one_silo(split: str) -> None:
    labels = torch.arange(1000) % federated.CLASSES
    silos = federated.silos_of(labels, split, 0)
    assert len(silos) == federated.SILOS
    assert torch.cat(silos).sort().values.equal(torch.arange(1000))
    shares = [labels[silo].bincount(minlength=10).max() / max(1, len(silo)) for silo in silos]
    # Alike: no class has more than a third of a silo; by Dirichlet(0.3) some has.
    assert (max(shares) < 1 / 3) == (split == "equal")


def test_one_hostile_silo_in_three_ruins_a_mean_but_not_what_bears_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(federated, "TEST", 100)
    monkeypatch.setattr(federated, "ROUNDS", 3)
    y = torch.arange(600) % federated.CLASSES
    x = torch.eye(federated.CLASSES)[y] + 0.2 * torch.randn(
        (600, 10), generator=torch.Generator().manual_seed(1)
    )
    honest = federated.accuracy(x, y, "equal", "none", "mean", 0)
    assert federated.accuracy(x, y, "equal", "scaled", "multi_krum", 0) > honest - 0.1 > 0.7
    assert federated.accuracy(x, y, "equal", "scaled", "mean", 0) < 0.3
