"""Names of columns in the files and in the tables.

A role or a feature names a column of the files, which may be a path into nested values (`event.level`) or hold white
space. Tables cannot have such names: there the column gets a plain one, given in `[columns.rename]` or else made from
the name in the files, with `_` for what is not allowed (`event_level`).
"""

import copy
import re
from typing import Any

NOT_IN_TABLES = re.compile(r"[\s,;{}()=.`\[\]\"]+")
"""Characters that no column of a table has: Delta refuses some of them, Spark reads others as paths."""
RESERVED_COLUMNS = frozenset(
    {"record_id", "source_index", "source_path", "source_position", "source_bytes", "time_seconds"}
    | {
        "image_effects",
        "filtered_by",
        "effects",
        "text_characters_read",
        "text_characters",
        "sampled_words",
        "split",
        "record_key",
        "label_index",
        "order_key",
        "shard",
        "salt",
        "classes",
    }
)
"""Names of the product's own columns in the tables, which no configured column but the id may have."""
EXPECTED_COLUMNS = ("column", "column_A", "column_B")
"""Arguments of expectations that name a column."""


def table_name(name: str) -> str:
    """Return the name in the tables of a column that the files call `name`."""
    return NOT_IN_TABLES.sub("_", name).strip("_")


def with_table_names(document: Any) -> Any:
    """Return a raw configuration whose roles, features and expectations name columns of the tables.

    `columns.rename` then holds the name in the files of each column that has another one. The id stays as it is,
    because no table has it under its own name. Raises ValueError where two columns would get one name.
    """
    if not isinstance(document, dict) or not isinstance(document.get("columns"), dict):
        return document
    document = copy.deepcopy(document)
    columns = document["columns"]
    renamed = columns.get("rename", {})
    if not isinstance(renamed, dict):
        return document
    places = [(columns, role) for role in ("label", "group", "time")]
    places += [(feature, "column") for feature in _tables(document.get("feature"))]
    places += [(section, "column") for section in _tables([document.get("deduplicate")])]
    plain = {section[key] for section, key in places if isinstance(section.get(key), str)}
    new: dict[str, str] = {}
    for section, key in places:
        name = section.get(key)
        if not isinstance(name, str) or name in renamed or not NOT_IN_TABLES.search(name):
            continue
        short = table_name(name)
        if not short:
            continue
        if new.setdefault(short, name) != name or short in renamed or short in plain:
            other = new[short] if new[short] != name else renamed.get(short, short)
            raise ValueError(
                f"the columns {name!r} and {other!r} would both be called {short!r} in the tables: give one of them "
                f'another name, as in [columns.rename] other = "{name}"'
            )
        section[key] = short
    if new:
        columns["rename"] = {**renamed, **new}
    by_name = {name: short for short, name in columns.get("rename", {}).items() if isinstance(name, str)}
    quality = document.get("quality")
    for expectation in _tables(quality.get("expectation") if isinstance(quality, dict) else None):
        for arguments in _tables([expectation.get("kwargs")]):
            for key in EXPECTED_COLUMNS:
                if isinstance(arguments.get(key), str):
                    arguments[key] = by_name.get(arguments[key], arguments[key])
    return document


def _tables(value: Any) -> list[dict[str, Any]]:
    """Return the tables in a list that may be anything."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
