"""Configurations: what is accepted, what is refused, and the error messages."""

from pathlib import Path

import pytest

from common.errors import ConfigurationError
from schemas.config import Configuration, load
from schemas.tables import Layout

MINIMAL = """
[dataset]
name = "letters"
root = "warehouse"
[[source]]
format = "jsonl"
path = "in/*.jsonl"
[columns]
label = "kind"
[[feature]]
name = "tokens"
column = "text"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "letters.toml"
    file.write_text(text, encoding="utf-8")
    return file


def loaded(folder: Path, text: str, *overrides: str) -> Configuration:
    return load(written(folder, text), overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, text, *overrides)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_the_required_sections_alone_are_enough(tmp_path: Path) -> None:
    config = loaded(tmp_path, MINIMAL)
    assert (config.split.train, config.split.validation, config.split.test) == (0.8, 0.1, 0.1)
    assert config.deduplicate.similarity == 0.8
    assert config.compared_columns() == ["text"]
    assert config.table_columns() == ["kind", "text"]
    assert config.token_features()[0].length == 128


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["train.epoch=1"], ["'train.epoch'", "in --set", "did you mean 'epochs'", "epochs, batch"]),
        (["trian.epochs=1"], ["'trian'", "in --set", "did you mean 'train'"]),
        (['train.epochs="x"'], ["'train.epochs'", "in --set", "'x'", "a whole number"]),
        (["train.epochs=0"], ["'train.epochs'", "allowed is 1 or more"]),
        (["train.epochs=1.0"], ["'train.epochs'", "a whole number"]),
        (["source.0.format=xml"], ["'source.0.format'", "'jsonl'", "'front_matter'"]),
        (["source.0.pth=in"], ["'source.0.pth'", "did you mean 'path'"]),
        (["feature.0.truncate=middle"], ["'feature.0.truncate'", "'head' or 'head_tail'"]),
        (["clean.emails.musk=x"], ["'clean.emails.musk'", "mask"]),
        (['clean.rules=["emails", "nonsense"]'], ["'nonsense'", "emails"]),
        (["clean.rules=4"], ["'clean.rules'", "'default'"]),
        (["split.train=0.5"], ["'split'", "add up to 1"]),
        (["model.heads=3"], ["'model'", "multiple of heads"]),
        (["publish.shards=2", "publish.target_shard_bytes=9"], ["'publish'", "not both"]),
        (["deduplicate.survivor=newest"], ["columns.time"]),
        (["columns.group=record_id"], ["'record_id'", "reserved"]),
        (["dataset.name=a/b"], ["'dataset.name'"]),
        (["dataset.name=3"], ["'dataset.name'", "text in quotes"]),
        (["feature.0.name=classes"], ["'classes'", "reserved"]),
        (["feature.0.name=a.b"], ["'a.b'", "cannot stand in a Delta table"]),
        (["split.seed=99999999999999999999"], ["'split.seed'", "less than"]),
        (["model.kind=resnet"], ["'model.kind'", "transformer_classifier"]),
        (["balance.policy=both"], ["'balance.policy'", "'none', 'weights' or 'oversample'"]),
        (["balance.strength=strong"], ["'balance.strength'", "'balanced' or 'square_root'"]),
        (["balance.policy=oversample", "balance.most=1"], ["'balance.most'", "allowed is 2 or more"]),
        (["balance.cap=3"], ["'balance.cap'", "policy, strength, most"]),
        (
            ["train.method=plain"],
            ["'train.method'", "in --set", "[method]", "method.kind"],
        ),
        (
            ["train.class_weights=none"],
            ["'train.class_weights'", "in --set", "balance.strength", "publish"],
        ),
    ],
)
def test_a_mistake_names_key_file_and_what_is_allowed(
    tmp_path: Path, overrides: list[str], parts: list[str]
) -> None:
    sentence = refusal(tmp_path, MINIMAL, *overrides)
    for part in parts:
        assert part in sentence
    misspelt = MINIMAL.replace("column = ", "colum = ")
    assert "unknown key 'feature.0.colum' in " + str(tmp_path / "letters.toml") in refusal(tmp_path, misspelt)


@pytest.mark.parametrize("section", ["dataset", "source", "columns", "feature"])
def test_a_missing_section_is_named(tmp_path: Path, section: str) -> None:
    headers = {
        "dataset": "[dataset]",
        "source": "[[source]]",
        "columns": "[columns]",
        "feature": "[[feature]]",
    }
    before, _, after = MINIMAL.partition(headers[section])
    rest = after[after.find("\n[") :] if "\n[" in after else ""
    assert f"'{section}' is missing" in refusal(tmp_path, before + rest)


def test_overrides_reach_every_kind_of_key(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        MINIMAL,
        "train.epochs=1",
        "feature.0.length=512",
        "dataset.root=/some/where else",
        'clean.rules=["emails"]',
        "deduplicate.similarity=1",
    )
    assert config.train.epochs == 1
    assert config.token_features()[0].length == 512
    assert config.dataset.root == "/some/where else"
    assert config.clean.active() == ["emails"]
    assert config.deduplicate.similarity == 1.0


@pytest.mark.parametrize(
    "override", ["train.epochs", "=1", "feature.1.length=2", "dataset.name.x=1", "feature.x.length=2"]
)
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    assert override.split("=")[0] in refusal(tmp_path, MINIMAL, override)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no configuration file .*none\.toml"):
        load(tmp_path / "none.toml")
    assert "not valid TOML" in refusal(tmp_path, "[dataset\n")
    (tmp_path / "letters.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "letters.toml")


def test_rules_stand_in_the_order_of_application_with_the_users_own_before_the_filters(
    tmp_path: Path,
) -> None:
    own = '\n[[clean.regex]]\nname = "tickets"\npattern = "T[0-9]+"\nreplace = "<ticket>"\n'
    active = loaded(tmp_path, MINIMAL + own).clean.active()
    assert active[-3:] == ["tickets", "length", "character_ratio"]
    assert loaded(tmp_path, MINIMAL + own, 'clean.rules=["length", "tickets"]').clean.active() == [
        "tickets",
        "length",
    ]
    assert loaded(tmp_path, MINIMAL + own, "clean.rules=[]").clean.active() == []


def test_presets_stand_for_rules_alone_and_in_lists(tmp_path: Path) -> None:
    def active(rules: str) -> list[str]:
        own = '\n[[clean.regex]]\nname = "tickets"\npattern = "T[0-9]+"\nreplace = "<ticket>"\n'
        return loaded(tmp_path, MINIMAL + own, f"clean.rules={rules}").clean.active()

    personal = ["emails", "ibans", "cards", "national_ids", "phones", "ip_addresses"]
    assert active("code") == ["unicode", "control_characters", *personal, "tickets", "length"]
    assert active('["code", "white_space"]')[2] == "white_space"
    assert active("none") == active("[]") == active('["none"]') == []
    assert set(active("web")) == set(active('["web", "stop_words", "language"]')) - {"stop_words", "language"}
    assert set(active("default")) < set(active("web"))
    refused = refusal(tmp_path, MINIMAL, "clean.rules=cod")
    assert "'cod' (did you mean 'code'?); allowed is 'default', 'web', 'code' or 'none' or a list" in refused


def test_rules_on_request_come_on_beside_the_default_ones(tmp_path: Path) -> None:
    default = loaded(tmp_path, MINIMAL).clean.active()
    assert "language" not in default
    both = loaded(tmp_path, MINIMAL, 'clean.rules=["language", "default", "word_count"]').clean.active()
    assert both == [*default, "word_count", "language"]
    assert (
        "there is no rule 'defaults' (did you mean 'default'?) for `rules`; allowed: default, web, code, none, unicode"
        in refusal(tmp_path, MINIMAL, 'clean.rules=["defaults"]')
    )
    without = refusal(tmp_path, MINIMAL.replace('format = "jsonl"\n', ""))
    assert "the key 'source.0.format' is missing" in without
    assert "it is required, and allowed are 'avro'" in without
    mixed = refusal(tmp_path, MINIMAL, 'clean.rules=["default", 3]')
    assert "wrong value of 'clean.rules.1' in" in mixed
    assert "; wrong value" not in mixed
    own = '\n[[clean.regex]]\nname = "default"\npattern = "a"\ndrop = true\n'
    assert "two rules have the same name" in refusal(tmp_path, MINIMAL + own)


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ('pattern = "("\nreplace = "x"', "not a regular expression"),
        ('pattern = "a"', "either `replace` or `drop = true`"),
        ('pattern = "a"\nreplace = "x"\ndrop = true', "either `replace` or `drop = true`"),
    ],
)
def test_a_regex_rule_must_make_sense(tmp_path: Path, rule: str, part: str) -> None:
    assert part in refusal(tmp_path, f'{MINIMAL}\n[[clean.regex]]\nname = "own"\n{rule}\n')


def test_a_look_alike_of_phones_must_be_a_regular_expression(tmp_path: Path) -> None:
    found = refusal(tmp_path, f"{MINIMAL}\n[clean.phones]\nlook_alikes = ['fine', '[']\n")
    assert "'clean.phones.look_alikes.1'" in found
    assert "not a regular expression: unterminated character set" in found


def test_the_data_sections_know_no_paths_and_nothing_of_training(tmp_path: Path) -> None:
    here = loaded(tmp_path, MINIMAL)
    elsewhere = loaded(
        tmp_path,
        MINIMAL,
        "dataset.root=other",
        "source.0.path=there/*.jsonl",
        "source.0.root=there",
        "train.epochs=9",
        "model.width=64",
        "quality.max_quarantine_share=0.5",
    )
    assert here.data_sections() == elsewhere.data_sections()
    assert here.sha256() != elsewhere.sha256()
    assert here.data_sections() != loaded(tmp_path, MINIMAL, "split.seed=1").data_sections()


def test_the_hash_does_not_cover_credentials(tmp_path: Path) -> None:
    secret = loaded(tmp_path, MINIMAL + '\n[storage.fsspec]\nsecret = "s"\n')
    assert secret.sha256() == loaded(tmp_path, MINIMAL).sha256()


@pytest.mark.parametrize(
    "override",
    ["storage.fsspec=SECRET", "storage..x=SECRET", "storage=SECRET", "storage.fsspec.key.x=SECRET"],
)
def test_a_credential_that_is_given_wrongly_is_not_repeated(tmp_path: Path, override: str) -> None:
    with_key = MINIMAL + '\n[storage.fsspec]\nkey = "k"\n'
    sentence = refusal(tmp_path, with_key, override)
    assert "storage" in sentence
    assert "SECRET" not in sentence


@pytest.mark.parametrize("policy", ["weights", "oversample"])
def test_without_a_label_there_is_nothing_to_balance(tmp_path: Path, policy: str) -> None:
    unlabelled = MINIMAL.replace('label = "kind"\n', "")
    assert loaded(tmp_path, unlabelled).balance.policy == "none"
    sentence = refusal(tmp_path, unlabelled, f"balance.policy={policy}")
    assert f'balance.policy = "{policy}" needs columns.label' in sentence


def test_the_class_balance_belongs_to_the_data_but_not_to_the_encoded_rows(tmp_path: Path) -> None:
    plain = loaded(tmp_path, MINIMAL)
    balanced = loaded(tmp_path, MINIMAL, "balance.policy=oversample", "balance.most=4")
    assert plain.data_sections()["balance"] == {"policy": "none"}
    assert balanced.data_sections()["balance"] == {"policy": "oversample", "most": 4}
    assert plain.data_sha256() == balanced.data_sha256()
    # A key that the policy does not use makes no other data set.
    assert loaded(tmp_path, MINIMAL, "balance.most=4").data_sections() == plain.data_sections()
    weighted = loaded(tmp_path, MINIMAL, "balance.policy=weights", "balance.strength=square_root")
    assert weighted.data_sections()["balance"] == {"policy": "weights", "strength": "square_root"}


def test_the_rows_that_training_takes_belong_to_the_data_but_not_to_the_encoded_rows(tmp_path: Path) -> None:
    plain = loaded(tmp_path, MINIMAL)
    one = loaded(tmp_path, MINIMAL, 'train.where={kind="good"}')
    several = loaded(tmp_path, MINIMAL, 'train.where={kind=["good", "bad", "good"]}')
    assert one.data_sections()["balance"] == {"policy": "where", "classes": ["good"]}
    assert several.data_sections()["balance"] == {"policy": "where", "classes": ["bad", "good"]}
    assert plain.data_sha256() == one.data_sha256()


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (['train.where={text="x"}'], ["train.where names text", "where = { kind = "]),
        (['train.where={kind="x", text="y"}'], ["train.where names kind, text"]),
        (["train.where={}"], ["train.where names no column"]),
        (
            ['train.where={kind="x"}', "balance.policy=weights"],
            ['balance.policy = "weights"', "leave one of them out"],
        ),
        (["train.where={kind=[]}"], ["train.where"]),
        (["train.where=kind"], ["train.where"]),
    ],
)
def test_a_condition_that_training_cannot_keep_is_refused(
    tmp_path: Path, overrides: list[str], parts: list[str]
) -> None:
    sentence = refusal(tmp_path, MINIMAL, *overrides)
    assert all(part in sentence for part in parts), sentence


def test_a_condition_needs_a_label(tmp_path: Path) -> None:
    unlabelled = MINIMAL.replace('label = "kind"\n', "")
    assert "train.where takes rows by their class" in refusal(tmp_path, unlabelled, 'train.where={kind="x"}')


def layout(folder: Path, root: str) -> Layout:
    """Return the layout of a data set whose root is that text, not TOML."""
    config = loaded(folder, MINIMAL)
    dataset = config.dataset.model_copy(update={"root": root})
    return Layout.of(config.model_copy(update={"dataset": dataset}))


@pytest.mark.parametrize(
    "name", ["h#1", "q?x", "w%20x", "back\\x", "a*b", "[1]", "{a,b}", "a|b", "a^b", "a\tb", "a\udcffb"]
)
def test_a_root_whose_path_delta_would_misread_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"'dataset.root' leads to .*/below/letters', and .* misread"
    ):
        layout(tmp_path, f"{tmp_path}/{name}/below")
    assert layout(tmp_path, f"memory://{name}").root == f"memory://{name}/letters"


@pytest.mark.parametrize("name", ["50% of é", "a b", "a:b", "a::b", "it's", "a;b,c=d&e+f@g!h$i(j)~`k`"])
def test_any_other_root_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    assert layout(tmp_path, f"{tmp_path}/{name}").root == f"{tmp_path}/{name}/letters"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "objective=classification",
            "'objective' in --set: 'classification'; allowed is a table of keys, such as objective.kind = "
            "'classification'",
        ),
        (
            "model=3",
            "'model' in --set: 3; allowed is a table of keys, such as model.kind = 'transformer_classifier'",
        ),
        ("source=a.jsonl", "'source' in --set: 'a.jsonl'; allowed is a list of tables, each a [[source]]"),
        (
            "feature.0=text",
            "'feature.0' in --set: 'text'; allowed is a table of keys, such as feature.0.encode = 'tokens'",
        ),
        ("train=1", "'train' in --set: 1; allowed is a table of keys"),
        (
            "dataset.name=a b",
            "'dataset.name' in --set: 'a b'; allowed are A-Z, a-z, 0-9, `_`, `-` and `.`, with a letter or digit first",
        ),
        (
            "clean.phones.regions=['usa']",
            "'clean.phones.regions.0' in --set: 'usa'; allowed are the two capitals",
        ),
        (
            "clean.language.languages=['English']",
            "'English'; allowed are codes of ISO 639, such as en or deu",
        ),
        ("clean.rules=defaults", "'clean.rules' in --set: 'defaults' (did you mean 'default'?); allowed is "),
        ("train.clip_norm=0", "0; allowed is more than 0"),
        ("split.test=1.5", "1.5; allowed is 1 or less"),
        ("increments.enabled=1", "1; allowed is true or false"),
        ("train.epochs=true", "'train.epochs' in --set: true; allowed is a whole number"),
        ("dataset.root=", "''; allowed is text, not an empty one"),
        ("evaluate.regularisation=[]", "[]; allowed is a list of at least 1"),
        (
            "feature.0.encode=token",
            "'feature.0.encode' in --set: 'token' (did you mean 'tokens'?); allowed are ",
        ),
        (
            "feature.0.scale=none",
            "'feature.0.scale' in --set, which encode = 'date' or 'number' has; allowed with encode = 'tokens': name, ",
        ),
        (
            "feature.0.lenght=3",
            "(did you mean 'length'?); allowed with encode = 'tokens': name, column, encode, ",
        ),
        (
            "source.0.delimeter=;",
            "(did you mean 'delimiter'?); allowed with format = 'jsonl': format, path, ",
        ),
        ("storage.delta=secret", "'storage.delta' in --set: ...; allowed is a table of keys"),
    ],
)
def test_what_is_allowed_is_said_in_words(tmp_path: Path, override: str, said: str) -> None:
    sentence = refusal(tmp_path, MINIMAL, override)
    assert said in sentence
    for jargon in ("valid dictionary", "instance of", "pattern", "Input", "tag", "^["):
        assert jargon not in sentence


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "key",
    [
        "train.clip_norm", "train.watchdog", "optimizer.learning_rate", "model.dropout", "versions.keep_days",
        "quality.max_class_drift", "clean.word_length.maximum", "deduplicate.similarity",
    ],
)  # fmt: skip
def test_numbers_are_finite(tmp_path: Path, key: str, number: str) -> None:
    assert f"'{key}'" in refusal(tmp_path, MINIMAL, f"{key}={number}")
    assert "is a finite number" in refusal(tmp_path, MINIMAL, f"evaluate.regularisation=[{number}]")


def test_limits_of_an_expectation_are_finite(tmp_path: Path) -> None:
    own = '\n[[quality.expectation]]\ntype = "x"\nkwargs = { a = { b = [1.0, inf] } }\n'
    assert "inf is no finite number" in refusal(tmp_path, MINIMAL + own)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "letters.toml").write_text(MINIMAL, encoding="utf-8-sig")
    assert load(tmp_path / "letters.toml").dataset.name == "letters"


def test_the_flags_of_a_configuration_name_it_again_without_credentials(tmp_path: Path) -> None:
    config = loaded(tmp_path, MINIMAL, "train.epochs=1", "storage.delta={ key = 'secret' }")
    assert config.flags() == f"--config {tmp_path}/letters.toml --set train.epochs=1 --set storage.delta=..."
