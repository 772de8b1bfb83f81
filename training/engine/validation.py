"""Loss and accuracy over a whole split, spread over the ranks, every row counted once."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from schemas.config import Configuration
from schemas.manifest import Manifest
from training.input.batch_loader import Feed
from training.parallel import watchdog
from training.parallel.communicator import Ring
from training.tracking.metrics import Proof


@dataclass(frozen=True)
class Scores:
    """Of a split."""

    rows: int
    loss: float
    """Mean cross-entropy, without class weights."""
    accuracy: float


@torch.no_grad()
def validate(
    model: nn.Module, manifest: Manifest, split: str, config: Configuration, ring: Ring, device: torch.device
) -> Scores:
    """Called by all ranks together. Raises CheckError when not every row of the split was read exactly once."""
    model.eval()
    proof, correct, loss = Proof(), 0, torch.zeros((), dtype=torch.float64)
    with Feed(
        manifest, split, config.train, ring.world, batch=config.evaluate.batch, options=config.storage
    ) as feed:
        for batch in feed:
            watchdog.step()
            proof.add(batch.keys)
            if batch.rows and batch.labels is not None:
                labels = batch.labels.to(device)
                logits = model({name: tensor.to(device) for name, tensor in batch.features.items()})
                loss += functional.cross_entropy(logits, labels, reduction="none").double().sum().cpu()
                correct += int((logits.argmax(dim=1) == labels).sum())
    whole = proof.over_all_ranks(ring)
    whole.check(manifest.splits[split], f"the {split} split")
    total_loss = ring.sum_floats([float(loss)])[0]
    total_correct = ring.sum_integers([correct])[0]
    rows = max(1, whole.count)
    return Scores(whole.count, total_loss / rows, total_correct / rows)
