"""A transformer decoder over rows of token ids, for language models.

Pre-norm layers (Xiong et al. 2020) of causal multi-head self-attention (Vaswani et al. 2017) and a GELU feed-forward
part; the embedding of the tokens is also the output layer (Press and Wolf 2017). Positions are rotary (Su et al. 2021,
"RoFormer") or learned. Attention covers the whole row, also across the documents in it, as in GPT-2 (Radford et al.
2019). Letters: n rows, t tokens of a row, w width, h heads.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UsageError
from schemas.manifest import Column
from schemas.models.transformer_decoder import TransformerDecoder as Settings
from training.models.transformer_classifier import AttentionLayer

ROTARY_BASE = 10_000.0
Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the angles of t places, (t, w / 2h) each."""
Past = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer for the tokens so far: (n, h, t, w / h) each."""


def build(settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the decoder; see `training.models.build`.

    Raises UsageError unless there is one feature of token ids and one head of as many logits.
    """
    feature = features[0]
    if len(features) != 1 or feature.vocabulary is None or list(outputs.values()) != [feature.vocabulary]:
        raise UsageError(
            f"model.kind = {settings.kind!r} predicts the tokens of one feature: it needs a [[feature]] with encode = "
            '"packed_tokens" alone, and objective.kind = "next_token"'
        )
    return Decoder(settings, feature.name, feature.vocabulary, feature.shape[0], next(iter(outputs)))


class TiedEmbedding(nn.Module):
    """Embedding of tokens, which also turns hidden states into logits.

    No `nn.Embedding`: its gradient has all rows, and is not to travel as those of the tokens that occur.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, width))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, t) ids to (n, t, w)."""
        return functional.embedding(tokens, self.weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """Map (…, w) to (…, vocabulary)."""
        return functional.linear(hidden, self.weight)


class Decoder(nn.Module):
    """Decoder from token ids to the logits of the token that follows each."""

    def __init__(self, settings: Settings, name: str, vocabulary: int, length: int, head: str) -> None:
        super().__init__()
        self.name, self.head, self.length = name, head, length
        self.tokens = TiedEmbedding(vocabulary, settings.width)
        self.positions = nn.Embedding(length, settings.width) if settings.positions == "learned" else None
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=0.02)
        self.dropout = nn.Dropout(settings.dropout)
        self.pairs = settings.width // settings.heads // 2
        self.layers = nn.ModuleList(CausalLayer(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map (n, t) ids to (n, t, vocabulary) float32."""
        hidden, _ = self._hidden(features[self.name], None)
        return {self.head: self.tokens.logits(hidden)}

    def extend(self, tokens: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Return the logits (n, vocabulary) after (n, t) further ids, and the past with them.

        The past and these have at most `length` tokens, and t is 1 where there is a past.
        """
        hidden, past = self._hidden(tokens, past)
        return self.tokens.logits(hidden[:, -1]), past

    def _hidden(self, tokens: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        before = 0 if past is None else past[0][0].shape[2]
        places = torch.arange(before, before + tokens.shape[1], device=tokens.device)
        hidden = self.tokens(tokens)
        angles = None
        if self.positions is None:
            angles = rotation(places, self.pairs)
        else:
            hidden = hidden + self.positions(places)
        hidden, found = self.dropout(hidden), []
        for number, layer in enumerate(self.layers):
            hidden, held = layer(hidden, angles, None if past is None else past[number])
            found.append(held)
        return self.norm(hidden), found


def layers(model: Decoder) -> list[nn.Module]:
    """Return all layers."""
    return list(model.layers)


class CausalLayer(AttentionLayer):
    """Layer over whole rows, of which each token attends to those before it."""

    def forward(
        self, hidden: Tensor, angles: Rotation | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return (n, t, w), and keys and values of the past with these tokens'."""
        rows, count, width = hidden.shape
        three = self.projections(self.attention_norm(hidden)).view(rows, count, 3, self.heads, -1)
        query, key, value = three.permute(2, 0, 3, 1, 4)
        if angles is not None:
            query, key = turned(query, angles), turned(key, angles)
        if past is not None:
            key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        hidden = hidden + self.dropout(
            self.attention_output(mixed.transpose(1, 2).reshape(rows, count, width))
        )
        return self.fed_forward(hidden), (key, value)


def rotation(places: Tensor, pairs: int) -> Rotation:
    """Return cosines and sines, (t, pairs) each, of the angles of t places, one of a speed a pair."""
    speeds = ROTARY_BASE ** (-torch.arange(pairs, device=places.device) / pairs)
    angles = places[:, None] * speeds
    return angles.cos(), angles.sin()


def turned(values: Tensor, angles: Rotation) -> Tensor:
    """Turn the pairs (i, i + d/2) of (n, h, t, d) by the angles of their t places.

    The pairs are the halves of a head, as in GPT-NeoX; the paper's are neighbours, which is the same model.
    """
    cosine, sine = angles
    first, second = values.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
