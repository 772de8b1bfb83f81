"""Exchanges that sum the ranks' gradients, for different hardware: `train.gradients`.

All of them sum in an order determined by the model, the batch and the number of ranks, so that equal runs give equal
bits. None outlives a ring: after another `hvd.init` the old one is closed and a new one built.
"""

from typing import Protocol
from weakref import WeakKeyDictionary

import horovod.torch as hvd
import torch
from torch import Tensor, nn

from common.errors import UsageError
from schemas.settings import Train
from training.parallel.communicator import Communicator, wait_for

TABLE_ROWS = 1024
"""Rows from which an embedding table, in the flat exchange, travels as only the rows that occur in the batch."""
PADDING = 8192
"""Multiple to which flat buffers are rounded up: Horovod negotiates a size that it has seen before much faster."""
GROUP_BYTES = 32 << 20
"""Approximate size of a group of gradients in the overlapped exchange."""


class Exchange(Protocol):
    """Exchange of gradients: `begin`, forward passes and `backward` in turn, then `sum`, by all ranks in each step.

    Between the last `backward` and `sum`, a method may change what this rank is about to send, in the parameters'
    `grad`: then every `backward` has to be called with `last=False`.
    """

    def begin(self) -> None:
        """Clear the gradients."""

    def backward(self, loss: Tensor | None, last: bool = True) -> None:
        """Add the gradients of a scalar to those of this rank; None, from a rank without rows, adds nothing.

        After the `last` of a step's passes, sending may begin at once.
        """

    def sum(self) -> None:
        """Put the sums over all ranks in every parameter's `grad`: dense, float32."""

    def close(self) -> None:
        """Remove what was attached to the model."""


_attached: WeakKeyDictionary[nn.Module, Exchange] = WeakKeyDictionary()


