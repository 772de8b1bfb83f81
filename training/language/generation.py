"""Continuations by a model: token after token, the likeliest or drawn from its probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Extending(Protocol):
    """Model that keeps what it computed for the tokens before, so that each further one costs one token."""

    def extend(self, tokens: Tensor, past: Any) -> tuple[Tensor, Any]:
        """Return the logits (n, vocabulary) after (n, t) further ids, and the past with them."""


@dataclass(frozen=True)
class Sampling:
    """Choice of the next token: a temperature of 0 takes the likeliest."""

    temperature: float = 0.0
    top_k: int | None = None
    """Draw from this many of the likeliest tokens alone."""
    seed: int = 0

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def chosen(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """Return one id for each row of logits (n, vocabulary): (n,) int64."""
        if not self.temperature:
            return logits.argmax(dim=1)
        if self.top_k is not None:
            least = logits.topk(min(self.top_k, logits.shape[1]), dim=1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        chances = torch.softmax(logits.double() / self.temperature, dim=1)
        return torch.multinomial(chances, 1, generator=generator).squeeze(1)


@dataclass(frozen=True)
class Names:
    """Feature, head and length of a language model's rows."""

    feature: str
    head: str
    length: int
    """Most tokens that the model sees at once."""
    separator: int


@torch.no_grad()
def continued(
    model: nn.Module, names: Names, prompts: Sequence[Sequence[int]], most: int, sampling: Sampling
) -> list[list[int]]:
    """Continue prompts of equal length by up to `most` tokens each, until the separator.

    A separator stands before each, as before a row. Where a text outgrows the model's rows, it goes on from the second
    half of what it saw last. Padding is never chosen.
    """
    model.eval()
    seen = torch.tensor([[names.separator, *prompt] for prompt in prompts], dtype=torch.int64)
    start, generator = seen.shape[1], sampling.generator()
    past: Any = None
    fresh = seen[:, -names.length :]
    for _ in range(most):
        if isinstance(model, Extending):
            logits, past = model.extend(fresh, past)
        else:
            logits = model({names.feature: fresh})[names.head][:, -1]
        logits = logits.float()
        logits[:, 0] = -torch.inf
        seen = torch.cat((seen, sampling.chosen(logits, generator)[:, None]), dim=1)
        if bool((seen[:, start:] == names.separator).any(dim=1).all()):
            break
        held = fresh.shape[1] if past is None else past_tokens(past)
        if held >= names.length:
            past, fresh = None, seen[:, -max(1, names.length // 2) :]
        elif past is None:
            fresh = seen[:, -(held + 1) :]
        else:
            fresh = seen[:, -1:]
    return [_until(row, names.separator) for row in seen[:, start:].tolist()]


def past_tokens(past: Any) -> int:
    """Return the tokens that a past holds: keys of the first layer, (n, heads, tokens, size)."""
    return int(past[0][0].shape[2])


def _until(tokens: list[int], separator: int) -> list[int]:
    return tokens[: tokens.index(separator)] if separator in tokens else tokens
