"""Every exchange on several ranks, against the whole batch in one process; started by test_gradients.py.

The arguments are the model's device and the back end. Prints a line for each check:
`rank <rank> <exchange> <largest relative error>`, and the hash of all gradients.
"""

import copy
import hashlib
import os
import sys
from typing import Any

import torch

from schemas.settings import Train
from tests.training.looking_up import LookUp, a_loss
from training import models
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
    "flat-frozen": {"gradients": "flat"},
    "overlapped-frozen": {"gradients": "overlapped"},
    "overlapped-groups": {"gradients": "overlapped"},
}


def check(name: str, communicator: Communicator, device: torch.device) -> None:
    """Check an exchange: rank 0 has the rows 0 to `cut`, rank 1 the others; once rank 0 has none, once rank 1.

    Further ranks never have any.
    """
    gradients.GROUP_BYTES = 64 if name.endswith("groups") else 32 << 20
    model = LookUp().to(device)
    if name.endswith("frozen"):
        models.freeze(model, ["table.*", "output.bias"])
    whole = copy.deepcopy(model)
    exchange = gradients.build(Train.model_validate(SETTINGS[name]), model, communicator, device)
    digest, worst = hashlib.sha256(), 0.0
    for step, cut in enumerate((3, 8, 0, 5)[:STEPS]):
        first, last = ((0, cut), (cut, 8), (8, 8))[communicator.world.rank]
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
            if not ours.requires_grad:
                assert ours.grad is None
                continue
            assert ours.grad is not None
            assert right.grad is not None
            digest.update(ours.grad.cpu().numpy().tobytes())
            scale = float(right.grad.abs().max())
            worst = max(worst, float((ours.grad - right.grad).abs().max()) / scale)
    # In one piece: under torchrun all ranks write to the same pipe.
    os.write(1, f"rank {communicator.world.rank} {name} {worst:.2e} {digest.hexdigest()}\n".encode())


if __name__ == "__main__":
    make_deterministic(1)
    joined = Communicator.start(sys.argv[2])
    place = torch.device("cpu") if sys.argv[1] == "cpu" else device_of(joined)
    for exchange_name in SETTINGS:
        check(exchange_name, joined, place)
        check(exchange_name, joined, place)
    joined.stop()
