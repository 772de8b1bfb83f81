"""Scaling that a network allows, from the ring's lower bound: `python -m benchmarks.scaling.projection`.

Ring-allreduce (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations") sends
2 (n - 1) / n · S bytes a rank in 2 (n - 1) steps, and no allreduce of S bytes sends less.
"""

from dataclasses import dataclass

PARAMETERS = 110_000_000
TOKENS = 32 * 128
"""Tokens of a rank and step."""
SUSTAINED = 50e12
"""Floating-point operations/s of a rank, for 6 · parameters · tokens operations a step."""
BACKWARD = 2 / 3
"""Share of a step's computation during which gradients can be sent."""
LATENCY = 10e-6
"""Seconds of each step of the ring."""


def ring_seconds(size: float, ranks: int, bandwidth: float, latency: float = 0.0) -> float:
    """Return the least seconds for `size` bytes over `ranks` with `bandwidth` bytes/s each way; 0 for one rank."""
    return 2 * (ranks - 1) / ranks * size / bandwidth + 2 * (ranks - 1) * latency


def step_seconds() -> float:
    """Return the seconds of a step's computation alone."""
    return 6 * PARAMETERS * TOKENS / SUSTAINED


@dataclass(frozen=True)
class Projection:
    """Cluster of `ranks`, each with a network port of its own."""

    ranks: int
    gigabits: float
    element_bytes: int

    @property
    def exchange(self) -> float:
        """Seconds in a step that gradients are being sent."""
        return ring_seconds(PARAMETERS * self.element_bytes, self.ranks, self.gigabits * 1e9 / 8, LATENCY)

    @property
    def flat(self) -> float:
        """Share of the ideal rate when the exchange follows backward."""
        return step_seconds() / (step_seconds() + self.exchange)

    @property
    def overlapped(self) -> float:
        """Share of the ideal rate when all of backward hides the exchange: an upper bound."""
        return step_seconds() / (step_seconds() + max(0.0, self.exchange - BACKWARD * step_seconds()))


def markdown() -> str:
    """Return the table of docs/scaling.md."""
    lines = [
        "| ranks | network, Gb/s | gradients | exchange, ms | flat | overlapped, at best |",
        "|---|---|---|---|---|---|",
    ]
    for gigabits in (25, 100):
        for element_bytes, name in ((4, "fp32"), (2, "fp16")):
            for ranks in (8, 64, 512):
                one = Projection(ranks, gigabits, element_bytes)
                lines.append(
                    f"| {ranks} | {gigabits} | {name} | {1e3 * one.exchange:,.0f} | {one.flat:.2f} | "
                    f"{one.overlapped:.2f} |"
                )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(f"a step computes for {1e3 * step_seconds():.0f} ms\n\n{markdown()}", end="")
