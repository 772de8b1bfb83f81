"""The state of a training as a checkpoint holds it: everything that the next steps depend on, and nothing else."""

import hashlib
import json
from typing import TYPE_CHECKING

import torch

from common.version import code_version
from schemas.config import canonical_json
from training.checkpoints import store
from training.parallel.communicator import Ring
from training.tracking.metrics import Proof

if TYPE_CHECKING:
    from training.engine.loop import Job, Place


def over_all_ranks(place: "Place", ring: Ring) -> tuple[Proof, torch.Tensor]:
    """What the ranks hold in parts, summed; called by all of them."""
    return place.proof.over_all_ranks(ring), torch.tensor(
        ring.sum_floats(place.loss.tolist()), dtype=torch.float64
    )


def state_of(job: "Job", place: "Place", sums: tuple[Proof, torch.Tensor]) -> store.State:
    """Tensors and plain values. It refers to the live weights: copy it before they change.

    Random states are not in it, because every step derives them from seed, step and rank.
    """
    proof, loss = sums
    settings = job.config.train
    decisive = json.dumps(store.decisive(job.config), sort_keys=True)
    data = canonical_json(job.config.data_sections()).decode()
    return {
        "format_version": store.FORMAT_VERSION,
        "manifest_root": job.manifest.manifest_root,
        "decisive": decisive,
        "data": data,
        # Of both, without the paths that the hash of the whole configuration covers.
        "configuration_sha256": hashlib.sha256(f"{decisive}\n{data}".encode()).hexdigest(),
        "columns": canonical_json([c.model_dump(mode="json") for c in job.manifest.content.columns]).decode(),
        "code_version": code_version(),
        "step": place.step,
        "position": place.position,
        "seed": settings.seed,
        "schedule": {"origin": dict(place.origin), "steps": job.steps_of_an_epoch * settings.epochs},
        # As text: unsigned 64-bit numbers are more than what other readers of the file may take.
        "proof": [str(proof.count), str(proof.sums[0]), str(proof.sums[1])],
        "metrics": {
            "loss": loss.tolist(),
            "validation": [dict(entry) for entry in place.validation],
            "skipped": place.skipped,
        },
        "model": dict(job.model.state_dict()),
        "method": job.method.state(),
    }


def restore_place(place: "Place", state: store.State, writes: bool) -> None:
    """Puts a place where a state was saved; sums over the ranks go on in those of the rank that writes."""
    place.step, place.position = state["step"], state["position"]
    place.origin = dict(state["schedule"]["origin"])
    metrics = state["metrics"]
    place.validation = [dict(entry) for entry in metrics["validation"]]
    place.skipped = metrics["skipped"]
    if writes:
        count, first, second = (int(text) for text in state["proof"])
        place.proof = Proof(count, (first, second))
        place.loss = torch.tensor(metrics["loss"], dtype=torch.float64)
