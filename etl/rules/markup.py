"""Left-overs of HTML: tags, comments, character references.

Only what is surely mark-up goes. `<year>` or `<name of author>` (names that HTML does not have), `<https://…>`,
`<someone@example.org>`, `vector<b>` and `#include <map>` stay.
"""

import html
import re

from etl.rules.registry import Edit
from schemas.settings import MarkupRule

# Elements that begin a line of their own: their tags become a line break, those of cells a space, all others nothing.
BLOCKS = frozenset(
    """
    address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li main menu nav ol optgroup option p pre section
    summary table tbody tfoot thead title tr ul
    """.split()
)
CELLS = frozenset({"td", "th"})
INLINE = frozenset(
    """
    a abbr acronym area audio b base basefont bdi bdo big blink button canvas cite code col colgroup data datalist del
    dfn em embed font frame frameset i iframe img input ins kbd label link map mark marquee meta meter nobr noframes
    noscript object output param picture progress q rp rt ruby s samp script select slot small source span strike
    strong style sub sup svg template textarea time track tt u var video wbr
    """.split()
)
# Bare tags that stand alone in HTML, their end being optional or not existing; others only count in pairs, because
# `<title>` or `<address>` alone is as likely a blank to be filled in.
ALONE = (
    frozenset({"br", "hr", "wbr", "p", "li", "dd", "dt", "body", "html", "head", "tbody", "thead", "tr"})
    | CELLS
)

_NAMES = "|".join(sorted(BLOCKS | CELLS | INLINE, key=lambda name: (-len(name), name)))
TAG = re.compile(rf"(\w?)<(/?)({_NAMES})(\s[^<>]{{0,2000}}|/)?>", re.IGNORECASE)
ATTRIBUTE = re.compile(r"[\w:-]\s*=")
# What a comment, declaration, script or style sheet holds is no text either. The ends are found by `str.find`.
BEGINNING = re.compile(r"<!--|<!doctype\b|<\?xml\b|<(script|style)(?:\s[^<>]{0,2000})?>", re.IGNORECASE)
REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


class RemoveMarkup(Edit):
    """Removes tags and comments, then resolves character references (once: `&amp;lt;` becomes `&lt;`)."""

    def __init__(self, settings: MarkupRule) -> None:
        self.entities = settings.entities

    def apply(self, text: str) -> tuple[str, int]:
        count = 0
        if "<" in text:
            text, count = _without_sections(text)
            text, tags = _without_tags(text)
            count += tags
        if self.entities and "&" in text:
            text, references = _resolve(text)
            count += references
        return text, count


def _without_sections(text: str) -> tuple[str, int]:
    """Without comments, declarations, scripts and style sheets that are closed; what is not closed stays."""
    kept: list[str] = []
    place, count, lower = 0, 0, ""
    missing: set[str] = set()  # ends that do not occur any more, so that each is looked for once at most
    for match in BEGINNING.finditer(text):
        if match.start() < place:
            continue
        opening = match.group().lower()
        name = match.group(1)
        end = (
            "-->"
            if opening == "<!--"
            else "?>"
            if opening == "<?xml"
            else f"</{name.lower()}>"
            if name
            else ">"
        )
        if end in missing:
            continue
        if name and not lower:
            lower = text.lower() if text.isascii() else text
        closed = (lower if name else text).find(end, match.end())
        if closed < 0:
            missing.add(end)
            continue
        kept.append(text[place : match.start()])
        place = closed + len(end)
        count += 1
    return ("".join([*kept, text[place:]]), count) if count else (text, 0)


def _without_tags(text: str) -> tuple[str, int]:
    found = list(TAG.finditer(text))
    if not found:
        return text, 0
    opened = {m.group(3).lower() for m in found if not m.group(2)}
    closed = {m.group(3).lower() for m in found if m.group(2)}
    kept: list[str] = []
    place = count = 0
    for match in found:
        before, slash, name, rest = (
            match.group(1),
            match.group(2),
            match.group(3).lower(),
            match.group(4) or "",
        )
        paired = name in closed and name in opened
        # An attribute, or the slash of XHTML, makes it a tag; so does a partner, unless it looks like a C++ template.
        sure = bool(ATTRIBUTE.search(rest)) or paired or (rest == "/" and not slash)
        if not sure and not (name in ALONE and not before and not rest.strip()):
            continue
        kept += [
            text[place : match.start()],
            before,
            "\n" if name in BLOCKS else " " if name in CELLS else "",
        ]
        place = match.end()
        count += 1
    return ("".join([*kept, text[place:]]), count) if count else (text, 0)


def _resolve(text: str) -> tuple[str, int]:
    count = 0

    def character(match: "re.Match[str]") -> str:
        nonlocal count
        resolved = html.unescape(match.group())
        if resolved == match.group():
            return resolved
        count += 1
        # A reference can stand for a control character; the rule for those has been applied already.
        return resolved if resolved.isprintable() or resolved in "\n\t\u00a0" else " "

    return REFERENCE.sub(character, text), count


RULES = {"markup": RemoveMarkup}
