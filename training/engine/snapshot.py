"""A training's state as a checkpoint holds it: everything that the next steps depend on, and nothing else."""

import hashlib
import json

import torch

from common.version import code_version
from schemas.config import canonical_json
from training.checkpoints import store
from training.checkpoints.record import CheckpointState
from training.engine.state import TrainContext, TrainState
from training.input.proof import Proof
from training.parallel.communicator import Communicator


def over_all_ranks(state: TrainState, communicator: Communicator) -> tuple[Proof, torch.Tensor]:
    """Sum up what each rank holds a part of; called by all ranks."""
    return state.proof.over_all_ranks(communicator), torch.tensor(
        communicator.sum_floats(state.loss.tolist()), dtype=torch.float64
    )


def state_of(context: TrainContext, state: TrainState, sums: tuple[Proof, torch.Tensor]) -> CheckpointState:
    """Return the state as tensors and plain values. It refers to the live weights: copy it before they change.

    Random states are not included, because every step derives them from seed, step and rank.
    """
    proof, loss = sums
    settings = context.config.train
    decisive = json.dumps(store.decisive(context.config), sort_keys=True)
    data = canonical_json(context.config.data_sections()).decode()
    return {
        "format_version": store.FORMAT_VERSION,
        "manifest_root": context.manifest.manifest_root,
        "decisive": decisive,
        "data": data,
        # Hash of both, without the paths that the hash of the whole configuration covers.
        "configuration_sha256": hashlib.sha256(f"{decisive}\n{data}".encode()).hexdigest(),
        "columns": canonical_json(
            [c.model_dump(mode="json") for c in context.manifest.content.columns]
        ).decode(),
        "code_version": code_version(),
        "step": state.step,
        "position": state.position,
        "seed": settings.seed,
        "schedule": {"origin": dict(state.origin), "steps": context.steps_of_an_epoch * settings.epochs},
        # As text: unsigned 64-bit numbers exceed what other readers of the file may accept.
        "proof": [str(proof.count), str(proof.sums[0]), str(proof.sums[1])],
        "metrics": {
            "loss": loss.tolist(),
            "validation": [dict(entry) for entry in state.validation],
            "skipped": state.skipped,
            "overflows": state.overflows,
        },
        "model": dict(context.method.judged.state_dict()),
        "method": context.method.state(),
    }


def restore(state: TrainState, saved: CheckpointState, writes: bool) -> None:
    """Restore a saved state; sums over all ranks continue on the rank that writes."""
    state.step, state.position = saved["step"], saved["position"]
    state.origin = dict(saved["schedule"]["origin"])
    metrics = saved["metrics"]
    state.validation = [dict(entry) for entry in metrics["validation"]]
    state.skipped, state.overflows = metrics["skipped"], metrics.get("overflows", 0)
    if writes:
        count, first, second = (int(text) for text in saved["proof"])
        state.proof = Proof(count, (first, second))
        state.loss = torch.tensor(metrics["loss"], dtype=torch.float64)
