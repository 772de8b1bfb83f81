"""Notations of numbers and moments that sources and normalisers both accept."""

import re

# Date and time as ISO 8601 writes them; `datetime.fromisoformat`, which reads them, lets any character stand for the T.
ISO_8601 = re.compile(
    r"\d{4}-?(?:\d{2}-?\d{2}|W\d{2}(?:-?\d)?)(?:[T ]\d{2}[\d:.,]*(?:Z|[+-]\d{2}[\d:]*)?)?", re.ASCII
)


DECIMAL = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
