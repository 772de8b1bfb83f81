"""Batches of training in the order that the method asks for: of streams over all rows, or of silos."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, Self

from common.storage import Storage
from common.wording import counted
from schemas.config import Configuration
from schemas.kinds import AnyMethod
from schemas.manifest import Manifest
from schemas.settings import Train
from training.input.batch_loader import BatchLoader, LocalBatch, columns_of, read_need, split_order
from training.input.columns import bundles_of
from training.input.order import SplitOrder
from training.input.windows import joined
from training.parallel.world import World
from training.silos.order import SiloOrder, silos_of

Order = SplitOrder | SiloOrder
ALONE = World(0, 1)
"""World of a silo, which shares its rows with no other rank."""


class Loader(Protocol):
    """Batches of a rank, of training or of a split to judge by."""

    @property
    def seconds_waited(self) -> float: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[LocalBatch]: ...

    def __next__(self) -> LocalBatch: ...


def order_of(manifest: Manifest, method: AnyMethod, settings: Train, split: str = "train") -> Order:
    """Return the order of a split; only that of training depends on the method.

    Raises UsageError as `silos_of` does.
    """
    if method.reads == "streams" or split != "train":
        return split_order(manifest, split, settings)
    return SiloOrder(silos_of(manifest, method.reads))


def loader_of(
    manifest: Manifest,
    method: AnyMethod,
    settings: Train,
    world: World,
    epochs: int = 1,
    position: int = 0,
    split: str = "train",
    **given: Any,
) -> Loader:
    """Return the batches of a split from a position on, in the order of `order_of`.

    `given` are further arguments of `BatchLoader`.
    """
    order = order_of(manifest, method, settings, split)
    if isinstance(order, SiloOrder):
        return SiloLoader(manifest, order, settings, world, epochs, position, **given)
    return BatchLoader(manifest, split, settings, world, epochs, position, **given)


def memory_of(config: Configuration, manifest: Manifest, world: World) -> tuple[int, str]:
    """Return the bytes that the readers of training will hold on this rank, as a number and in words."""
    order, settings, options = order_of(manifest, config.method, config.train), config.train, config.storage
    if not isinstance(order, SiloOrder):
        need = read_need(manifest, "train", settings, world, options=options)
        return need.total, need.told
    owned = order.owned(world)
    parts = (silo.part_of(manifest) for silo in owned)
    total = sum(read_need(one, "train", _of_silo(settings), ALONE, options=options).total for one in parts)
    return total, f"{total / 2**20:,.1f} MiB on this rank, for {counted(len(owned), 'silo')}"


def _of_silo(settings: Train) -> Train:
    # There are as many readers as silos.
    return settings.model_copy(update={"workers": 1})


class SiloLoader:
    """Local batches of a rank's silos, joined step by step; an iterator and a context manager like `BatchLoader`.

    Each silo has a reader of its own, which opens the files of that silo alone.
    """

    def __init__(
        self,
        manifest: Manifest,
        order: SiloOrder,
        settings: Train,
        world: World,
        epochs: int = 1,
        position: int = 0,
        options: Storage | None = None,
        pinned: bool = False,
        with_ids: bool = False,
    ) -> None:
        """Start the readers; arguments as for `BatchLoader`. Raises UsageError if no step begins at `position`."""
        self.order, self.batch, self.epochs, self.pinned = order, settings.batch, epochs, pinned
        self.columns = columns_of(manifest, with_ids)
        self.bundles = bundles_of(self.columns, separate=pinned)
        self.silos = order.owned(world)
        self._opened = ExitStack()
        epoch, rest = divmod(position, order.rows)
        begun = order.step_at(rest, self.batch)
        self.loaders = [
            self._opened.enter_context(
                BatchLoader(
                    silo.part_of(manifest),
                    "train",
                    _of_silo(settings),
                    ALONE,
                    epochs,
                    epoch * silo.rows + min(silo.rows, begun * self.batch),
                    options=options,
                    pinned=pinned,
                    with_ids=with_ids,
                )
            )
            for silo in self.silos
        ]
        self._steps = self._all_steps(epoch, begun)

    @property
    def seconds_waited(self) -> float:
        """Seconds that the caller has waited for batches."""
        return sum(loader.seconds_waited for loader in self.loaders)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def __iter__(self) -> Iterator[LocalBatch]:
        return self

    def __next__(self) -> LocalBatch:
        return next(self._steps)

    def _all_steps(self, first: int, begun: int) -> Iterator[LocalBatch]:
        for epoch in range(first, self.epochs):
            for step in range(begun if epoch == first else 0, self.order.steps(self.batch)):
                taken = self.order.taken(step, self.batch)
                parts = {
                    silo.number: next(loader)
                    for silo, loader in zip(self.silos, self.loaders, strict=True)
                    if taken[silo.number]
                }
                position = epoch * self.order.rows + self.order.after(step + 1, self.batch)
                whole = self._joined(list(parts.values()))
                yield dataclasses.replace(
                    whole,
                    global_rows=int(taken.sum()),
                    epoch=epoch,
                    position=position,
                    silos=tuple((number, part.rows) for number, part in parts.items()),
                )

    def _joined(self, parts: Sequence[LocalBatch]) -> LocalBatch:
        """Join local batches; none give a batch of no rows."""
        if not parts:
            nothing = joined([], self.columns, self.bundles, self.pinned)
            return LocalBatch.of(nothing, self.bundles, 0, 0, 0)
        return LocalBatch.joined(parts)
