"""A transformer encoder over token ids with linear heads on the pooled tokens.

Pre-norm layers (Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture") of multi-head
self-attention (Vaswani et al. 2017) and a GELU feed-forward part, with learned position embeddings.

Everything but attention works on packed tokens, without padding, because short texts would otherwise cost as much as
long ones; attention works on groups of rows of similar length. Letters: n rows, t tokens of the longest row, m tokens
of all rows without padding, w width; n' and t' are those of a group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UsageError
from schemas.manifest import Column
from schemas.models.transformer_classifier import TransformerClassifier as Settings
from schemas.models.transformer_decoder import TransformerDecoder
from training.models import by_head

PADDING = 0
BODY = "encoders.0."
"""Beginning of the names of the tensors that another kind of model can start from: of the first feature alone."""
HEADS = "output."
"""Beginning of the names of the tensors above the body."""


def build(settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the classifier; see `training.models.build`. Raises UsageError for features that are not token ids."""
    for feature in features:
        if feature.vocabulary is None or len(feature.shape) != 1:
            raise UsageError(
                f"the feature {feature.name!r} does not consist of token ids, "
                f"which model.kind = {settings.kind!r} needs"
            )
    return Classifier(settings, features, outputs)


class Classifier(nn.Module):
    """One encoder per feature, their pooled outputs concatenated, and a linear layer over them."""

    def __init__(self, settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.names = [feature.name for feature in features]
        self.encoders = nn.ModuleList(
            TextEncoder(settings, feature.vocabulary or 0, feature.shape[0]) for feature in features
        )
        pooled = settings.width * (2 if settings.pooling == "mean_max" else 1) * len(self.names)
        self.dropout = nn.Dropout(settings.dropout)
        self.heads = dict(outputs)
        self.output = nn.Linear(pooled, sum(self.heads.values()))

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map token ids by feature, (n, length) integers with 0 as right padding, to (n, size) float32 by head."""
        pooled = [encoder(features[name]) for name, encoder in zip(self.names, self.encoders, strict=True)]
        return by_head(self.output(self.dropout(torch.cat(pooled, dim=1))), self.heads)


def layers(model: Classifier) -> list[nn.Module]:
    """Return the layers of all encoders."""
    return [layer for encoder in model.encoders for layer in encoder.layers]  # type: ignore[union-attr]


GROUPS = 4
"""Groups of rows of similar length for attention on a CPU, each padded to its own longest row."""


@dataclass(frozen=True)
class LengthGroup:
    """Rows of similar length, which attention sees as one rectangle (n', t'); `first` and `last` slice the m tokens."""

    first: int
    last: int
    mask: Tensor
    """(n', t'), bool: True for tokens."""
    places: Tensor
    """(last - first,), int64: places of the tokens in the flattened rectangle."""

    def pad(self, packed: Tensor) -> Tensor:
        """Return this group's part of (m, w) as (n', t', w), with zeros for padding."""
        # In place: otherwise the zeros would be copied once more.
        padded = packed.new_zeros(self.mask.numel(), packed.shape[1])
        padded.index_copy_(0, self.places, packed[self.first : self.last])
        return padded.view(*self.mask.shape, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """Map (n', t', w) to (last - first, w)."""
        return padded.reshape(self.mask.numel(), -1).index_select(0, self.places)


@dataclass(frozen=True)
class Packing:
    """The m tokens of a batch without their padding, row by row, shortest row first."""

    ids: Tensor
    """(m,): token ids."""
    positions: Tensor
    """(m,), int64: position of each token in its row."""
    groups: tuple[LengthGroup, ...]
    rows: Tensor
    """(n,), int64: place of each row of the batch among the sorted ones."""

    @classmethod
    def of(cls, tokens: Tensor) -> "Packing":
        """Pack (n, length) ids. A row of padding alone counts as one token: attention needs at least one."""
        mask = tokens != PADDING
        mask[:, 0] = True
        lengths = (mask * torch.arange(1, tokens.shape[1] + 1, device=tokens.device)).amax(dim=1)
        lengths, order = lengths.sort(stable=True)
        tokens, mask, longest = tokens[order], mask[order], lengths.tolist()
        size = len(tokens) if tokens.is_cuda else -(-len(tokens) // GROUPS)
        groups, ids, positions, first = [], [], [], 0
        for begin in range(0, len(tokens), size):
            end = min(begin + size, len(tokens))
            width = longest[end - 1]
            part = mask[begin:end, :width]
            places = part.reshape(-1).nonzero().squeeze(1)
            groups.append(LengthGroup(first, first + len(places), part, places))
            ids.append(tokens[begin:end, :width].reshape(-1).index_select(0, places))
            positions.append(places % width)
            first += len(places)
        return cls(torch.cat(ids), torch.cat(positions), tuple(groups), order.argsort())


class TextEncoder(nn.Module):
    """Encoder from token ids (n, length) to pooled (n, w), or (n, 2 w) for `mean_max`."""

    def __init__(self, settings: Settings, vocabulary: int, length: int) -> None:
        super().__init__()
        self.pooling = settings.pooling
        self.tokens = nn.Embedding(vocabulary, settings.width)
        self.positions = nn.Embedding(length, settings.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, tokens: Tensor) -> Tensor:
        packing = Packing.of(tokens)
        hidden = self.dropout(self.tokens(packing.ids) + self.positions(packing.positions))
        for layer in self.layers:
            hidden = layer(hidden, packing)
        hidden = self.norm(hidden)
        pooled = [self._pool(group.pad(hidden), group.mask) for group in packing.groups]
        return torch.cat(pooled).index_select(0, packing.rows)

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        pooled = []
        if self.pooling in ("mean", "mean_max"):
            pooled.append(hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True))
        if self.pooling in ("max", "mean_max"):
            pooled.append(hidden.masked_fill(~mask.unsqueeze(2), -torch.inf).amax(dim=1))
        return torch.cat(pooled, dim=1)


class AttentionLayer(nn.Module):
    """Parts of a layer of self-attention and a feed-forward part, each with a norm before and a residual around it."""

    def __init__(self, settings: Settings | TransformerDecoder) -> None:
        super().__init__()
        width, inner = settings.width, settings.feed_forward or 4 * settings.width
        self.heads = settings.heads
        self.attention_norm = nn.LayerNorm(width)
        self.projections = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)
        self.dropout = nn.Dropout(settings.dropout)

    def fed_forward(self, hidden: Tensor) -> Tensor:
        """Apply the feed-forward part: (…, w) → (…, w)."""
        inner = functional.gelu(self.expand(self.feed_forward_norm(hidden)))
        result: Tensor = hidden + self.dropout(self.contract(inner))
        return result


class Layer(AttentionLayer):
    """Layer over packed tokens, which attend to all tokens of their row: (m, w) → (m, w)."""

    def forward(self, hidden: Tensor, packing: Packing) -> Tensor:
        hidden = hidden + self.dropout(self._attend(self.attention_norm(hidden), packing))
        return self.fed_forward(hidden)

    def _attend(self, hidden: Tensor, packing: Packing) -> Tensor:
        output: Tensor = self.attention_output(attention(self.projections(hidden), packing, self.heads))
        return output


def attention(projected: Tensor, packing: Packing, heads: int) -> Tensor:
    """Mix the values of each row's tokens: (m, 3 w), queries, keys and values side by side, → (m, w)."""
    attended = []
    for group in packing.groups:
        rows, width = group.mask.shape
        # (n', t', 3 w) → three of (n', heads, t', w / heads)
        three = group.pad(projected).view(rows, width, 3, heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            three[0], three[1], three[2], attn_mask=group.mask[:, None, None, :]
        )
        attended.append(group.pack(mixed.transpose(1, 2).reshape(rows, width, -1)))
    return torch.cat(attended)
