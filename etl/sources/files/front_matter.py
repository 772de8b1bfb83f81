"""Text files with front matter: a line `---`, a YAML mapping, a line `---`, then the text.

The mapping's keys are columns, typed as in YAML 1.1 (an unquoted `yes` is a boolean, `1.0` a number) and not coerced
further; the text below the second line goes verbatim into the column that the configuration names.
"""

import re
from collections.abc import Iterator

import yaml

from etl.sources.content.streams import MAX_RECORD_BYTES
from etl.sources.contract import Contract, Moment, NotScalar, Number
from etl.sources.files.formats import (
    FilePart,
    Found,
    Rejected,
    Skipped,
    SourceFormat,
    damaged,
    decode,
    read_bounded,
    rejected,
)
from schemas.sources import SourceSettings
from schemas.sources.front_matter import FirstTrue, FrontMatter

MAX_FRONT_MATTER = 1 << 20
"""In characters. YAML takes a hundred times its length in memory; nobody writes a megabyte of it by hand."""
LIBYAML_TOO_DEEP = "exceeded maximum nesting depth"
"""What libyaml says of 1,000 levels, which it may look at before it passes the first one on."""
MAX_DEPTH = 100
"""Of nested lists and mappings: libyaml recurses on the C stack, which deep ones overflow."""
FENCE = re.compile(r"^---[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
TRUE = frozenset({"yes", "true", "on", "y"})


class FrontMatterFormat(SourceFormat):
    """`format = "front_matter"`"""

    name = "front_matter"

    def read(
        self, part: FilePart, settings: SourceSettings, contract: Contract
    ) -> Iterator[Found | Rejected | Skipped]:
        assert isinstance(settings, FrontMatter)
        stream, reader = part.open()
        raw, size = read_bounded(reader, MAX_RECORD_BYTES)
        if stream.damage is not None:
            yield damaged(stream, 0, raw)
        elif size > MAX_RECORD_BYTES:
            yield rejected(0, raw, "too_long", f"the file is longer than {MAX_RECORD_BYTES:,} bytes", size)
        else:
            yield parse_file(raw, settings)


def parse_file(raw: bytes, settings: FrontMatter) -> Found | Rejected:
    """Return the one record of a file."""
    content = decode(raw, 0)
    if isinstance(content, Rejected):
        return content
    content = content.removeprefix("\ufeff")
    opening = FENCE.match(content)
    closing = FENCE.search(content, opening.end()) if opening else None
    if opening is None or closing is None:
        missing = "does not begin with a" if opening is None else "has no second"
        return rejected(0, raw, "no_front_matter", f"the file {missing} line of three hyphens")
    if closing.start() - opening.end() > MAX_FRONT_MATTER:
        detail = f"the front matter is longer than {MAX_FRONT_MATTER:,} characters"
        return rejected(0, raw, "too_long", detail)
    values = parse_mapping(content[opening.end() : closing.start()])
    if isinstance(values, tuple):
        return rejected(0, raw, *values)
    if settings.text in values:
        detail = f"the key {settings.text!r} of the front matter is the column of the text"
        return rejected(0, raw, "duplicate_key", detail)
    text = content[closing.end() :]
    if text:
        values[settings.text] = text
    if settings.first_true is not None:
        problem = fill_first_true(values, settings.first_true)
        if problem is not None:
            return rejected(0, raw, *problem)
    return Found(0, len(raw), raw, values)


def parse_mapping(text: str) -> dict[str, object] | tuple[str, str]:
    """Return the scalars of a YAML mapping by key, or the reason and detail of its rejection.

    Only the tree of nodes is built, no Python objects: nothing is coerced, and aliases are not expanded.
    """
    too_deep = ("too_deep", f"the front matter is nested deeper than {MAX_DEPTH} levels")
    try:
        if _nested_too_deep(text):
            return too_deep
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        if getattr(error, "problem", None) == LIBYAML_TOO_DEEP:
            return too_deep
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1:,} of the front matter" if mark is not None else ""
        return "invalid_yaml", f"not YAML{place}"
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        return "invalid_yaml", "the front matter is not a mapping"
    values: dict[str, object] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in values:
            return "duplicate_key", "a key stands in the front matter more than once"
        values[key.value] = _scalar(value)
    return values


def _nested_too_deep(text: str) -> bool:
    """Return True where the text nests too deep; count levels by parser events, only where enough brackets occur."""
    if sum(map(text.count, "[{-?:")) <= MAX_DEPTH:
        return False
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return False


def _scalar(node: yaml.Node) -> object:
    if not isinstance(node, yaml.ScalarNode):
        return NotScalar()
    value: str = node.value
    match node.tag.removeprefix("tag:yaml.org,2002:"):
        case "str":
            return value
        case "null":
            return None
        case "bool":
            return value.lower() in TRUE
        case "int" | "float":
            return Number(value)
        case "timestamp":
            return Moment(value)
    return NotScalar()


def fill_first_true(values: dict[str, object], rule: FirstTrue) -> tuple[str, str] | None:
    """Add the rule's column to `values`; return a reason and a detail where the front matter has it already."""
    if rule.column in values:
        return (
            "duplicate_key",
            f"the key {rule.column!r} of the front matter is the column that `first_true` fills",
        )
    name = next((name for key, name in rule.keys.items() if values.get(key) is True), rule.otherwise)
    if name is not None:
        values[rule.column] = name
    return None


FORMAT = FrontMatterFormat()