def build(settings: Train, model: nn.Module, communicator: Communicator, device: torch.device) -> Exchange:
    """Build the exchange named by `train.gradients`; `auto`: `flat` on CPUs, shared by ranks, `overlapped` on GPUs.

    An exchange built earlier for the model is closed. Raises UsageError if Horovod cannot send from the device.
    """
    if (earlier := _attached.pop(model, None)) is not None:
        earlier.close()
    half, name = settings.gradient_compression == "fp16", settings.gradients
    exchange: Exchange
    if name == "auto" and communicator.world.size == 1:
        exchange = Alone(model)
    elif device.type == "cuda" and not hvd.cuda_built():
        raise UsageError(
            f"this Horovod was built without CUDA and cannot sum gradients on {device}: build it where the CUDA "
            "toolkit is (HOROVOD_GPU_OPERATIONS=NCCL make setup), or train on CPUs (CUDA_VISIBLE_DEVICES=-1)"
        )
    elif name == "flat" or (name == "auto" and device.type == "cpu"):
        exchange = Flat(model, half)
    else:
        exchange = Overlapped(model, half)
    _attached[model] = exchange
    return exchange


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class Alone:
    """Exchange for a ring of one, with nothing to send."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = _trained(model)

    def begin(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def backward(self, loss: Tensor | None, last: bool = True) -> None:
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]

    def sum(self) -> None:
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def close(self) -> None:
        """Do nothing: nothing was attached."""


class Overlapped:
    """Horovod's own optimizer, used for its hooks alone: groups of gradients travel while backward still runs."""

    def __init__(self, model: nn.Module, half: bool) -> None:
        self.parameters = _trained(model)
        self.sent = False
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        total = sum(p.numel() * p.element_size() for p in self.parameters)
        self.hooks = hvd.DistributedOptimizer(
            torch.optim.SGD(self.parameters, lr=0.0),
            named_parameters=named,
            op=hvd.Sum,
            compression=hvd.Compression.fp16 if half else hvd.Compression.none,
            groups=min(len(named), -(-total // GROUP_BYTES)),
        )

    def begin(self) -> None:
        self.sent = False
        for parameter in self.parameters:
            parameter.grad = None

    def backward(self, loss: Tensor | None, last: bool = True) -> None:
        if last:
            self._send(loss)
        elif loss is not None:
            # Unlike `backward` of a tensor, this runs none of the sending hooks.
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
            for parameter, gradient in zip(self.parameters, found, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def sum(self) -> None:
        if not self.sent:
            self._send(None)
        for handle, _ in list(self.hooks._handles.values()):
            wait_for(handle)
        self.hooks.synchronize()

    def _send(self, loss: Tensor | None) -> None:
        if loss is None:
            # Every parameter needs a gradient, or its hook would not take part.
            loss = torch.stack([parameter.sum() * 0 for parameter in self.parameters]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.sent = True

    def close(self) -> None:
        # The hooks live as long as these nodes of the graph, which nothing else holds.
        self.hooks._grad_accs.clear()


class Flat:
    """Exchange by one allreduce of one buffer after backward, to which it therefore leaves all cores.

    Of a large embedding table, only the rows that occur in the global batch travel: the gradients of the others are 0
    on all ranks. A small allreduce, run during backward, finds these rows. The buffer holds the dense gradients, then
    those rows, table by table, then zeros up to a multiple of PADDING.
    """

    def __init__(self, model: nn.Module, half: bool) -> None:
        self.half = half
        self.tables = [EmbeddingTable(name, module) for name, module in _large_tables(model)]
        ids = {id(table.module.weight) for table in self.tables}
        self.dense = [p for p in _trained(model) if id(p) not in ids]
        widest = sum(p.numel() for p in self.dense) + sum(t.module.weight.numel() for t in self.tables)
        self.buffer = torch.zeros(_rounded(widest), device=next(model.parameters()).device)
        self.views = []
        self.dense_size = 0
        self.announced: int | None = None
        for parameter in self.dense:
            view = self.buffer[self.dense_size : self.dense_size + parameter.numel()]
            self.views.append(view.view_as(parameter))
            self.dense_size += parameter.numel()

    def begin(self) -> None:
        for table in self.tables:
            table.seen.clear()
            table.module.weight.grad = None
        # Not zeroed views: backward would add to them, which takes another pass over memory.
        for parameter in self.dense:
            parameter.grad = None

    def backward(self, loss: Tensor | None, last: bool = True) -> None:
        if last:
            self._announce()
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]

    def _announce(self) -> None:
        if self.tables:
            counts = torch.cat([table.occurring() for table in self.tables])
            self.announced = hvd.allreduce_async_(counts, op=hvd.Sum, name="rows")

    def sum(self) -> None:
        if self.announced is None:
            self._announce()
        announced, self.announced = self.announced, None
        local = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.dense]
        torch._foreach_copy_(self.views, local)
        used, parts = [], []
        size = self.dense_size
        if announced is not None:
            counts = _finished(announced)
            for table, of_table in zip(
                self.tables, torch.split(counts, [t.module.num_embeddings for t in self.tables]), strict=True
            ):
                rows = of_table.nonzero().squeeze(1)
                width = table.module.embedding_dim
                part = self.buffer[size : size + len(rows) * width].view(len(rows), width)
                table.collect(rows, part)
                used.append(rows)
                parts.append(part)
                size += part.numel()
        self.buffer[size : _rounded(size)].zero_()
        self._allreduce(self.buffer[: _rounded(size)])
        for parameter, view in zip(self.dense, self.views, strict=True):
            parameter.grad = view
        for table, rows, part in zip(self.tables, used, parts, strict=True):
            table.spread(rows, part)

    def _allreduce(self, buffer: Tensor) -> None:
        if self.half:
            halves = buffer.half()
            handle = hvd.allreduce_async_(halves, op=hvd.Sum, name=f"halves.{len(buffer)}")
            buffer.copy_(_finished(handle))
        else:
            _finished(hvd.allreduce_async_(buffer, op=hvd.Sum, name=f"gradients.{len(buffer)}"))

    def close(self) -> None:
        for table in self.tables:
            table.close()


class EmbeddingTable:
    """A large embedding table in the flat exchange, and its dense gradient (rows, width) from step to step."""

    def __init__(self, name: str, module: nn.Embedding) -> None:
        self.name, self.module = name, module
        self.seen: list[Tensor] = []
        self.gradient = torch.zeros_like(module.weight)
        self.filled = torch.zeros(0, dtype=torch.int64, device=module.weight.device)
        # Gradients as lists of rows, which also reveal any use of the weights other than look-ups.
        module.sparse = True
        self.hook = module.register_forward_pre_hook(self._see)

    def _see(self, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            self.seen.append(arguments[0].detach().reshape(-1))

    def occurring(self) -> Tensor:
        """Return (rows,), int32: 1 for those that this rank has looked up since `begin`."""
        marks = torch.zeros(self.module.num_embeddings, dtype=torch.int32, device=self.module.weight.device)
        for ids in self.seen:
            marks[ids.long()] = 1
        return marks

    def collect(self, rows: Tensor, part: Tensor) -> None:
        """Put this rank's gradient of some `rows` (k,), ascending, into `part` (k, width)."""
        part.zero_()
        gradient = self.module.weight.grad
        if gradient is None:
            return
        if not gradient.is_sparse:
            raise UsageError(
                f"the model uses the weights of its embedding {self.name} in other ways than by looking rows up; "
                'train.gradients = "flat" does not cover that: set train.gradients = "overlapped"'
            )
        part.index_add_(0, torch.searchsorted(rows, gradient._indices()[0]), gradient._values())

    def spread(self, rows: Tensor, part: Tensor) -> None:
        """Write `part` (k, width), the sums for `rows`, to the dense gradient; all other rows become 0."""
        self.gradient.index_fill_(0, self.filled, 0.0)
        self.gradient.index_copy_(0, rows, part)
        self.filled = rows
        self.module.weight.grad = self.gradient

    def close(self) -> None:
        self.hook.remove()
        self.module.sparse = False


def _large_tables(model: nn.Module) -> list[tuple[str, nn.Embedding]]:
    """Return embeddings with many rows whose weights belong to no other module."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and module.num_embeddings >= TABLE_ROWS
        and module.weight.requires_grad
        and owners[id(module.weight)] == 1
        and not module.scale_grad_by_freq
        and not module.sparse
    ]


def _rounded(size: int) -> int:
    return -(-size // PADDING) * PADDING


def _finished(handle: int) -> Tensor:
    wait_for(handle)
    result: Tensor = hvd.synchronize(handle)
    return result
