"""A tiny encoder in the Hugging Face layout: random weights, a WordPiece tokenizer, and how others would compute it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "licence", "is", "granted", "##s", "no", "text")
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 20,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": 300,
}


@dataclass(frozen=True)
class Folder:
    """A folder with an encoder."""

    path: Path
    tokenizer: bytes
    weights: dict[str, Tensor]

    @property
    def sha256(self) -> str:
        return hashlib.sha256((self.path / "model.safetensors").read_bytes()).hexdigest()

    def settings(self, **changed: Any) -> dict[str, Any]:
        """Return the section `[model]` for it."""
        return {"kind": "pretrained_encoder", "folder": str(self.path), "sha256": self.sha256} | changed


def write_folder(path: Path, prefix: str = "", **changed: Any) -> Folder:
    """Write an encoder; `changed` are keys of its config.json."""
    path.mkdir(parents=True)
    config = CONFIG | changed
    (path / "config.json").write_text(json.dumps(config))
    tokenizer = a_tokenizer()
    (path / "tokenizer.json").write_bytes(tokenizer)
    weights = {f"{prefix}{name}": tensor for name, tensor in random_weights(config).items()}
    safetensors.torch.save_file(weights, path / "model.safetensors")
    return Folder(path, tokenizer, weights)


def a_tokenizer() -> bytes:
    """Return a tokenizer that cuts and pads, as those of published models do."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    return tokenizer.to_str().encode()


def random_weights(config: dict[str, Any]) -> dict[str, Tensor]:
    """Return tensors by the names of published files, one of them of no use."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (config["vocab_size"], width)}
    shapes["embeddings.position_embeddings.weight"] = (config["max_position_embeddings"], width)
    shapes["embeddings.token_type_embeddings.weight"] = (config["type_vocab_size"], width)
    shapes["pooler.dense.weight"] = (width, width)
    norms, linear = ["embeddings.LayerNorm"], {}
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linear[f"{layer}.attention.{name}"] = (width, width)
        linear |= {f"{layer}.intermediate.dense": (inner, width), f"{layer}.output.dense": (width, inner)}
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(11)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def reference(weights: dict[str, Tensor], ids: list[int], activation: str = "gelu") -> Tensor:
    """Compute the last hidden states (t, w) of one text, special tokens included, with PyTorch's own layers."""
    tokens = torch.tensor(ids)
    hidden = weights["embeddings.word_embeddings.weight"][tokens]
    hidden = hidden + weights["embeddings.position_embeddings.weight"][: len(ids)]
    hidden = hidden + weights["embeddings.token_type_embeddings.weight"][0]
    scale, shift = (weights[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias"))
    hidden = nn.functional.layer_norm(hidden, hidden.shape[-1:], scale, shift, CONFIG["layer_norm_eps"])
    for number in range(2):
        there = f"encoder.layer.{number}"
        layer = nn.TransformerEncoderLayer(
            32, 4, 48, 0.0, activation, CONFIG["layer_norm_eps"], batch_first=True, norm_first=False
        ).eval()
        three = [f"{there}.attention.self.{name}" for name in ("query", "key", "value")]
        state = {
            f"self_attn.in_proj_{part}": torch.cat([weights[f"{name}.{part}"] for name in three])
            for part in ("weight", "bias")
        }
        for ours, theirs in (
            ("self_attn.out_proj", "attention.output.dense"),
            ("linear1", "intermediate.dense"),
            ("linear2", "output.dense"),
            ("norm1", "attention.output.LayerNorm"),
            ("norm2", "output.LayerNorm"),
        ):
            state |= {f"{ours}.{part}": weights[f"{there}.{theirs}.{part}"] for part in ("weight", "bias")}
        layer.load_state_dict(state)
        with torch.no_grad():
            hidden = layer(hidden[None])[0]
    return hidden
