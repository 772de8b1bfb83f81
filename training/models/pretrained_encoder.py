"""A BERT-like encoder in the Hugging Face layout, with linear heads on the pooled tokens.

Post-norm layers of self-attention (Vaswani et al. 2017) over the sum of the embeddings of tokens, positions and token
types, as in BERT (Devlin et al. 2019); the mean of all tokens as in Sentence-BERT (Reimers and Gurevych 2019). The
special tokens around a text are added here, since the shards hold the tokens of the text alone. Below `body.`,
parameters have the names that they have in the published files.

Everything but attention works on packed tokens, as in `transformer_classifier`, whose letters apply.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

import torch
from pydantic import ValidationError
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from common import storage
from common.errors import DataError, UsageError
from common.storage import Storage
from schemas.manifest import Column
from schemas.models.pretrained_encoder import Architecture
from schemas.models.pretrained_encoder import PretrainedEncoder as Settings
from training.models import by_head
from training.models.transformer_classifier import PADDING, Packing, attention

BODY = "body."
"""Beginning of the names of the tensors that another kind of model can start from."""
HEADS = "output."
"""Beginning of the names of the tensors above the body."""
DEVIATION = 0.02
"""Of random weights."""
KEYS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
    "epsilon": "layer_norm_eps",
    "activation": "hidden_act",
}
"""Names in config.json."""
ONLY = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "quantization_config": None,
}
"""Keys of config.json that make another model of the same tensors; all but the first may be left out."""


def resolve(settings: Settings, options: Storage | None = None) -> Settings:
    """Return the settings with the architecture of the folder.

    Raises DataError for a missing or unreadable file, UsageError for an encoder of another kind.
    """
    return settings.model_copy(update={"architecture": read_architecture(settings.folder, options)})


def read_architecture(folder: str, options: Storage | None = None) -> Architecture:
    """Return the architecture that `config.json` and `tokenizer.json` describe; raises as `resolve` does."""
    place = storage.join(folder, "config.json")
    try:
        found = json.loads(storage.read_bytes(place, options))
    except ValueError as error:
        raise DataError(f"{place} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{place} is no table of keys: put the config.json of the encoder there")
    for key, value in ONLY.items():
        if found.get(key, None if key == "model_type" else value) != value:
            raise UsageError(
                f"model.folder: {place} has {key} = {json.dumps(found.get(key))}; "
                f'model.kind = "pretrained_encoder" reads encoders with {json.dumps(value)} there alone'
            )
    tokenizer = storage.read_bytes(storage.join(folder, "tokenizer.json"), options)
    before, after = special_tokens(tokenizer, storage.join(folder, "tokenizer.json"))
    values = {ours: found[theirs] for ours, theirs in KEYS.items() if theirs in found}
    sha256 = hashlib.sha256(tokenizer).hexdigest()
    try:
        shape = Architecture.model_validate({**values, "before": before, "after": after, "tokenizer": sha256})
    except ValidationError as error:
        wrong = [KEYS[str(one["loc"][0])] for one in error.errors()]
        told = ", ".join(f"{key} = {found[key]!r}" if key in found else f"no {key}" for key in wrong)
        raise UsageError(
            f"model.folder: {place} has {told}: an encoder is read that has all of {', '.join(KEYS.values())}, with "
            'hidden_act = "gelu" or "relu"'
        ) from error
    if shape.width % shape.heads:
        raise UsageError(f"model.folder: {place} has {shape.heads} heads, which do not divide {shape.width}")
    return shape


def special_tokens(content: bytes, place: str) -> tuple[list[int], list[int]]:
    """Return the ids that a `tokenizer.json` puts before and behind a text, such as those of [CLS] and [SEP]."""
    try:
        tokenizer = Tokenizer.from_str(content.decode())
        tokenizer.no_padding()
        found = tokenizer.encode("a")
    except Exception as error:  # the library raises bare Exception for anything that it cannot parse
        if type(error) is not Exception and not isinstance(error, ValueError):
            raise
        raise DataError(f"{place} is not a tokenizer.json of the tokenizers library: {error}") from error
    if 0 not in found.special_tokens_mask:
        raise DataError(f"{place} makes no token of a letter, not even one for what is unknown: give another")
    begin = found.special_tokens_mask.index(0)
    end = len(found.ids) - found.special_tokens_mask[::-1].index(0)
    return found.ids[:begin], found.ids[end:]


def build(settings: Settings, features: Sequence[Column], outputs: Mapping[str, int]) -> nn.Module:
    """Build the encoder with random weights; see `training.models.build`.

    Raises UsageError for features of other tokens than the encoder's, or too long for it; see also `resolve`.
    """
    shape = settings.architecture or read_architecture(settings.folder)
    if settings.pooling == "cls" and not shape.before:
        raise UsageError(
            f'model.pooling = "cls" takes the special token before a text, and the tokenizer in {settings.folder} puts '
            'none there: take "mean"'
        )
    longest = shape.positions - len(shape.before) - len(shape.after)
    for feature in features:
        tokenizer = feature.artifacts.get("tokenizer")
        if tokenizer != shape.tokenizer:
            raise UsageError(
                f"the token ids of the feature {feature.name!r} are those of the tokenizer "
                f"{f'{tokenizer[:16]}…' if tokenizer else 'none'}, those of the encoder in {settings.folder} of "
                f"{shape.tokenizer[:16]}…: they would mean other words. Publish the data set with feature.tokenizer = "
                f'"{settings.folder}/tokenizer.json"'
            )
        if (feature.vocabulary or 0) > shape.vocabulary:
            raise UsageError(
                f"the feature {feature.name!r} has {feature.vocabulary:,} tokens, the encoder in {settings.folder} "
                f"{shape.vocabulary:,}: its tokenizer.json does not belong to its config.json"
            )
        if feature.shape[0] > longest:
            raise UsageError(
                f"the feature {feature.name!r} has feature.length = {feature.shape[0]}, of which the encoder in "
                f"{settings.folder} takes {longest}, without its special tokens: publish it with at most that"
            )
    return Encoder(settings, shape, [feature.name for feature in features], outputs)


def layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that `model.checkpoint_layers` computes again."""
    return [module for module in model.modules() if isinstance(module, Layer)]


