"""Unicode normalisation, control characters, white space."""

import re
import unicodedata

from etl.rules.registry import Edit
from etl.rules.signs import BEYOND_ASCII, PERHAPS_INVISIBLE, Flags, Signs
from schemas.cleaning import ControlCharactersRule, UnicodeRule, WhiteSpaceRule

LINE_BREAKS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Line ends beside LF: they become LF, since words on both sides of them belong apart."""
# Invisible characters without meaning in running text: soft hyphen, zero-width space, word joiner, byte order mark, and
# those that change the direction of writing. The (non-)joiners U+200C and U+200D stay: some scripts need them.
INVISIBLE = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"

INDENTED = re.compile(r"\n(?: {2}|\t)[ \t]*(?=\S)")


class NormaliseUnicode(Edit):
    """Edit that brings the text into a normalisation form (Unicode Standard Annex 15); counts 1 for a changed text."""

    # The characters before U+0300 are their own NFC; in UTF-8 all others begin with a byte from here on.
    NFC_CHANGES_FROM = 0xCC

    def __init__(self, settings: UnicodeRule) -> None:
        self.form = settings.form

    def may_concern(self, signs: Signs) -> Flags:
        return signs.any_of(range(self.NFC_CHANGES_FROM, 256) if self.form == "NFC" else BEYOND_ASCII)

    def apply(self, text: str) -> tuple[str, int]:
        if text.isascii() or unicodedata.is_normalized(self.form, text):
            return text, 0
        return unicodedata.normalize(self.form, text), 1


class RemoveControlCharacters(Edit):
    """Edit that removes control and invisible characters, except those in `keep`; line breaks become LF."""

    def __init__(self, settings: ControlCharactersRule) -> None:
        kept = re.escape(settings.keep)
        keeps = rf"(?![{kept}])" if kept else ""
        breaks = rf"{keeps}(?:\r\n|[{LINE_BREAKS}])"
        self.ascii = bytes(code for code in (*range(32), 127) if chr(code) not in settings.keep)
        self.any = re.compile(rf"({breaks})|{keeps}[\x00-\x1f\x7f-\x9f{INVISIBLE}]")

    def may_concern(self, signs: Signs) -> Flags:
        return signs.any_of(self.ascii + PERHAPS_INVISIBLE)

    def apply(self, text: str) -> tuple[str, int]:
        if text.isascii():  # most texts have nothing to remove, which this shows ten times faster
            encoded = text.encode("ascii")
            if len(encoded.translate(None, self.ascii)) == len(encoded):
                return text, 0
        return self.any.subn(_line_break_or_nothing, text)


def _line_break_or_nothing(match: "re.Match[str]") -> str:
    return "\n" if match.group(1) is not None else ""


class NormaliseWhiteSpace(Edit):
    """Edit that collapses white space within lines, trims lines and the text, and limits consecutive blank lines."""

    # ASCII white space except spaces and line feeds.
    OTHERS = bytes(code for code in range(128) if chr(code).isspace() and chr(code) not in " \n")

    def __init__(self, settings: WhiteSpaceRule) -> None:
        self.breaks = re.compile(rf"\r\n|[{LINE_BREAKS}]")
        self.runs = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
        self.blank_lines = re.compile(rf"\n{{{settings.blank_lines + 2},}}")
        self.few = "\n" * (settings.blank_lines + 1)
        self.many = self.few + "\n"
        self.line_feeds = settings.blank_lines + 1

    def may_concern(self, signs: Signs) -> Flags:
        return signs.any_of(self.OTHERS + PERHAPS_INVISIBLE) | signs.runs_of_white_space(self.line_feeds)

    def apply(self, text: str) -> tuple[str, int]:
        count = 0
        if not self._is_plain(text):
            text, breaks = self.breaks.subn("\n", text)
            text, runs = self.runs.subn(" ", text)
            count = breaks + runs
        count += text.count(" \n")
        text = text.replace(" \n", "\n")
        count += text.count("\n ")
        text = text.replace("\n ", "\n")
        blanks = 0
        if self.many in text:  # a plain search first, which is much faster
            text, blanks = self.blank_lines.subn(self.few, text)
        stripped = text.strip(" \n")
        return stripped, count + blanks + (len(stripped) < len(text))

    def noted(self, text: str) -> tuple[str, int] | None:
        """Return the lines whose indentation is removed: two blanks or more, or a tab."""
        if "\n  " not in text and "\n\t" not in text:  # far faster than the pattern
            return None
        lines = len(INDENTED.findall(text))
        return ("indentation", lines) if lines else None

    def _is_plain(self, text: str) -> bool:
        """Return True for ASCII whose white space is line feeds and single spaces: most text, and cheap to tell."""
        if not text.isascii() or "  " in text:
            return False
        encoded = text.encode("ascii")
        return len(encoded.translate(None, self.OTHERS)) == len(encoded)


RULES = {
    "unicode": NormaliseUnicode,
    "control_characters": RemoveControlCharacters,
    "white_space": NormaliseWhiteSpace,
}
