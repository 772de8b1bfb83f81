"""`model.kind = "pretrained_encoder"`: what it computes, what it learned from, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from torch import Tensor

from common.errors import ConfigurationError, DataError, UsageError
from common.storage import Storage
from schemas.config import load
from schemas.manifest import Column
from schemas.models.pretrained_encoder import PretrainedEncoder
from tests.training.pretrained_folder import Folder, reference, write_folder
from tests.training.published import Published, publish
from tests.training.runs import EXACT, weights
from training import evaluate, models, report, train
from training.checkpoints import starting, store
from training.models import pretrained_encoder
from training.models.pretrained_encoder import Encoder

LENGTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return write_folder(tmp_path_factory.mktemp("pretrained") / "encoder")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, folder: Folder) -> Published:
    """Publish tokens of the encoder's tokenizer, and a configuration that fine-tunes it."""
    found = publish(tmp_path_factory.mktemp("data"), tokenizer=folder.tokenizer)
    text = found.config.read_text()
    begin, end = text.index("[model]"), text.index("[optimizer]")
    section = "\n".join(f"{key} = {json.dumps(value)}" for key, value in folder.settings().items())
    found.config.write_text(f"{text[:begin]}[model]\n{section}\n{text[end:]}")
    return found


def built(folder: Folder, **changed: Any) -> Encoder:
    """Return the model with the weights of the folder."""
    settings = PretrainedEncoder(**folder.settings(**changed))
    shape = pretrained_encoder.read_architecture(str(folder.path))
    column = {"name": "tokens", "role": "feature", "dtype": "uint16", "shape": [LENGTH], "storage": "fixed"}
    feature = Column.model_validate(
        {**column, "vocabulary": 300, "artifacts": {"tokenizer": shape.tokenizer}}
    )
    model = models.build(settings, [feature], {"logits": 3})
    assert isinstance(model, Encoder)
    theirs = {f"body.{name}": tensor for name, tensor in folder.weights.items()}
    model.load_state_dict({name: theirs[name] for name in model.state_dict() if name in theirs}, strict=False)
    return model.eval()


