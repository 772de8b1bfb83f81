"""One TOML file a data set, validated as a whole before anything runs.

`load(path, overrides)` returns a `Configuration`; every mistake in it raises a `ConfigurationError` that names the
key, the file and what is allowed.
"""

import hashlib
import json
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, TypeAdapter, ValidationError, model_validator

from common.command import without_credentials
from common.errors import ConfigurationError
from common.sections import Section
from common.storage import Storage
from schemas import kinds, settings
from schemas.cleaning import Clean
from schemas.column_names import NOT_IN_TABLES, RESERVED_COLUMNS, with_table_names
from schemas.features import ScalarFeature, TextFeature, TypedFeature
from schemas.features.image import ImageFeature
from schemas.features.packed_tokens import PackedTokensFeature
from schemas.mistakes import explain
from schemas.overrides import apply
from schemas.tuning import Tune

TEXTS, ROWS = "texts", "rows"
"""Contents (etl/duplicates/contents) of texts, and of records without a column that is compared on its own."""
MOST_TOLERANCES = 6
"""Columns with a tolerance: each doubles the grids that near rows are looked for in."""
STAGES = ("ingest", "clean", "deduplicate", "split", "encode", "publish")
DOCUMENTS = "documents"
"""Column of the shards with the records whose parts a packed row holds."""