class Encoder(nn.Module):
    """One body for all features, their pooled outputs concatenated, and a linear layer over them."""

    def __init__(
        self, settings: Settings, shape: Architecture, names: Sequence[str], outputs: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.names, self.pooling = list(names), settings.pooling
        self.body = Body(shape, settings.dropout)
        self.dropout = nn.Dropout(settings.dropout)
        self.heads = dict(outputs)
        self.output = nn.Linear(shape.width * len(names), sum(self.heads.values()))

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map token ids by feature, (n, length) integers with 0 as right padding, to (n, size) float32 by head."""
        pooled = [self.embed(features[name]) for name in self.names]
        return by_head(self.output(self.dropout(torch.cat(pooled, dim=1))), self.heads)

    def embed(self, tokens: Tensor) -> Tensor:
        """Map token ids without special ones, (n, length), to (n, w)."""
        packing = Packing.of(self.body.with_special(tokens))
        hidden = self.body(packing)
        pooled = [self._pool(group.pad(hidden), group.mask) for group in packing.groups]
        return torch.cat(pooled).index_select(0, packing.rows)

    def _pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return hidden[:, 0]
        return hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True)


class Body(nn.Module):
    """Embeddings and layers over packed tokens: (m,) ids → (m, w)."""

    def __init__(self, shape: Architecture, dropout: float) -> None:
        super().__init__()
        self.before, self.after = shape.before, shape.after
        self.embeddings = Embeddings(shape, dropout)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(shape, dropout) for _ in range(shape.layers))}
        )
        self.apply(_initialise)

    def forward(self, packing: Packing) -> Tensor:
        hidden: Tensor = self.embeddings(packing)
        for layer in self.encoder["layer"]:  # type: ignore[attr-defined]
            hidden = layer(hidden, packing)
        return hidden

    def with_special(self, tokens: Tensor) -> Tensor:
        """Put the special tokens before and behind each text: (n, length) → (n, length + those)."""
        places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        lengths = ((tokens != PADDING) * places).amax(dim=1, keepdim=True)
        before, after = (
            torch.tensor(ids, dtype=tokens.dtype, device=tokens.device) for ids in (self.before, self.after)
        )
        rows = len(tokens)
        whole = torch.cat((before.expand(rows, -1), tokens, tokens.new_zeros(rows, len(after))), dim=1)
        behind = len(before) + lengths + torch.arange(len(after), device=tokens.device)
        return whole.scatter(1, behind, after.expand(rows, -1))


class Embeddings(nn.Module):
    """Sum of the embeddings of tokens, of their positions and of token type 0, normalised."""

    def __init__(self, shape: Architecture, dropout: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.token_type_embeddings = nn.Embedding(shape.token_types, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, packing: Packing) -> Tensor:
        found = self.word_embeddings(packing.ids) + self.position_embeddings(packing.positions)
        normalised: Tensor = self.LayerNorm(found + self.token_type_embeddings.weight[0])
        dropped: Tensor = self.dropout(normalised)
        return dropped


class Sum(nn.Module):
    """Projection of a part of a layer, added to what went into that part, and normalised: (…, size) → (…, w)."""

    def __init__(self, size: int, shape: Architecture, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(size, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, eps=shape.epsilon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, found: Tensor, before: Tensor) -> Tensor:
        result: Tensor = self.LayerNorm(self.dropout(self.dense(found)) + before)
        return result


class Layer(nn.Module):
    """Self-attention and a feed-forward part, each with a residual around and a norm behind it: (m, w) → (m, w)."""

    def __init__(self, shape: Architecture, dropout: float) -> None:
        super().__init__()
        self.heads = shape.heads
        self.activation = functional.gelu if shape.activation == "gelu" else functional.relu
        projections = {name: nn.Linear(shape.width, shape.width) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict(
            {"self": nn.ModuleDict(projections), "output": Sum(shape.width, shape, dropout)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(shape.width, shape.feed_forward)})
        self.output = Sum(shape.feed_forward, shape, dropout)

    def forward(self, hidden: Tensor, packing: Packing) -> Tensor:
        projections = self.attention["self"].values()  # type: ignore[operator]
        # Without dropout of the weights of attention, for which a CPU has no fused kernel.
        mixed = attention(torch.cat([one(hidden) for one in projections], dim=1), packing, self.heads)
        hidden = self.attention["output"](mixed, hidden)
        result: Tensor = self.output(self.activation(self.intermediate["dense"](hidden)), hidden)
        return result


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=DEVIATION)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
