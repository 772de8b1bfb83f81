"""Show the global batches of an epoch: `python -m training.batches --manifest FILE --split train --epoch 0`.

Reads the shards as training does and prints one JSON line for each global batch: `batch`, its number in the epoch;
`position`, the position of its first row in the epoch; `record_ids`, in the order of their positions, for all ranks or,
with --rank, for one; where rows are packed, `documents`, the parts of records in each row. Batches, positions, epochs
and ranks count from 0. With --pictures, a PNG a row shows an image as it is, and beside it what [augment] makes of it.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from common import command, files
from common.errors import UsageError
from common.progress import log
from common.storage import Storage
from schemas.config import load
from schemas.kinds import METHODS, AnyMethod
from schemas.manifest import Manifest, load_with_shards, resolve
from schemas.methods.private import Private
from schemas.mistakes import allowed
from schemas.runs import RUN_FILE, manifest_of
from schemas.settings import Augment, Train
from schemas.tables import Layout
from training.parallel.world import World

if TYPE_CHECKING:
    from training.input.batch_loader import LocalBatch

    Write = Callable[[LocalBatch, npt.NDArray[np.int64]], None]


@dataclass(frozen=True)
class OrderSettings:
    """Settings that the order depends on, and the name of what had them."""

    name: str
    train: Train
    manifest: str
    root: str | None = None
    """Root of the manifest, where it is known beforehand."""
    options: Storage | None = None
    augment: Augment = field(default_factory=Augment)
    method: AnyMethod = field(default_factory=METHODS.default_settings)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    flags = argparse.ArgumentParser(
        prog="python -m training.batches",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_manifest_flags(flags, None, "a manifest; by default that of --run or --config")
    command.add_root_flag(flags)
    flags.add_argument(
        "--split", default="train", metavar="NAME", help="train (the default), validation or test"
    )
    flags.add_argument("--epoch", type=int, required=True, metavar="E", help="the first is 0")
    origin = flags.add_mutually_exclusive_group()
    origin.add_argument(
        "--run", metavar="FOLDER", help="take streams, window, seed and batch from this run's run.json"
    )
    origin.add_argument(
        "--config", metavar="FILE", help="take them from a configuration; without either the defaults hold"
    )
    flags.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="with --config"
    )
    flags.add_argument("--seed", type=int, metavar="S", help="instead of train.seed")
    flags.add_argument(
        "--batch", type=int, metavar="B", help="rows of a global batch, instead of train.batch"
    )
    flags.add_argument("--ranks", type=int, metavar="R", help="read as so many ranks do (default 1)")
    flags.add_argument("--rank", type=int, metavar="r", help="show the rows of this rank alone")
    flags.add_argument(
        "--position", type=int, default=0, metavar="P", help="begin with this row of the epoch (default 0)"
    )
    flags.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="write a PNG for each row of a data set of images there",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser().parse_args(argv)
    found = find_order(arguments)
    settings = with_flags(found.train, arguments)
    ranks, rank = worlds_of(arguments)
    manifest = load_with_shards(found.manifest, found.options, arguments.root)
    if found.root not in (None, manifest.manifest_root):
        raise UsageError(
            f"{found.name} was trained on the manifest root {str(found.root)[:16]}…, but {found.manifest} has "
            f"{manifest.manifest_root[:16]}…: give the manifest that it was trained on with --manifest"
        )
    check_place(manifest, found.method, settings, arguments, ranks)
    if not manifest.splits[arguments.split].rows:
        log(f"the {arguments.split} split of {found.manifest} has no rows")
    log(
        f"{arguments.split} of {found.manifest}, epoch {arguments.epoch}: seed {settings.seed}, {settings.streams} "
        f"streams, window {settings.window}, batches of {settings.batch} ({found.name})"
    )
    try:
        for line in batches(
            manifest,
            arguments.split,
            settings,
            arguments.epoch,
            arguments.position,
            ranks,
            rank,
            found.options,
            found.method,
            None if arguments.pictures is None else writer(arguments.pictures, found, settings, manifest),
        ):
            print(json.dumps(line))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`); what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def find_order(arguments: argparse.Namespace) -> OrderSettings:
    """Return the settings of --run or --config, or the defaults. Raises UsageError if they are unavailable."""
    if arguments.overrides and arguments.config is None:
        raise UsageError("--set overrides keys of a configuration: give one with --config")
    if arguments.config is not None:
        config = load(arguments.config, command.overrides(arguments))
        location = resolve(arguments.manifest or "latest", Layout.of(config).manifests, config.storage)
        return OrderSettings(
            str(arguments.config), config.train, location, None, config.storage, config.augment, config.method
        )
    if arguments.run is not None:
        return order_of_run(Path(arguments.run), arguments.manifest, arguments.root)
    if arguments.manifest in (None, "latest"):
        raise UsageError("which data set? give --manifest FILE, or --run FOLDER, or --config FILE")
    return OrderSettings(
        "defaults: give --run or --config where a training had others", Train(), arguments.manifest
    )


def order_of_run(run: Path, manifest: str | None, root: str | None = None) -> OrderSettings:
    """Return the settings in run.json, and the location of its manifest unless one is given."""
    file = run / RUN_FILE
    try:
        document = json.loads(file.read_bytes())
        train = Train.model_validate(document["configuration"]["train"])
        augment = Augment.model_validate(document["configuration"].get("augment", {}))
        method = TypeAdapter(AnyMethod).validate_python(document["configuration"].get("method", {}))
        location = manifest or manifest_of(run, document, Storage(), None, root)
        manifest_root = str(document["manifest_root"])
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read ({error.strerror}): give the folder of a run, such as runs/demo, with --run"
        ) from error
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"{file} does not tell how the run was configured ({first}): give its configuration with --config"
        ) from error
    return OrderSettings(str(file), train, location, manifest_root, augment=augment, method=method)


def with_flags(train: Train, arguments: argparse.Namespace) -> Train:
    """Return the settings with --seed and --batch applied. Raises UsageError for invalid values."""
    given = {name: getattr(arguments, name) for name in ("seed", "batch")}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return Train.model_validate({**train.model_dump(), **given})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UsageError(f"--{wrong['loc'][0]} {wrong['input']}: allowed is {allowed(wrong)}") from error


def worlds_of(arguments: argparse.Namespace) -> tuple[int, int | None]:
    """Return the number of ranks and the one to show (None: all). Raises UsageError if they do not fit."""
    if arguments.rank is not None and arguments.ranks is None:
        raise UsageError(f"--rank {arguments.rank} of how many? give --ranks too")
    ranks = 1 if arguments.ranks is None else arguments.ranks
    if ranks < 1:
        raise UsageError(f"--ranks {ranks}: give at least 1")
    if arguments.rank is not None and not 0 <= arguments.rank < ranks:
        raise UsageError(f"--rank {arguments.rank}: of {ranks} ranks the first is 0, the last {ranks - 1}")
    return ranks, arguments.rank


def check_place(
    manifest: Manifest, method: AnyMethod, settings: Train, arguments: argparse.Namespace, ranks: int
) -> None:
    """Raise UsageError if the split, epoch or position does not exist, its rows are secret, or there are too few."""
    if arguments.split not in manifest.splits:
        raise UsageError(f"--split {arguments.split}: the data set has {', '.join(sorted(manifest.splits))}")
    if arguments.epoch < 0:
        raise UsageError(f"--epoch {arguments.epoch}: the first epoch is 0")
    if arguments.split == "train" and isinstance(method, Private) and method.sampling == "poisson":
        raise UsageError(
            'method.sampling = "poisson" draws the rows of each step by the key of the noise, and who took part is '
            "secret: rows and sums of their keys are in private/draws.jsonl of the run's folder"
        )
    from training.silos.loading import order_of  # imports torch

    order = order_of(manifest, method, settings, arguments.split)
    if not 0 <= arguments.position <= order.rows:
        raise UsageError(
            f"--position {arguments.position}: an epoch of the {arguments.split} split has {order.rows:,} rows, the "
            "first at position 0"
        )
    if arguments.split == "train":  # in the other splits, ranks may have no rows
        order.check_world(World(0, ranks))


def writer(folder: Path, found: OrderSettings, settings: Train, manifest: Manifest) -> "Write":
    """Return a function that writes a picture of each row below a folder, named by its position in the epoch.

    Raises UsageError for a data set without images.
    """
    import torch

    from common.images import png_of, uint8_of
    from training.input.augmentation import Augmentation

    augmentation = Augmentation(found.augment, settings.seed, manifest, torch.device("cpu"))
    if not augmentation.names:
        raise UsageError(
            f"--pictures {folder}: the data set {manifest.content.dataset} has no feature of images"
        )
    folder.mkdir(parents=True, exist_ok=True)

    def write(batch: "LocalBatch", positions: npt.NDArray[np.int64]) -> None:
        changed = augmentation(batch)
        for name in augmentation.names:
            for row, position in enumerate(positions.tolist()):
                both = [uint8_of(one.features[name][row].numpy()) for one in (batch, changed)]
                png = png_of(np.concatenate(both, axis=1))
                files.write(folder / f"{name}-epoch-{batch.epoch}-row-{position:08d}.png", png)

    return write


def batches(
    manifest: Manifest,
    split: str,
    settings: Train,
    epoch: int,
    position: int = 0,
    ranks: int = 1,
    rank: int | None = None,
    options: Storage | None = None,
    method: AnyMethod | None = None,
    write: "Write | None" = None,
) -> Iterator[dict[str, Any]]:
    """Yield the global batches of an epoch from `position` on, as read by one rank or by all side by side.

    `write` gets the rows of each rank, and their places in the epoch.
    """
    from training.silos.loading import loader_of, order_of  # imports torch

    method = METHODS.default_settings() if method is None else method
    order = order_of(manifest, method, settings, split)
    before = epoch * order.rows
    shown = range(ranks) if rank is None else [rank]
    with ExitStack() as stack:
        loaders = [
            stack.enter_context(
                loader_of(
                    manifest,
                    method,
                    settings,
                    World(one, ranks),
                    epoch + 1,
                    before + position,
                    split,
                    options=options,
                    with_ids=True,
                )
            )
            for one in shown
        ]
        for batch, *parts in zip(order.batches(settings.batch, position), *loaders, strict=True):
            owners = order.owners(batch, ranks)
            ids, documents = (np.full(batch.rows, None, dtype=object) for _ in range(2))
            for one, part in zip(shown, parts, strict=True):
                ids[owners == one] = part.record_ids
                if write is not None:
                    write(part, batch.first + np.flatnonzero(owners == one))
                if part.documents is not None:
                    several = np.empty(part.rows, dtype=object)
                    several[:] = part.shown_documents()
                    documents[owners == one] = several
            mine = np.isin(owners, shown)
            packed = any(part.documents is not None for part in parts)
            yield {
                "batch": batch.number(settings.batch),
                "position": batch.first,
                "record_ids": ids[mine].tolist(),
                **({"documents": documents[mine].tolist()} if packed else {}),
            }


if __name__ == "__main__":
    sys.exit(command.run(main))