def texts() -> Tensor:
    """Return rows of 16, 5, no and 1 tokens."""
    ids = torch.randint(4, 300, (4, LENGTH), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
    for row, length in enumerate((LENGTH, 5, 0, 1)):
        ids[row, length:] = 0
    return ids


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_it_computes_what_pytorchs_layers_do(tmp_path: Path, pooling: str, activation: str) -> None:
    folder = write_folder(tmp_path / "encoder", hidden_act=activation)
    ids = texts()
    with torch.no_grad():
        found = built(folder, pooling=pooling).embed(ids)
    for row, pooled in zip(ids.tolist(), found, strict=True):
        right = reference(folder.weights, [2, *(one for one in row if one), 3], activation)
        torch.testing.assert_close(
            pooled, right.mean(dim=0) if pooling == "mean" else right[0], atol=2e-6, rtol=1e-5
        )


def test_it_learns_from_the_folder_resumes_bit_for_bit_and_needs_it_no_more_to_be_used(
    published: Published, folder: Folder, tmp_path: Path
) -> None:
    away = tmp_path / "encoder"
    shutil.copytree(folder.path, away)
    flags = ["--config", str(published.config), "--set", f"model.folder={away}"]
    assert train.main([*flags, "--run", "whole", "--check"]) == 0
    assert train.main([*flags, "--run", "whole"]) == 0
    assert train.main([*flags, "--run", "parts", "--stop-after", "3"]) == 0
    assert train.main([*flags, "--run", "parts", "--resume"]) == 0
    runs = [published.root / "runs" / name for name in ("whole", "parts")]
    chains = [store.read_chain(run) for run in runs]
    assert chains[0][-1].sha256 == chains[1][-1].sha256
    assert {record.started_from for record in chains[0]} == {folder.sha256}
    began = json.loads((runs[0] / "run.json").read_bytes())
    assert began["started_from"] | {"taken": None} == {
        "file": str(away / "model.safetensors"),
        "tokenizer_sha256": published.load().column("feature").artifacts["tokenizer"],
        "manifest_roots": [],
        "sha256": folder.sha256,
        "taken": None,
        "left": [],
        "overlap": {},
    }
    assert began["configuration"]["model"]["architecture"]["before"] == [2]
    shutil.rmtree(away)
    assert evaluate.main([*flags, "--run", "whole", "--set", "evaluate.baseline=false"]) == 0
    assert report.main([*flags, "--run", "whole"]) == 0
    assert folder.sha256 in (runs[0] / "report.html").read_text()
    with pytest.raises(DataError, match=r"config\.json is missing"):
        train.main([*flags, "--run", "another"])


def test_frozen_parameters_keep_their_bits(published: Published, folder: Folder) -> None:
    frozen = ["body.embeddings.*", "body.encoder.layer.0.*"]
    flags = ["--config", str(published.config), "--run", "frozen", "--set", "optimizer.weight_decay=0.5"]
    assert train.main([*flags, "--set", f"train.freeze={json.dumps(frozen)}"]) == 0
    state = store.best_good(published.root / "runs" / "frozen", print)
    assert state is not None
    same = {
        name.removeprefix("body.")
        for name, tensor in state[1]["model"].items()
        if name.startswith("body.") and torch.equal(tensor, folder.weights[name.removeprefix("body.")])
    }
    names = {name for name in folder.weights if not name.startswith("pooler.")}
    assert same == {name for name in names if name.startswith(("embeddings.", "encoder.layer.0."))}
    with pytest.raises(UsageError, match=r"train\.freeze was .* and is now"):
        train.main([*flags, "--set", 'train.freeze=["output.*"]', "--resume"])


@pytest.mark.thorough
def test_two_ranks_learn_what_one_does(published: Published, folder: Folder) -> None:
    frozen = ["--set", 'train.freeze=["body.embeddings.*"]', "--set", "optimizer.head_learning_rate=0.01"]
    flags = ["--config", str(published.config), *EXACT, *frozen]
    assert train.main([*flags, "--run", "one"]) == 0
    launcher = Path(sys.executable).with_name("horovodrun")
    environment = {**os.environ, "PATH": f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "training.train", *flags, "--run", "two"]
    launch = [str(launcher), "-np", "2", "--gloo", "-H", "localhost:2", *command]
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (weights(published, run) for run in ("one", "two"))
    torch.testing.assert_close(two, one, atol=1e-5, rtol=1e-4)
    for name in (name for name in folder.weights if name.startswith("embeddings.")):
        assert torch.equal(two[f"body.{name}"], folder.weights[name])


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            '["body.*", "layers.*"]',
            r"train\.freeze: 'layers\.\*' matches no parameter of the model, which has body\.emb",
        ),
        ('["*"]', "leaves no parameter of the model to train"),
    ],
)
def test_patterns_that_freeze_nothing_or_all_are_refused(
    published: Published, patterns: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train.main(
            ["--config", str(published.config), "--run", "no", "--set", f"train.freeze={patterns}", "--check"]
        )


def test_another_tokenizer_is_refused(published: Published, tmp_path: Path) -> None:
    other = publish(tmp_path / "data", tokenizer=b"another")
    config = other.root / "its.toml"
    config.write_text(published.config.read_text().replace(str(published.root), str(other.root)))
    for more in (["--check"], [], ["--set", "model.pretrained=false"]):
        with pytest.raises(
            UsageError, match=r"they would mean other words\. Publish .* feature\.tokenizer = .*json"
        ):
            train.main(["--config", str(config), "--run", "refused", *more])
    assert not (other.root / "runs" / "refused" / "checkpoints").exists()


def test_another_file_is_refused(published: Published, folder: Folder) -> None:
    flags = ["--config", str(published.config), "--run", "refused"]
    for more in (["--check"], []):
        with pytest.raises(UsageError, match=rf"its SHA-256 is {folder.sha256}, not {'0' * 64}"):
            train.main([*flags, "--set", f"model.sha256='{'0' * 64}'", *more])
    with pytest.raises(
        ConfigurationError, match=r"sha256 is missing: give what `sha256sum .*model\.safetensors` prints"
    ):
        load(published.config, [f"model={{kind='pretrained_encoder', folder='{folder.path}'}}"])


def test_random_weights_on_request(published: Published) -> None:
    flags = ["--config", str(published.config), "--set", "model.pretrained=false", "--run", "random"]
    assert train.main([*flags, "--stop-after", "1"]) == 0
    assert json.loads((published.root / "runs" / "random" / "run.json").read_bytes())["started_from"] is None


def test_a_prefix_of_the_names_in_the_file(published: Published, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "encoder", prefix="bert.")
    flags = ["--config", str(published.config), "--run", "refused", "--check"]
    given = ["--set", f"model.folder={folder.path}", "--set", f"model.sha256={folder.sha256}"]
    with pytest.raises(UsageError, match=r"model\.prefix: .* names no tensor of .*, which has bert\."):
        train.main([*flags, *given])
    assert train.main([*flags, *given, "--set", "model.prefix=bert."]) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "roberta"}, 'has model_type = "roberta"; .* reads encoders with "bert" there alone'),
        ({"position_embedding_type": "relative_key"}, 'has position_embedding_type = "relative_key"'),
        ({"is_decoder": True}, "has is_decoder = true; .* with false there"),
        ({"quantization_config": {"bits": 8}}, r'has quantization_config = \{"bits": 8\}'),
        ({"hidden_act": "swish"}, r"has hidden_act = 'swish': .* with hidden_act = \"gelu\" or \"relu\""),
        (
            {"layer_norm_eps": None, "num_hidden_layers": 0},
            "has num_hidden_layers = 0, layer_norm_eps = None: ",
        ),
        ({"num_attention_heads": 5}, "has 5 heads, which do not divide 32"),
        (
            {"max_position_embeddings": 17},
            r"feature\.length = 16, of which .* takes 15, without its special tokens",
        ),
        ({"vocab_size": 299}, "has 300 tokens, the encoder in .* 299"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        built(write_folder(tmp_path / "encoder", **changed))


def test_files_that_are_no_encoders_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "encoder")
    file = folder.path / "tokenizer.json"
    file.write_text(Tokenizer(tokenizer_models.WordLevel({"[PAD]": 0}, "[UNK]")).to_str())
    with pytest.raises(DataError, match=r"is not a tokenizer\.json of the tokenizers library"):
        pretrained_encoder.read_architecture(str(folder.path))
    file.write_text(Tokenizer(tokenizer_models.WordLevel({"[PAD]": 0, "[UNK]": 1}, "[UNK]")).to_str())
    with pytest.raises(UsageError, match=r'pooling = "cls" takes the special token .* take "mean"'):
        built(folder, pooling="cls")
    file.write_text(Tokenizer(tokenizer_models.BPE({"[PAD]": 0}, [])).to_str())
    with pytest.raises(DataError, match="makes no token of a letter"):
        pretrained_encoder.read_architecture(str(folder.path))
    (folder.path / "config.json").write_text("[]")
    with pytest.raises(DataError, match=r"config\.json is no table of keys"):
        pretrained_encoder.read_architecture(str(folder.path))


