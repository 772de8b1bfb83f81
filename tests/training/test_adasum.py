"""Adasum: what it does to orthogonal and parallel gradients, and through the communicator."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.training.linear import Linear, a_batch, gradients, method_of
from training.parallel.adasum import Adasum, combined, pair
from training.parallel.communicator import Communicator
from training.parallel.world import World


def test_orthogonal_gradients_are_added_and_parallel_ones_averaged() -> None:
    one, other = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 3.0])
    assert pair(one, other).tolist() == [2.0, 3.0]
    assert pair(one, 3 * one).tolist() == pytest.approx([2.0 * (1 - 1.5) + 6.0 * (1 - 1 / 6), 0.0])
    assert pair(one, one).tolist() == [2.0, 0.0]
    assert pair(one, torch.zeros(2)).tolist() == [2.0, 0.0]


def test_it_scales_with_the_gradients_so_that_a_scale_of_the_loss_cancels() -> None:
    some = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(combined(1024 * some), 1024 * combined(some))


def test_any_number_of_ranks_is_combined_pair_by_pair() -> None:
    rows = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
    by_hand = pair(pair(pair(rows[0], rows[1]), pair(rows[2], rows[3])), rows[4])
    torch.testing.assert_close(combined(rows), by_hand)


def test_what_the_other_ranks_send_is_combined_with_this_ones(communicator: Communicator) -> None:
    """The gradient of a rank is that of the mean over its part of the batch."""
    torch.manual_seed(0)
    model = Linear()
    method_of(model, communicator).step(a_batch(0, 4, 4), 0)
    mine = torch.cat([gradient.flatten() for gradient in gradients(model)])
    theirs = torch.randn(len(mine), generator=torch.Generator().manual_seed(3))

    def begin_sum(buffer: torch.Tensor, name: str) -> Any:
        assert not buffer[1].any()
        buffer[1] = theirs
        return lambda: buffer

    ranks: Any = SimpleNamespace(world=World(0, 2), begin_sum=begin_sum)
    exchange = Adasum(model, ranks)
    before = [parameter.grad for parameter in model.parameters()]
    exchange.begin()
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert gradient is not None
        parameter.grad = gradient / 2  # of the sum over 4 rows, by 8 rows of the global batch
    exchange.sum()
    sizes = [parameter.numel() for parameter in model.parameters()]
    parts = [pair(*both) for both in zip(mine.split(sizes), theirs.split(sizes), strict=True)]
    found = torch.cat([gradient.flatten() for gradient in gradients(model)])
    torch.testing.assert_close(found, torch.cat(parts))
