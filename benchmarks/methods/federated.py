"""Price and worth of each rule for the silos' updates: `python -m benchmarks.methods.federated`.

Softmax regression on the 5,000 digits (`make data`), ten silos, of which the first three are hostile: they multiply
their updates by -5, or learn the labels 9 - y. Silos are of equal size and alike, or have Dirichlet(0.3) shares of each
class. The rules are the product's own (`training.silos.combining`), the attacks stand here alone.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.methods.cells import Kept, Row, row
from common import command
from common.errors import UsageError
from training.silos import combining

ROOT = Path(__file__).parents[2]
KEPT, DIGITS = Kept("federated"), ROOT / "data/digits/mnist_5k.csv.gz"
SILOS, HOSTILE, ROUNDS, LOCAL_EPOCHS, BATCH, RATE = 10, 3, 15, 2, 50, 0.2
TEST, SEEDS, CLASSES = 1000, range(3), 10
SPLITS, ATTACKS = ("equal", "dirichlet"), ("none", "scaled", "labels")


def clipped(updates: Tensor, rows: Sequence[int]) -> Tensor:
    norms = [float(norm) for norm in updates.double().norm(dim=1)]
    return combining.mean(updates, rows, combining.median_norm(norms))


RULES: dict[str, Callable[[Tensor, Sequence[int]], Tensor]] = {
    "mean": combining.mean,
    "median": lambda updates, _: combining.median(updates),
    "trimmed_mean": lambda updates, _: combining.trimmed_mean(updates, HOSTILE),
    "multi_krum": lambda updates, _: combining.multi_krum(updates, HOSTILE)[0],
    "clipped_mean": clipped,
}

CELLS = [f"{split}/{attack}/{rule}" for split in SPLITS for attack in ATTACKS for rule in RULES]


def silos_of(labels: Tensor, split: str, seed: int) -> list[Tensor]:
    """Return the rows of each silo."""
    random = np.random.default_rng(seed)
    if split == "equal":
        return [torch.from_numpy(part) for part in np.array_split(random.permutation(len(labels)), SILOS)]
    parts: list[list[int]] = [[] for _ in range(SILOS)]
    for label in range(CLASSES):
        rows = random.permutation(np.flatnonzero(labels.numpy() == label))
        edges = (np.cumsum(random.dirichlet([0.3] * SILOS))[:-1] * len(rows)).astype(int)
        for silo, part in enumerate(np.split(rows, edges)):
            parts[silo] += part.tolist()
    return [torch.tensor(part, dtype=torch.int64) for part in parts]


def learned(begun: Tensor, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Return the weights after the local epochs of a silo: (features + 1, classes), the last row being the biases."""
    weights = begun.clone().requires_grad_()
    for _ in range(LOCAL_EPOCHS):
        for part in torch.split(torch.randperm(len(x), generator=generator), BATCH):
            loss = functional.cross_entropy(x[part] @ weights[:-1] + weights[-1], y[part])
            (gradient,) = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                weights -= RATE * gradient
    return weights.detach()


def accuracy(x: Tensor, y: Tensor, split: str, attack: str, rule: str, seed: int) -> float:
    """Train once; return the accuracy on the test rows."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(len(x), generator=generator)
    train, test = places[TEST:], places[:TEST]
    weights = torch.zeros((x.shape[1] + 1, CLASSES))
    silos = [train[part] for part in silos_of(y[train], split, seed)]
    for _ in range(ROUNDS):
        updates = []
        for number, rows in enumerate(silos):
            hostile = attack != "none" and number < HOSTILE
            labels = 9 - y[rows] if hostile and attack == "labels" else y[rows]
            update = learned(weights, x[rows], labels, generator) - weights
            updates.append((update * (-5 if hostile and attack == "scaled" else 1)).reshape(-1))
        combined = RULES[rule](torch.stack(updates), [len(rows) for rows in silos])
        weights = weights + combined.view_as(weights)
    found = (x[test] @ weights[:-1] + weights[-1]).argmax(dim=1)
    return float((found == y[test]).double().mean())


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """Return the rows, from 0 to 1, and their labels. Raises UsageError where they were not fetched."""
    if not DIGITS.exists():
        raise UsageError(f"{DIGITS} is missing: make data fetches it")
    found = np.loadtxt(DIGITS, delimiter=",", dtype=np.float32)
    return torch.from_numpy(found[:, :-1] / 255), torch.from_numpy(found[:, -1].astype(np.int64))


def figures(cell: str) -> list[float]:
    """Return the accuracy of a cell for each seed."""
    torch.set_num_threads(1)
    split, attack, rule = cell.split("/")
    return [round(accuracy(*digits(), split, attack, rule, seed), 4) for seed in SEEDS]


def rows() -> list[Row]:
    """Return the table of claims."""
    found = KEPT.read()
    table = [
        row(f"accuracy, {split} silos, {told(attack)}, {rule}", None, kept, KEPT.command, at_least=True)
        for split in SPLITS
        for attack in ATTACKS
        for rule in RULES
        if (kept := found.get(f"{split}/{attack}/{rule}"))
    ]
    for split in SPLITS if found.keys() >= set(CELLS) else ():
        clean = found[f"{split}/none/mean"]
        for attack in ATTACKS[1:]:
            lost = _differences(clean, found[f"{split}/{attack}/multi_krum"])
            claim = f"accuracy that {told(attack)} costs under multi_krum, {split} silos"
            table.append(row(claim, 0.02, lost, KEPT.command, at_least=False))
        for rule in list(RULES)[1:]:
            claim = f"accuracy that {rule} costs without an attack, {split} silos"
            table.append(
                row(
                    claim,
                    0.02,
                    _differences(clean, found[f"{split}/none/{rule}"]),
                    KEPT.command,
                    at_least=False,
                )
            )
    return table


def told(attack: str) -> str:
    return {"none": "no attack", "scaled": "updates × −5", "labels": "labels 9 − y"}[attack]


def _differences(before: Sequence[float], after: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(before, after, strict=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing; return the exit status."""
    return KEPT.main(argv, __doc__, CELLS, figures, rows)


if __name__ == "__main__":
    sys.exit(command.run(main))
