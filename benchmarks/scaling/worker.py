"""Process of a case: trains a number of steps on each request, and reports how long they took."""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Client
from threading import Thread
from typing import Any

import horovod.torch as hvd
import torch
from torch import distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from benchmarks.scaling.cases import Case
from benchmarks.scaling.workload import CLASSES, Workload
from schemas.methods.plain import Plain
from schemas.optimizers.adamw import AdamW
from schemas.settings import Train
from training import methods
from training.input.batch_loader import LocalBatch
from training.objectives.classification import Classification
from training.optimizers import build as build_optimizer
from training.parallel import gradients
from training.parallel.communicator import Communicator, make_deterministic
from training.parallel.horovod_backend import HorovodBackend

Step = Callable[[LocalBatch, int], Any]
OPTIMIZER = AdamW()
CLIP = 1.0


class Classes(Classification):
    """Objective without a data set: all classes weigh the same."""

    def __init__(self) -> None:
        self.class_weights, self.weighted = None, False
        self.portions = {"train": torch.ones(CLASSES)}


def start_communicator(case: Case) -> Communicator:
    """Start the communicator as the product does, or with Horovod's threads scheduled as the case says."""
    if case.threads == "product":
        return Communicator.start()
    policy = {"normal": os.SCHED_OTHER, "batch": os.SCHED_BATCH, "idle": os.SCHED_IDLE}[case.threads]

    def start() -> None:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        hvd.init()

    thread = Thread(target=start)
    thread.start()
    thread.join()
    return Communicator(HorovodBackend())


def product_step(case: Case, model: nn.Module) -> Step:
    """Return the step of `training.methods.plain`, with its defaults except where the case changes them."""
    if not case.tables:
        gradients.TABLE_ROWS = 1 << 62
    communicator = start_communicator(case)
    settings = Train(
        clip_norm=CLIP, gradients=case.gradients, gradient_compression="fp16" if case.half else "none"
    )
    device = torch.device("cpu")
    method = methods.build(
        methods.MethodContext(model, Classes(), Plain(), OPTIMIZER, settings, communicator, device, 1 << 30)
    )
    method.broadcast()
    if not case.fused_adamw:
        for group in method.optimizer.param_groups:  # type: ignore[attr-defined]
            group["fused"] = False
    return method.step


def common_step(
    model: nn.Module,
    optimizer: Any,
    rows: Callable[[LocalBatch], int],
    meet: Callable[[], None] = lambda: None,
) -> Step:
    """Return the same computation in plain PyTorch; the loss is divided by `rows`; `meet` follows backward."""
    parameters = list(model.parameters())

    def step(batch: LocalBatch, number: int) -> None:
        torch.manual_seed(number)
        model.train()
        optimizer.zero_grad()
        assert batch.labels is not None
        loss = functional.cross_entropy(model(batch.features)["logits"], batch.labels, reduction="sum")
        (loss / rows(batch)).backward()  # type: ignore[no-untyped-call]
        meet()
        if hasattr(optimizer, "synchronize"):
            optimizer.synchronize()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        if hasattr(optimizer, "skip_synchronize"):
            with optimizer.skip_synchronize():
                optimizer.step()
        else:
            optimizer.step()

    return step


def stock_step(case: Case, model: nn.Module) -> Step:
    """Return Horovod's step as documented, which averages over the ranks."""
    hvd.init()
    optimizer = hvd.DistributedOptimizer(
        build_optimizer(model, OPTIMIZER),
        named_parameters=model.named_parameters(),
        compression=hvd.Compression.fp16 if case.half else hvd.Compression.none,
        groups=case.groups,
    )
    return common_step(model, optimizer, lambda batch: batch.rows)


def barrier_step(case: Case, model: nn.Module) -> Step:
    """Return an exchange of a single number: the loss from waiting for each other, whatever is sent."""
    communicator = start_communicator(case)

    def meet() -> None:
        communicator.sum_floats([0.0])

    return common_step(model, build_optimizer(model, OPTIMIZER), lambda batch: batch.rows, meet)


def ddp_step(case: Case, model: nn.Module, rank: int, store: str) -> Step:
    """Return the step of PyTorch's own data parallelism, which averages too."""
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=case.ranks)
    wrapped = DistributedDataParallel(model)
    if case.half:
        wrapped.register_comm_hook(None, default_hooks.fp16_compress_hook)
    return common_step(wrapped, build_optimizer(model, OPTIMIZER), lambda batch: batch.rows)


def main() -> None:
    """Connect to the harness, and follow its requests until it sends None."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", required=True, help="the fields of a Case, as JSON")
    parser.add_argument("--model", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--rank", type=int, default=int(os.environ.get("HOROVOD_RANK", "0")))
    arguments = parser.parse_args()
    case = Case(**json.loads(arguments.case))
    make_deterministic(1)
    workload = Workload(arguments.model, arguments.rank, case.even)
    model = workload.build()
    batches = workload.batches(case.ranks)
    if case.kind == "product":
        step = product_step(case, model)
    elif case.kind == "barrier":
        step = barrier_step(case, model)
    elif case.kind == "stock":
        step = stock_step(case, model)
    elif case.kind == "ddp":
        step = ddp_step(case, model, arguments.rank, arguments.store)
    else:
        step = common_step(model, build_optimizer(model, OPTIMIZER), lambda batch: batch.rows)
    done = 0
    with Client(arguments.address) as harness:
        harness.send((arguments.rank, os.getpid()))
        while (steps := harness.recv()) is not None:
            began = time.perf_counter(), time.thread_time(), time.process_time()
            for number in range(done, done + steps):
                step(batches[number % len(batches)], number)
            ended = time.perf_counter(), time.thread_time(), time.process_time()
            done += steps
            harness.send([end - begin for begin, end in zip(began, ended, strict=True)])


def arguments_of(case: Case, model: str, address: str, store: str) -> list[str]:
    """Return the command line of a worker, except its rank."""
    fields = json.dumps(dataclasses.asdict(case))
    return ["--case", fields, "--model", model, "--address", address, "--store", store]


if __name__ == "__main__":
    main()