class Configuration(Section):
    """Whole configuration file."""

    dataset: settings.Dataset
    source: list[kinds.AnySource] = Field(min_length=1)
    columns: settings.Columns
    feature: list[kinds.AnyFeature] = Field(min_length=1)
    clean: Clean = Clean()
    deduplicate: settings.Deduplicate = settings.Deduplicate()
    split: settings.Split = settings.Split()
    publish: settings.Publish = settings.Publish()
    balance: settings.Balance = settings.Balance()
    quality: settings.Quality = settings.Quality()
    increments: settings.Increments = settings.Increments()
    versions: settings.Versions = settings.Versions()
    storage: Storage = Storage()
    objective: kinds.AnyObjective = Field(default_factory=kinds.OBJECTIVES.default_settings)
    model: kinds.AnyModel = Field(default_factory=kinds.MODELS.default_settings)
    method: kinds.AnyMethod = Field(default_factory=kinds.METHODS.default_settings)
    optimizer: kinds.AnyOptimizer = Field(default_factory=kinds.OPTIMIZERS.default_settings)
    train: settings.Train = settings.Train()
    augment: settings.Augment = settings.Augment()
    evaluate: settings.Evaluate = settings.Evaluate()
    tune: Tune = Tune()
    _given: tuple[str, ...] = PrivateAttr(default=("--config", "FILE"))

    @model_validator(mode="before")
    @classmethod
    def _with_table_names(cls, document: Any) -> Any:
        return with_table_names(document)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.feature]
        if len(set(names)) < len(names):
            raise ValueError("two [[feature]] have the same name")
        for name in [*names, *self.table_columns()]:
            if name in RESERVED_COLUMNS:
                raise ValueError(
                    f"{name!r} is the name of one of the product's own columns; give yours another one, in "
                    f"[columns.rename] (reserved: {', '.join(sorted(RESERVED_COLUMNS))})"
                )
        columns = self.table_columns()
        taken = [
            name.lower() for feature in names for name in (feature, f"{feature}_tokens", f"{feature}_flags")
        ]
        if len(set(taken)) < len(taken):
            raise ValueError(
                f"the features {', '.join(names)} need the columns {', '.join(taken)}, two of which Spark does not "
                "distinguish: rename one"
            )
        for name in [*names, *columns]:
            if NOT_IN_TABLES.search(name):
                raise ValueError(
                    f"the column {name!r} cannot stand in a Delta table: give it another name, without white space, "
                    "points, backticks, quotation marks and any of , ; { } ( ) [ ] ="
                )
        self._check_renamed()
        if len({name.lower() for name in columns}) < len(columns):
            raise ValueError(
                f"two of the columns {', '.join(columns)} differ only in upper and lower case, which Spark does not "
                "distinguish: give one another name, in [columns.rename]"
            )
        roles = [c for c in (self.columns.label, self.columns.group, self.columns.time) if c is not None]
        if len(set(roles)) < len(roles):
            raise ValueError("label, group and time must be different columns")
        if self.columns.time in self.text_columns():
            raise ValueError("the time column cannot be a feature or the deduplicated column")
        self._check_typed()
        self._check_packed()
        self._check_images()
        if self.deduplicate.survivor == "newest" and self.columns.time is None:
            raise ValueError('deduplicate.survivor = "newest" needs columns.time')
        if self.augment.changes and not self.image_features():
            raise ValueError("[augment] changes images, and no [[feature]] is one: leave it out")
        if self.balance.policy != "none" and self.columns.label is None:
            raise ValueError(
                f'balance.policy = "{self.balance.policy}" needs columns.label: without classes there is nothing to '
                'balance, and the policy can only be "none"'
            )
        self._check_where()
        self._check_by_group()
        self._check_tolerance()
        return self

    def _check_tolerance(self) -> None:
        if not self.deduplicate.tolerance:
            return
        if self.compared_as() != ROWS:
            raise ValueError(
                "deduplicate.tolerance is for whole rows, but duplicates are found by the column "
                f"{self.compared_columns()[0]!r}: leave it out"
            )
        scalars = [f.column for f in self.feature if isinstance(f, ScalarFeature)]
        for column in self.deduplicate.tolerance:
            if column not in scalars:
                raise ValueError(
                    f"deduplicate.tolerance names {column!r}, which is no column of a feature with encode = "
                    f'"number" or "date": there are {", ".join(map(repr, scalars)) or "none"}'
                )
        if len(self.deduplicate.tolerance) > MOST_TOLERANCES:
            raise ValueError(
                f"deduplicate.tolerance names {len(self.deduplicate.tolerance)} columns, but can have at most "
                f"{MOST_TOLERANCES}, since each doubles the work: leave the others to equality"
            )

    def _check_where(self) -> None:
        if self.train.where is None:
            return
        if self.columns.label is None:
            raise ValueError(
                "train.where takes rows by their class and needs columns.label: set it, or leave train.where out"
            )
        if list(self.train.where) != [self.columns.label]:
            raise ValueError(
                f"train.where names {', '.join(self.train.where) or 'no column'}, but can only name the column of the "
                f"label: write where = {{ {self.columns.label} = … }}"
            )
        if self.balance.policy != "none":
            raise ValueError(
                f'train.where and balance.policy = "{self.balance.policy}" both say how often training takes a row: '
                "leave one of them out"
            )

    def _check_by_group(self) -> None:
        if self.publish.by_group and self.columns.group is None:
            raise ValueError(
                "publish.by_group makes shards of one group each and needs columns.group: set it"
            )
        if self.publish.by_group and self.packed_feature() is not None:
            raise ValueError(
                "publish.by_group does not go with packed_tokens, whose rows hold several records"
            )

    def _check_renamed(self) -> None:
        used = {self.columns.id, *self.table_columns()}
        for name, in_files in self.columns.rename.items():
            if name not in used:
                raise ValueError(
                    f"[columns.rename] names {name!r}, which no role and no feature uses: these name columns as the "
                    f"tables do, so say for instance columns.label = {name!r} beside {name} = {in_files!r}"
                )

    def _check_typed(self) -> None:
        roles = {"id": self.columns.id, "label": self.columns.label, "group": self.columns.group}
        roles |= {"time": self.columns.time, "deduplicate.column": self.deduplicate.column}
        of_text = {feature.column: f"the feature {feature.name!r}" for feature in self.token_features()}
        taken = of_text | {column: name for name, column in roles.items() if column is not None}
        seen: set[str] = set()
        for feature in self.typed_features():
            if feature.column in taken:
                raise ValueError(
                    f"the column {feature.column!r} of the feature {feature.name!r} is also {taken[feature.column]}: "
                    "its values would be brought into another notation; give the source another column with them"
                )
            if feature.column in seen:
                raise ValueError(f"two typed features have the column {feature.column!r}")
            seen.add(feature.column)
            if feature.name in Clean.model_fields:
                raise ValueError(
                    f"the feature {feature.name!r} has the name of a cleaning rule, with which the report would mix it "
                    "up: rename it"
                )

    def flags(self) -> str:
        """Return the flags that name this configuration, for a command that a message advises; no credentials."""
        return shlex.join(self._given)

    def _check_packed(self) -> None:
        packed = self.packed_feature()
        if packed is None:
            return
        why = f"the feature {packed.name!r} is encoded as packed_tokens, whose rows hold parts of several records"
        if len(self.feature) > 1:
            others = ", ".join(repr(one.name) for one in self.feature if one.name != packed.name)
            raise ValueError(f"{why}: it must be the only feature, so leave {others} out")
        if self.columns.label is not None:
            raise ValueError(f"{why} and have no label: leave columns.label out")
        if packed.name == DOCUMENTS:
            raise ValueError(f"{why}, named in the column {DOCUMENTS!r} of the shards: rename the feature")

    def _check_images(self) -> None:
        limits: dict[str, int] = {}
        for one in self.image_features():
            if (limit := limits.setdefault(one.column, one.max_pixels)) != one.max_pixels:
                raise ValueError(
                    f"the features of the column {one.column!r} have different max_pixels, {limit:,} and, for "
                    f"{one.name!r}, {one.max_pixels:,}: an image is decoded once, so give all the same"
                )

    def token_features(self) -> list[TextFeature]:
        """Return the features of text."""
        return [feature for feature in self.feature if isinstance(feature, TextFeature)]

    def packed_feature(self) -> PackedTokensFeature | None:
        """Return the feature whose rows are packed from several records; None where a row is a record."""
        return next((one for one in self.feature if isinstance(one, PackedTokensFeature)), None)

    def typed_features(self) -> list[TypedFeature]:
        """Return the features of typed columns."""
        return [feature for feature in self.feature if isinstance(feature, TypedFeature)]

    def image_features(self) -> list[ImageFeature]:
        """Return the features of images."""
        return [feature for feature in self.feature if isinstance(feature, ImageFeature)]

    def image_columns(self) -> list[str]:
        """Return the columns of images, each once, which the tables hold as PNG."""
        return list(dict.fromkeys(feature.column for feature in self.image_features()))

    def dropping_features(self) -> list[ScalarFeature]:
        """Return the features of typed columns whose outliers are left out."""
        scalars = (feature for feature in self.feature if isinstance(feature, ScalarFeature))
        return [one for one in scalars if one.outliers is not None and one.outliers.action == "drop"]

    def compared_as(self) -> str:
        """Return the content that duplicates are found by: `texts`, `images`, `rows` … (etl/duplicates/contents)."""
        if self.deduplicate.column is None:
            return next((f.compared_as for f in self.feature if f.compared_as is not None), ROWS)
        of_column = {feature.column: feature.compared_as for feature in self.feature}
        return of_column.get(self.deduplicate.column) or TEXTS

    def compared_columns(self) -> list[str]:
        """Return the columns that duplicates are found by: one, or of whole rows all but the label."""
        if self.deduplicate.column is not None:
            return [self.deduplicate.column]
        found = [feature.column for feature in self.feature if feature.compared_as is not None]
        return found[:1] or [column for column in self.table_columns() if column != self.columns.label]

    def text_columns(self) -> list[str]:
        """Return the columns to clean, each once: those of text features and the deduplicated text."""
        texts = [feature.column for feature in self.feature if feature.compared_as == TEXTS]
        if self.deduplicate.column is not None and self.compared_as() == TEXTS:
            texts.append(self.deduplicate.column)
        return list(dict.fromkeys(texts))

    def typed_columns(self) -> list[str]:
        """Return the columns to bring into the notation of a type; their values may be missing."""
        return [feature.column for feature in self.typed_features()]

    def table_columns(self) -> list[str]:
        """Return the configured columns of `bronze/records` beside the product's own, each once, without the id."""
        roles = (self.columns.label, self.columns.group, self.columns.time)
        named = [*(c for c in roles if c is not None), *self.text_columns(), *self.typed_columns()]
        named += self.image_columns()
        return list(dict.fromkeys(named))

    def data_sections(self) -> dict[str, Any]:
        """Return the sections that determine the published rows: no paths, storage, quality, model or training."""
        whole = self.model_dump(mode="json")
        sections = ("columns", "clean", "deduplicate", "split", "publish")
        without_places = [
            source.model_dump(mode="json", exclude=set(source.places)) for source in self.source
        ]
        features = [{k: v for k, v in f.items() if k != "tokenizer"} for f in whole["feature"]]
        if not self.publish.by_group:
            del whole["publish"]["by_group"]  # Data sets published before it was there keep their roots.
        del whole["clean"]["pseudonyms"]  # Only says where the key is; pseudonyms depend on the key itself.
        return {
            "dataset": {"name": self.dataset.name},
            "source": without_places,
            "feature": features,
            **{section: whole[section] for section in sections},
            "balance": self._rows_taken(),
        }

    def _rows_taken(self) -> dict[str, Any]:
        """Return what decides how often training takes each row, as the manifest states it."""
        if self.train.where is None:
            return dict(self.balance.effective())
        return {"policy": "where", "classes": self.train.classes_taken()}

    def data_sha256(self, stage: str = "encode") -> str:
        """Return the SHA-256 of the configuration that determines the rows of a stage, including the stages before
        it.

        Sections used after `encode` are left out: `publish` only cuts the rows up, `balance` only says how to use
        them.
        """
        whole = self.data_sections()
        sections = {name: whole[name] for name in ("dataset", "source", "columns")}
        sections |= {"table_columns": self.table_columns(), "text_columns": self.text_columns()}
        sections |= {"typed_columns": self.typed_columns()}
        if self.image_features():
            sections |= {"images": [feature.decoding() for feature in self.image_features()]}
        whole["clean"]["typed"] = [feature.normalisation() for feature in self.typed_features()]
        for name, added in (
            ("clean", {"clean": whole["clean"]}),
            ("deduplicate", {"deduplicate": whole["deduplicate"]}),
            ("split", {"split": whole["split"]}),
            ("encode", {"feature": whole["feature"]}),
        ):
            if STAGES.index(name) <= STAGES.index(stage):
                sections |= added
        return hashlib.sha256(canonical_json(sections)).hexdigest()

    def sha256(self) -> str:
        """Return the SHA-256 of the whole configuration in canonical JSON, without credentials and a search for it."""
        whole = self.model_dump(mode="json", exclude={"storage", "tune"})
        return hashlib.sha256(canonical_json(whole)).hexdigest()


