"""Remains of HTML: tags, comments, character references.

Only certain mark-up is removed. `<year>` or `<name of author>` (names that HTML does not have), `<https://…>`,
`<someone@example.org>`, `vector<b>` and `#include <map>` stay.
"""

import html
import re

from etl.rules.registry import Edit
from etl.rules.signs import Flags, Signs
from schemas.cleaning import MarkupRule


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elements that begin a line of their own: their tags become a line break, those of cells a space, all others nothing.
BLOCKS = _words("""
    address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li main menu nav ol optgroup option p pre section
    summary table tbody tfoot thead title tr ul
""")
CELLS = frozenset({"td", "th"})
INLINE = _words("""
    a abbr acronym area audio b base basefont bdi bdo big blink button canvas cite code col colgroup data datalist del
    dfn em embed font frame frameset i iframe img input ins kbd label link map mark marquee meta meter nobr noframes
    noscript object output param picture progress q rp rt ruby s samp script select slot small source span strike
    strong style sub sup svg template textarea time track tt u var video wbr
""")
# Bare tags that stand alone in HTML, their end being optional or not existing; others only count in pairs, because
# `<title>` or `<address>` alone is as likely a blank to be filled in.
VOID = frozenset({"br", "hr", "wbr"})
ALONE = VOID | CELLS | {"p", "li", "dd", "dt", "body", "html", "head", "tbody", "thead", "tr"}

_NAMES = "|".join(sorted(BLOCKS | CELLS | INLINE, key=lambda name: (-len(name), name)))
TAG = re.compile(rf"<(/?)({_NAMES})(\s[^<>]{{0,2000}}|/)?>", re.IGNORECASE)
ATTRIBUTE = re.compile(r"[\w:-]\s*=")
# What a declaration, script or style sheet holds is no text either; that of a comment is. The ends are found by `find`.
BEGINNING = re.compile(r"<!--|<!doctype\b|<\?xml\b|<(script|style)(?:\s[^<>]{0,2000})?>", re.IGNORECASE)
ENDS = {"<!--": "-->", "<!doctype": ">", "<?xml": "?>"}
REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


class RemoveMarkup(Edit):
    """Edit that removes tags, declarations and comment signs, then resolves character references.

    References are resolved once: `&amp;lt;` becomes `&lt;`.
    """

    def __init__(self, settings: MarkupRule) -> None:
        self.entities = settings.entities

    def may_concern(self, signs: Signs) -> Flags:
        return signs.any_of(b"<&" if self.entities else b"<")

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
    """Remove declarations, scripts, style sheets and comment signs; leave unclosed ones.

    Return the text and a count.
    """
    kept: list[str] = []
    place = count = 0
    missing: set[str] = set()  # ends that do not occur any more, so that each is looked for once at most
    for match in BEGINNING.finditer(text):
        if match.start() < place:
            continue
        opening, name = match.group().lower(), match.group(1)
        end = f"</{name.lower()}>" if name else ENDS[opening]
        if end in missing:
            continue
        closed = _find(text, end, match.end())
        if closed < 0:
            missing.add(end)
            continue
        kept.append(text[place : match.start()])
        if opening == "<!--":
            kept.append(text[match.end() : closed])
        place = closed + len(end)
        count += 1
    return ("".join([*kept, text[place:]]), count) if count else (text, 0)


def _find(text: str, end: str, start: int) -> int:
    """Return the position of `end`, in upper or lower case, from `start` on; -1 where there is none."""
    found = re.compile(re.escape(end), re.IGNORECASE).search(text, start)
    return -1 if found is None else found.start()


def _without_tags(text: str) -> tuple[str, int]:
    found = list(TAG.finditer(text))
    if not found:
        return text, 0
    opened = {match.group(2).lower() for match in found if not match.group(1)}
    closed = {match.group(2).lower() for match in found if match.group(1)}
    kept: list[str] = []
    place = count = 0
    for match in found:
        slash, name, rest = match.group(1), match.group(2).lower(), (match.group(3) or "").strip()
        # An attribute, the slash of XHTML or a partner make it a tag; right behind a word it may be a C++ template.
        sure = (
            bool(ATTRIBUTE.search(rest)) or (rest == "/" and not slash) or (name in opened and name in closed)
        )
        behind_word = text[match.start() - 1 : match.start()].isalnum()
        template = behind_word and not slash and name not in VOID
        if not sure and (name not in ALONE or template or rest):
            continue
        kept += [text[place : match.start()], "\n" if name in BLOCKS else " " if name in CELLS else ""]
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
