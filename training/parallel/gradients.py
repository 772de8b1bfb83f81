"""Exchanges that sum the ranks' gradients, for different hardware: `train.gradients`.

All of them sum in an order determined by the model, the batch and the number of ranks, so that equal runs give equal
bits. None outlives a ring: in another ring the old one is closed and a new one built.
"""

from collections.abc import Callable, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from common.errors import UsageError
from schemas.settings import Train
from training.parallel.adasum import Adasum
from training.parallel.communicator import Communicator

TABLE_ROWS = 1024
"""Rows from which an embedding table, in the flat exchange, travels as only the rows that occur in the batch."""
PADDING = 8192
"""Multiple to which flat buffers are rounded up: Horovod negotiates a size that it has seen before much faster."""
GROUP_BYTES = 32 << 20
"""Size from which a group of gradients in the overlapped exchange is sent."""


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

    An exchange built earlier for the model is closed. Raises UsageError if the ranks cannot send from the device.
    """
    if (earlier := _attached.pop(model, None)) is not None:
        earlier.close()
    half, name = settings.gradient_compression == "fp16", settings.gradients
    exchange: Exchange
    if name == "auto" and communicator.world.size == 1:
        exchange = Alone(model)
    elif device.type == "cuda" and not communicator.backend.sends_from_gpus:
        raise UsageError(
            f"this Horovod was built without CUDA and cannot sum gradients on {device}: build it where the CUDA "
            "toolkit is (HOROVOD_GPU_OPERATIONS=NCCL make setup), or train on CPUs (CUDA_VISIBLE_DEVICES=-1)"
        )
    elif settings.reduction == "adasum":
        exchange = Adasum(model, communicator)
    elif name == "flat" or (name == "auto" and device.type == "cpu"):
        exchange = Flat(model, communicator, half)
    else:
        exchange = Overlapped(model, communicator, half)
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
    """Exchange of groups of gradients that travel while backward still runs, the last layers' first.

    Groups are fixed and sent in their order, whichever is complete first, so that all ranks sum alike.
    """

    def __init__(self, model: nn.Module, communicator: Communicator, half: bool) -> None:
        self.parameters = _trained(model)
        self.groups = [
            Group(members, f"group {number}", communicator, half)
            for number, members in enumerate(_grouped(self.parameters[::-1]))
        ]
        self.group_of = {parameter: group for group in self.groups for parameter in group.parameters}
        self.sent = 0
        """Groups on their way."""
        self.sends = False
        self.hooks = [
            p.register_post_accumulate_grad_hook(self._accumulated)  # type: ignore[no-untyped-call]
            for p in self.parameters
        ]

    def begin(self) -> None:
        self.sent = 0
        for group in self.groups:
            group.missing = set(group.parameters)
        for parameter in self.parameters:
            parameter.grad = None

    def backward(self, loss: Tensor | None, last: bool = True) -> None:
        self.sends = last
        if loss is not None:
            loss.backward()  # type: ignore[no-untyped-call]
        if last:
            self._send_all()

    def _accumulated(self, parameter: nn.Parameter) -> None:
        if self.sends:
            self.group_of[parameter].missing.discard(parameter)
            while self.sent < len(self.groups) and not self.groups[self.sent].missing:
                self._send_next()

    def _send_next(self) -> None:
        self.groups[self.sent].send()
        self.sent += 1

    def _send_all(self) -> None:
        """Send all other groups: a parameter that the loss does not depend on is never accumulated."""
        self.sends = False
        while self.sent < len(self.groups):
            self._send_next()

    def sum(self) -> None:
        self._send_all()
        for group in self.groups:
            group.receive()

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


class Group:
    """Parameters of the overlapped exchange whose gradients travel in one buffer."""

    def __init__(
        self, parameters: list[nn.Parameter], name: str, communicator: Communicator, half: bool
    ) -> None:
        self.parameters, self.name, self.communicator, self.half = parameters, name, communicator, half
        self.missing: set[nn.Parameter] = set()
        """Parameters whose gradient of this step is not complete."""
        self.buffer = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        self.views = views_of(self.buffer, parameters)
        self.answer: Callable[[], Tensor] | None = None

    def send(self) -> None:
        """Begin to sum the gradients."""
        torch._foreach_copy_(self.views, _local(self.parameters))
        self.answer = _begin_sum(self.communicator, self.buffer, self.half, self.name)

    def receive(self) -> None:
        """Wait for the sums and put them into every parameter's `grad`."""
        assert self.answer is not None
        self.answer()
        self.answer = None
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view


class Flat:
    """Exchange by one allreduce of one buffer after backward, to which it therefore leaves all cores.

    Of a large embedding table, only the rows that occur in the global batch travel: the gradients of the others are 0
    on all ranks. A small allreduce, run during backward, finds these rows. The buffer holds the dense gradients, then
    those rows, table by table, then zeros up to a multiple of PADDING.
    """

    def __init__(self, model: nn.Module, communicator: Communicator, half: bool) -> None:
        self.communicator, self.half = communicator, half
        self.tables = [EmbeddingTable(name, module) for name, module in large_tables(model)]
        ids = {id(table.module.weight) for table in self.tables}
        self.dense = [p for p in _trained(model) if id(p) not in ids]
        widest = sum(p.numel() for p in self.dense) + sum(t.module.weight.numel() for t in self.tables)
        self.buffer = torch.zeros(_rounded(widest), device=next(model.parameters()).device)
        self.views = views_of(self.buffer, self.dense)
        self.dense_size = sum(p.numel() for p in self.dense)
        self.announced: Callable[[], Tensor] | None = None

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
            self.announced = self.communicator.begin_sum(counts, "rows")

    def sum(self) -> None:
        if self.announced is None:
            self._announce()
        announced, self.announced = self.announced, None
        torch._foreach_copy_(self.views, _local(self.dense))
        used, parts = [], []
        size = self.dense_size
        if announced is not None:
            counts = announced()
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
        kind = "halves" if self.half else "gradients"
        _begin_sum(self.communicator, self.buffer[: _rounded(size)], self.half, f"{kind}.{_rounded(size)}")()
        for parameter, view in zip(self.dense, self.views, strict=True):
            parameter.grad = view
        for table, rows, part in zip(self.tables, used, parts, strict=True):
            table.spread(rows, part)

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


def large_tables(model: nn.Module) -> list[tuple[str, nn.Embedding]]:
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


def _begin_sum(communicator: Communicator, buffer: Tensor, half: bool, name: str) -> Callable[[], Tensor]:
    """Begin to sum a buffer in place, in half precision or its own; the function returned waits."""
    if not half:
        return communicator.begin_sum(buffer, name)
    halves = communicator.begin_sum(buffer.half(), name)
    return lambda: buffer.copy_(halves())


def _grouped(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return groups of GROUP_BYTES or a little more, in order."""
    groups: list[list[nn.Parameter]] = [[]]
    size = 0
    for parameter in parameters:
        if size >= GROUP_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(parameter)
        size += parameter.numel() * parameter.element_size()
    return groups


def views_of(buffer: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of a flat buffer for the gradients of parameters, one after another, in their shapes."""
    sizes = [parameter.numel() for parameter in parameters]
    parts = torch.split(buffer[: sum(sizes)], sizes)
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def _local(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
