"""Cases to measure: those of the table, and those that show the gain of each tuning."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Case:
    """Way of training: `ranks` processes on one torch thread each."""

    kind: Literal["local", "product", "stock", "ddp", "barrier"]
    """`local`: plain PyTorch without any exchange; `barrier`: the same, but the ranks wait for each other after
    backward; `product`: `training.methods.plain`; `stock`: `hvd.DistributedOptimizer`; `ddp`: PyTorch's
    `DistributedDataParallel` over gloo."""
    ranks: int = 2
    half: bool = False
    """Send gradients as float16."""
    even: bool = True
    """Give all ranks equally many tokens; otherwise rows as drawn."""
    cycle: str | None = None
    """HOROVOD_CYCLE_TIME, milliseconds; None: the product's default, or Horovod's own for `stock`."""
    threads: Literal["product", "normal", "batch", "idle"] = "product"
    """Scheduling of Horovod's threads; `normal`: Horovod's own."""
    tables: bool = True
    """`product`: send only the rows of embedding tables that occur."""
    gradients: Literal["auto", "overlapped"] = "auto"
    fused_adamw: bool = True
    groups: int | None = None
    """`stock`: groups of gradients."""
    environment: dict[str, str] = field(default_factory=dict)


CEILING = "ceiling"
CASES = {
    CEILING: Case("local"),
    "horovod": Case("product"),
    "ddp": Case("ddp"),
    "stock": Case("stock"),
    "horovod_fp16": Case("product", half=True),
    "ddp_fp16": Case("ddp", half=True),
    "stock_fp16": Case("stock", half=True),
    "one": Case("local", ranks=1),
    "horovod_uneven": Case("product", even=False),
    "ddp_uneven": Case("ddp", even=False),
}
TUNING = {
    CEILING: Case("local"),
    "as shipped": Case("product"),
    "only waiting for each other": Case("barrier"),
    "all rows of the tables": Case("product", tables=False),
    "threads at normal priority": Case("product", threads="normal"),
    "threads when idle only": Case("product", threads="idle"),
    "cycle 1 ms": Case("product", cycle="1"),
    "cycle 5 ms": Case("product", cycle="5"),
    "hooks, one group": Case("product", gradients="overlapped"),
    "AdamW not fused": Case("product", fused_adamw=False),
    "stock": Case("stock"),
    "stock, cycle 5 ms": Case("stock", cycle="5"),
    "stock, one group": Case("stock", groups=1),
    "stock, no fusion": Case("stock", environment={"HOROVOD_FUSION_THRESHOLD": "0"}),
}
