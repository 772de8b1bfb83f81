"""A small model with a large embedding table, of which a batch touches some rows."""

import torch
from torch import Tensor, nn

from training.parallel.gradients import TABLE_ROWS


class LookUp(nn.Module):
    """Model of two tables, a large and a small one, looked up twice, and a linear layer on the mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(TABLE_ROWS, 6)
        self.small = nn.Embedding(5, 6)
        self.output = nn.Linear(6, 2)

    def forward(self, ids: Tensor) -> Tensor:
        """Map (n, 4) ids to (n, 2)."""
        looked_up = self.table(ids).mean(dim=1) + self.table(ids[:, 0]) + self.small(ids[:, 1] % 5)
        result: Tensor = self.output(looked_up)
        return result


def a_loss(model: nn.Module, step: int, first: int, last: int) -> Tensor:
    """Return the summed loss of the rows `first` to `last` of the eight rows of a step."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(0, TABLE_ROWS, (8, 4), generator=generator).to(next(model.parameters()).device)
    total: Tensor = model(ids[first:last]).square().sum()
    return total
