"""Started by horovodrun in test_gradients.py: every exchange on two ranks, against the whole batch in one process.

The argument is the device that the model lies on. Prints a line a check: `rank <rank> <exchange> <largest relative
error>`, and the hash of all gradients.
"""

import copy
import hashlib
import sys
from typing import Any

import torch

from schemas.settings import Train
from tests.training.looking_up import LookUp, a_loss
from training.parallel import gradients
from training.parallel.communicator import Communicator, device_of, make_deterministic

STEPS = 4
SETTINGS: dict[str, dict[str, Any]] = {
    "flat": {"gradients": "flat"},
    "auto": {},
    "overlapped": {"gradients": "overlapped"},
    "halves": {"gradients": "flat", "gradient_compression": "fp16"},
    "overlapped-halves": {"gradients": "overlapped", "gradient_compression": "fp16"},
    "flat-passes": {"gradients": "flat"},
    "overlapped-passes": {"gradients": "overlapped"},
}


def check(name: str, communicator: Communicator, device: torch.device) -> None:
    """Rank 0 has the rows 0 to `cut`, rank 1 the others; once rank 0 has none, once rank 1."""
    model = LookUp().to(device)
    whole = copy.deepcopy(model)
    exchange = gradients.build(Train.model_validate(SETTINGS[name]), model, communicator, device)
    digest, worst = hashlib.sha256(), 0.0
    for step, cut in enumerate((3, 8, 0, 5)[:STEPS]):
        first, last = (0, cut) if communicator.world.rank == 0 else (cut, 8)
        exchange.begin()
        if name.endswith("passes") and last - first > 1:
            exchange.backward(a_loss(model, step, first, first + 1), last=False)
            exchange.backward(a_loss(model, step, first + 1, last))
        else:
            exchange.backward(a_loss(model, step, first, last) if last > first else None)
        exchange.sum()
        whole.zero_grad()
        a_loss(whole, step, 0, 8).backward()
        for ours, right in zip(model.parameters(), whole.parameters(), strict=True):
            assert ours.grad is not None
            assert right.grad is not None
            digest.update(ours.grad.cpu().numpy().tobytes())
            scale = float(right.grad.abs().max())
            worst = max(worst, float((ours.grad - right.grad).abs().max()) / scale)
    print(f"rank {communicator.world.rank} {name} {worst:.2e} {digest.hexdigest()}", flush=True)


if __name__ == "__main__":
    make_deterministic(1)
    joined = Communicator.start()
    place = torch.device("cpu") if sys.argv[1] == "cpu" else device_of(joined)
    for exchange_name in SETTINGS:
        check(exchange_name, joined, place)
        check(exchange_name, joined, place)
    joined.stop()