def with_later_keys(section: str, published: Any, configured: Any) -> Any:
    """Return a section that an earlier version published, with the defaults of keys that have come since.

    `configured` is the section of today, as in `data_sections`. A section that is no longer valid stays as it is.
    """
    several = isinstance(published, list)
    before, keys = (published, configured) if several else ([published], [configured])
    # Sources are published without their path.
    given = [{"path": "-"} | one for one in before] if section == "source" else published
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Configuration.model_fields[section].rebuild_annotation())
        today = adapter.dump_python(adapter.validate_python(given), mode="json")
    except (KeyError, ValidationError):
        return published
    if len(before) != len(keys):
        return published
    filled = [
        {key: now[key] for key in wanted if key in now} | old
        for old, now, wanted in zip(before, today if several else [today], keys, strict=True)
    ]
    return filled if several else filled[0]


def canonical_json(value: object) -> bytes:
    """Return UTF-8 JSON with sorted keys and no white space: equal bytes for equal values, on any machine."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def load(path: str | Path, overrides: Sequence[str] = ()) -> Configuration:
    """Read and validate a configuration; `overrides` are `section.key=value`, the value in TOML or a bare string.

    Raises ConfigurationError naming the key, the file and what is allowed, UsageError for a kind that has a defect.
    """
    if kinds.DEFECTS:
        raise kinds.DEFECTS[0]
    file = Path(path)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no configuration file {file}; give one with --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    for override in overrides:
        apply(document, override)
    try:
        config = Configuration.model_validate(document)
        given = ["--config", str(file), *(part for one in overrides for part in ("--set", one))]
        config._given = tuple(without_credentials(given))
        return config
    except ValidationError as error:
        raise ConfigurationError(explain(error, file, Configuration, overrides)) from error
