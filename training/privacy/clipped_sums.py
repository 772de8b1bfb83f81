"""Sums over rows of gradients that are clipped row by row.

Abadi et al. 2016, "Deep Learning with Differential Privacy" (CCS), algorithm 1: the norm of each row's gradient is
bounded before the sum, which then depends on no row more than the noise hides.

A row's gradient g enters as g · min(1, C / |g|), with the norm over all parameters together, so that no row moves the
sum by more than C. Each gradient is that of a batch of one row, by either of two ways: `torch.func`'s vmap over grad,
several rows at once, where the model allows it; else row by row, with gradients of large embedding tables as lists of
the rows that occur.

A model with dropout is differentiated row by row, with random numbers that follow from seed and record key. If they
came from one stream, a row would move those of the rows behind it, and change the sum by more than C.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from common.splitmix import scattered
from training.input.batch_loader import LocalBatch
from training.objectives import Objective, terms_of
from training.parallel.gradients import large_tables, views_of

CHUNK_NUMBERS = 1 << 24
"""Most numbers of the gradients that vmap holds at once, 64 MiB."""
CHUNK_ROWS = 256
"""Most rows at once, since their activations take memory as well."""
NORM_BLOCK = 1 << 11
"""Numbers whose squares are summed at once: over ten million, float32 was off by a hundredth."""
Way = Literal["vmap", "loop"]


class ClippedSums:
    """Sum of the clipped gradients of the rows of a rank."""

    def __init__(self, model: nn.Module, objective: Objective, limit: float) -> None:
        """Set up the sums of gradients no longer than `limit` (C)."""
        self.model, self.objective, self.limit = model, objective, limit
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.sizes = [p.numel() for p in self.parameters.values()]
        self.way: Way | None = None
        """How gradients are computed; None until the first row shows whether the model allows vmap."""

    def of(self, batch: LocalBatch, seed: int = 0) -> Tensor:
        """Return the sum over a batch: (n,) float32, n numbers of all trained parameters in order.

        `seed` is that of the step, 63 bits, the same on all ranks. A row whose gradient is not finite adds nothing.
        """
        sums = torch.zeros(sum(self.sizes), device=next(iter(self.parameters.values())).device)
        if not batch.rows:
            return sums
        if self.way is None:
            self.way = "vmap" if self._allows_vmap(batch.part(0, 1)) else "loop"
        if self.way == "vmap":
            for part in self._chunks(batch):
                self._add_by_vmap(part, sums)
        else:
            self._add_row_by_row(batch, sums, seed)
        return sums

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return the parts of (n,) in the shapes of the parameters."""
        return views_of(flat, list(self.parameters.values()))

    def _chunks(self, batch: LocalBatch) -> Iterator[LocalBatch]:
        rows = min(CHUNK_ROWS, max(1, CHUNK_NUMBERS // sum(self.sizes)))
        return (batch.part(first, first + rows) for first in range(0, batch.rows, rows))

    def _allows_vmap(self, row: LocalBatch) -> bool:
        device = next(iter(self.parameters.values())).device
        cuda = device.type == "cuda"
        # A resumed training tries at another step, and must draw the same for it.
        with torch.random.fork_rng([device] if cuda else []):
            before = torch.cuda.get_rng_state(device) if cuda else torch.get_rng_state()
            try:
                self._by_vmap(row)
            except RuntimeError:
                # vmap refuses what depends on values (packing, hooks); a real fault shows in the loop as well.
                return False
            # vmap gives random numbers by place, which other rows and the number of ranks decide.
            return torch.equal(before, torch.cuda.get_rng_state(device) if cuda else torch.get_rng_state())

    def _by_vmap(self, batch: LocalBatch) -> list[Tensor]:
        """Return the gradients of each row, (rows, numbers of a parameter) by parameter."""
        buffers = dict(self.model.named_buffers())
        frozen = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}

        def loss(
            trained: Mapping[str, Tensor], features: Mapping[str, Tensor], labels: Tensor | None
        ) -> Tensor:
            def model(given: Mapping[str, Tensor]) -> Any:
                return functional_call(self.model, {**trained, **frozen, **buffers}, (given,))

            one = dataclasses.replace(
                batch,
                features={name: values[None] for name, values in features.items()},
                labels=None if labels is None else labels[None],
                keys=batch.keys[:1],
                rows=1,
            )
            return self._loss(cast(nn.Module, model), one)

        places = (None, 0, None if batch.labels is None else 0)
        of_rows: Callable[..., dict[str, Tensor]] = vmap(grad(loss), in_dims=places, randomness="different")
        found = of_rows({n: p.detach() for n, p in self.parameters.items()}, batch.features, batch.labels)
        return [found[name].flatten(1) for name in self.parameters]

    def _loss(self, model: nn.Module, row: LocalBatch) -> Tensor:
        terms = terms_of(self.objective, model, row)
        return (terms.loss * terms.weight).sum()

    def _add_by_vmap(self, batch: LocalBatch, sums: Tensor) -> None:
        gradients = self._by_vmap(batch)
        parts = [part for one in gradients for part in torch.split(one, NORM_BLOCK, dim=1)]
        blocks = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts], dim=1)
        norms = blocks.double().norm(dim=1).float()
        factors = self._factors(norms)
        finite = torch.isfinite(norms)
        # Autocast would round the sum of all rows to bfloat16, by which one row can move it by more than C.
        with torch.autocast(sums.device.type, enabled=False):
            for view, one in zip(torch.split(sums, self.sizes), gradients, strict=True):
                # 0 times infinity would be no number.
                view += factors @ (one if bool(finite.all()) else one.masked_fill(~finite[:, None], 0.0))

    def _add_row_by_row(self, batch: LocalBatch, sums: Tensor, seed: int) -> None:
        seeds = scattered(batch.keys, seed)
        tables = [table for _, table in large_tables(self.model)]
        for table in tables:
            table.sparse = True
        try:
            for row in range(batch.rows):
                torch.manual_seed(int(seeds[row]))
                self._add_row(batch.part(row, row + 1), sums)
        finally:
            for table in tables:
                table.sparse = False

    def _add_row(self, row: LocalBatch, sums: Tensor) -> None:
        parameters = list(self.parameters.values())
        found = torch.autograd.grad(self._loss(self.model, row), parameters, allow_unused=True)
        # A token that occurs twice is in the list twice: its parts belong together before they are squared.
        gradients = [one.coalesce() if one is not None and one.is_sparse else one for one in found]
        values = [one.values() if one.is_sparse else one for one in gradients if one is not None]
        parts = [part for one in values for part in torch.split(one.flatten(), NORM_BLOCK)]
        norm = torch.stack(torch._foreach_norm(parts)).double().norm().float()
        if not bool(torch.isfinite(norm)):
            return
        factor = float(self._factors(norm))
        for view, one in zip(self.views(sums), gradients, strict=True):
            if one is not None and one.is_sparse:
                view.index_add_(0, one.indices()[0], one.values(), alpha=factor)
            elif one is not None:
                view.add_(one, alpha=factor)

    def _factors(self, norms: Tensor) -> Tensor:
        """Return min(1, C / norm), 0 for norms that are not finite."""
        return torch.where(torch.isfinite(norms), self.limit / norms.clamp(min=self.limit), 0.0)