def test_weights_in_several_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UsageError, match=r"its tensors lie in several files: write them to one"):
        starting.read_safetensors(str(tmp_path / "model.safetensors"), "0" * 64, Storage())


def test_a_file_that_lacks_tensors_is_refused(published: Published, folder: Folder, tmp_path: Path) -> None:
    deeper = tmp_path / "encoder"
    shutil.copytree(folder.path, deeper)
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(
        UsageError, match=r"has no tensors of the name and shape of body\.encoder\.layer\.2\..* and 12 more"
    ):
        train.main(
            ["--config", str(published.config), "--run", "no", "--set", f"model.folder={deeper}", "--check"]
        )
    (deeper / "model.safetensors").write_bytes(b"no tensors")
    sha256 = Folder(deeper, b"", {}).sha256
    with pytest.raises(DataError, match="is no file of safetensors"):
        starting.read_safetensors(str(deeper / "model.safetensors"), sha256, Storage())


def test_it_goes_on_from_a_run_of_its_own_kind(published: Published) -> None:
    flags = ["--config", str(published.config)]
    assert train.main([*flags, "--run", "first"]) == 0
    first = published.root / "runs" / "first"
    more = ["--set", f"model.start={{run='{first}', part='all'}}", "--run", "second"]
    assert train.main([*flags, *more, "--stop-after", "1"]) == 0
    began = json.loads((published.root / "runs" / "second" / "run.json").read_bytes())["started_from"]
    assert began["run"] == str(first)
    assert "output.weight" in began["taken"]
    assert began["left"] == []
