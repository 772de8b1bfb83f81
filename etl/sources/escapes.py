"""Escapes of JSON and HTML in raw records, which may hide personal data."""

import html
import re

ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')


ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def unescaped(raw: bytes) -> str:
    """Return the text of a raw record with the escapes of JSON or HTML resolved."""
    text = html.unescape(ESCAPE.sub(_unescaped, raw.decode("utf-8", "backslashreplace")))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(match: "re.Match[str]") -> str:
    code, letter = match.groups()
    return ESCAPED.get(letter, letter) if code is None else chr(int(code, 16))
