"""Numbers that also exist as telephone numbers, but whose surroundings show that they are something else.

Better to mask one number too many than to leak one: a number with `+` or a parenthesis, or behind a word that
announces a telephone number, always counts as one; and most of the tests below apply to plain digits only.
"""

import re
from collections.abc import Sequence

BEFORE, AFTER = 80, 12
"""Characters to inspect around a number."""
OF_AN_ADDRESS = 200
"""Characters before a number in which a web address may begin."""

FOUR_NUMBERS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
DATE = re.compile(
    r"(?:0?[1-9]|[12]\d|3[01])([./-])(?:0?[1-9]|1[0-2])\1(?:19|20)\d\d"
    r"|(?:19|20)\d\d([./-])(?:0?[1-9]|1[0-2])\2(?:0?[1-9]|[12]\d|3[01])"
)
ANNOUNCED = re.compile(
    r"(?:phone|fone|fono|telef|\btel|\btlf|\btfno|mobil|m[oó]vil|\bmob\b|\bcel|\bfax|\bsms\b|call|dial|\bring\b|whats|"
    r"\bwpp|wa\.me|t\.me|signal|telegram|contact|reach|llam|lig(?:ar|ue)|\bhome|\bwork|\bhotline|n[uú]mero)[^\n]{0,24}\Z",
    re.IGNORECASE,
)
# Words after which four numbers are a version, a section or an identifier.
NUMBERED = re.compile(
    r"(?:\b(?:versions?|ver|v|releases?|rel|revisions?|rev|builds?|sections?|sec|clauses?|paragraphs?|articles?|chapters?|"
    r"appendix|oid)\b|§)[\s.:,#(-]{0,4}\Z",
    re.IGNORECASE,
)
COORDINATES = re.compile(
    r"\b(?:coordinates?|coords?|lat|latitude|lon|long|longitude|gps)\b[\s:=(]{0,4}(?:-?\d{1,3}\.\d+[\s,;/]{1,3})?-?\Z",
    re.IGNORECASE,
)
SUM = re.compile(r"\d{1,3}(?:\.\d{3})+")
CURRENCY_BEFORE = re.compile(r"(?:[$€£]|\b(?:R\$|S/|USD|EUR|MXN|BRL|ARS|CLP|COP|PEN|PYG))\s?\Z")
CURRENCY_AFTER = re.compile(
    r",\d{1,2}\s?(?:[$€£]|pesos|euros?|reais|soles|d[oó]lares|guaran[ií]es|[A-Z]{3}\b)"
)
FRACTION_BEFORE = re.compile(r"(?<![\d.])0\.\Z")
TIME_BEFORE = re.compile(r"\b\d{1,2}:\d\d:\Z")
# An address ends where JSON, CSV or HTML would end it.
REST = r"[^\s\"'<>|,;{}()\[\]]*\Z"
ADDRESS = re.compile(rf"(?:://|\bwww\.){REST}")
DOCUMENT = re.compile(rf"\b(?:doi:|doi\.org/){REST}", re.IGNORECASE)
HASH_BEFORE = re.compile(r"(?<!\w)#\Z")
# Of these words the plural may head a list of numbers to call (`Orders: …`), and so may `to order`.
COUNTED = re.compile(
    r"\b(?<!\bto )(?:order|invoice|receipt|tracking|ticket|item|serial|batch|bar ?code|lot|isbn|issn|ean|upc|sku|imei|"
    r"timestamp|epoch|zip|factura|bestellung|rechnung)\b[\s.:,(-]{0,3}(?:#|(?:no|nr|num|number|n[ºo°])\b[\s.:,#(-]{0,3})?"
    r"(?:[A-Z]{1,4}-)?\Z",
    re.IGNORECASE,
)
# These are also other words, or may stand before any number: only with a sign that says that they are counted.
COUNTED_BY_SIGN = re.compile(
    r"\b(?:case|part|ref|id|pedido|expediente)\b[\s.:,(-]{0,3}(?:#|(?:no\.|nr\.?|num\.?|number|n[º°])[\s.:,#(-]{0,3})\Z",
    re.IGNORECASE,
)
DOCUMENT_PREFIX = re.compile(r"(?<![A-Za-z])(?:INV|PO|SO|SKU|REF|RMA|ORD|DOC|TKT|BUG|CVE|RFC|ISO)-\Z")
ZIP_PLUS_4 = re.compile(r"\d{5}-\d{4}")


def is_no_phone(number: str, text: str, start: int, end: int, own: Sequence[re.Pattern[str]] = ()) -> bool:
    """Return True where `number`, a possible telephone number at text[start:end], is something else.

    A match of one of the user's `own` patterns that covers it decides, even behind a word that announces a number.
    """
    if FOUR_NUMBERS.fullmatch(number) or DATE.fullmatch(number):
        return True
    begin = max(start - BEFORE, 0)
    around = text[begin : end + AFTER]
    for match in (match for pattern in own for match in pattern.finditer(around)):
        if match.start() <= start - begin and match.end() >= end - begin:
            return True
    before = text[begin:start]
    if "+" in number or "(" in number or ANNOUNCED.search(before):
        return False
    if SUM.fullmatch(number):
        after = text[end : end + AFTER]
        if CURRENCY_AFTER.match(after) or CURRENCY_BEFORE.search(before):
            return True
    if number.count(".") > 1 and NUMBERED.search(before):
        return True
    if number.count(".") == 1 and (number.startswith("0.") or COORDINATES.search(before)):
        return True
    if TIME_BEFORE.search(before) or DOCUMENT.search(before):
        return True
    if ZIP_PLUS_4.fullmatch(number):
        return COUNTED.search(before) is not None
    if not number.isdecimal():
        return False
    signs = (FRACTION_BEFORE, HASH_BEFORE, COUNTED, COUNTED_BY_SIGN, DOCUMENT_PREFIX)
    return any(sign.search(before) for sign in signs) or (
        ADDRESS.search(text[max(start - OF_AN_ADDRESS, 0) : start]) is not None
    )
