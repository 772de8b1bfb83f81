"""National numbers of people and firms, recognised by their check digits (`python-stdnum`).

A number counts where its check digits are right *and* either it is written in the country's own way
(`123.456.789-09`), or its name stands before it (`CPF 12345678909`): of any eleven digits every hundredth has the check
digits of a CPF. Numbers that have no check digits (Argentina's DNI, Colombia's cédula) always need the name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from stdnum.ar import cuit
from stdnum.br import cnpj, cpf
from stdnum.cl import rut
from stdnum.co import nit
from stdnum.ec import ci as ec_ci
from stdnum.ec import ruc as ec_ruc
from stdnum.es import nie, nif
from stdnum.mx import curp, rfc
from stdnum.pe import ruc as pe_ruc
from stdnum.py import ruc as py_ruc
from stdnum.us import ssn

from etl.rules.personal_data import FILE_ENDING, Match, PersonalData, has_digits, rule_maker
from etl.rules.signs import Flags, Signs
from schemas.cleaning import NationalIdRule

# A comma is none of the signs between which a number is part of a longer one: in CSV it stands right beside it. A full
# stop behind it may end a sentence, and one before it an abbreviation (`C.C.52123456`, `no.`); that has a search of its
# own, since a second look back in sixteen patterns costs more than all else.
BEFORE, AFTER = r"(?<![\w./+\-])", r"(?!\w|[./\-]\d|-\w)"
ABBREVIATION = re.compile(r"\.(?:(?<=\.[A-Z]\.)|(?<=\b[Nn][oOrR]\.))(?=\w)")
NEAR = 40
"""Characters before a number to search for its name, and what may stand between the two."""
BETWEEN = r"(?:[ \t]|[:=#]|n[º°o.]{1,2}|n[uú]m(?:ero|\.)?|number|nr\.?|is|es)*\Z"
FEWEST_DIGITS = 6  # Paraguay's RUC


@dataclass(frozen=True)
class Kind:
    """National number. `own` and `plain` are regular expressions of its notations."""

    name: str
    country: str
    is_valid: Callable[[str], bool] | None
    """Validation of the check digits; None where there are none."""
    own: str | None
    """The country's own notation, in which nothing else is written."""
    plain: str
    """Any notation; this needs the name before it."""
    names: str
    pattern: "re.Pattern[str]" = field(init=False, compare=False)
    abbreviated: "re.Pattern[str]" = field(init=False, compare=False)
    """Notation right behind an abbreviation."""
    named: "re.Pattern[str]" = field(init=False, compare=False)

    def __post_init__(self) -> None:
        own = f"({self.own})|" if self.own is not None else "(?!)()|"
        number = f"(?:{own}{self.plain}){AFTER}"
        object.__setattr__(self, "pattern", re.compile(BEFORE + number))
        object.__setattr__(self, "abbreviated", re.compile(number))
        named = re.compile(rf"(?<!\w)(?:{self.names})(?:(?<=\.)|(?!\w)){BETWEEN}", re.IGNORECASE)
        object.__setattr__(self, "named", named)


def _is_rfc(value: str) -> bool:
    return bool(rfc.is_valid(value, validate_check_digits=True))


KINDS = (
    Kind("curp", "MX", curp.is_valid, r"[A-Z][AEIOUX][A-Z]{2}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", r"(?!)", "CURP"),
    Kind("rfc", "MX", _is_rfc, r"[A-ZÑ&]{3,4}[ \-]?\d{6}[ \-]?[0-9A-Z]{2}[0-9A]", r"(?!)", "RFC"),
    Kind("cnpj", "BR", cnpj.is_valid, r"\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}", r"\d{14}", "CNPJ"),
    Kind("cpf", "BR", cpf.is_valid, r"\d{3}\.\d{3}\.\d{3}-\d{2}", r"\d{9}-?\d{2}", "CPF"),
    Kind("nit", "CO", nit.is_valid, r"\d{3}\.\d{3}\.\d{3}-\d", r"\d{8,9}-?\d", "NIT"),
    Kind("cuit", "AR", cuit.is_valid, r"\d{2}-\d{8}-\d", r"\d{11}", "CUIT|CUIL"),
    Kind(
        "rut",
        "CL",
        rut.is_valid,
        r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]",
        r"\d{7,8}-?[\dkK]",
        r"RUT|RUN|R\.U\.[TN]\.?",
    ),
    Kind("dni", "AR", None, None, r"\d{1,2}\.\d{3}\.\d{3}|\d{7,8}", r"DNI|D\.N\.I\.?"),
    Kind("cedula_ec", "EC", ec_ci.is_valid, None, r"\d{9}-?\d", r"c[eé]dula|C\.?I\.?"),
    Kind("ruc_ec", "EC", ec_ruc.is_valid, None, r"\d{13}", r"RUC|R\.U\.C\.?"),
    Kind(
        "cedula_co",
        "CO",
        None,
        None,
        r"\d{1,3}\.\d{3}\.\d{3}|\d\.\d{3}\.\d{3}\.\d{3}|\d{6,10}",
        r"c[eé]dula(?: de ciudadan[ií]a)?|C\.C\.|CC",
    ),
    Kind("ruc_pe", "PE", pe_ruc.is_valid, None, r"\d{11}", r"RUC|R\.U\.C\.?"),
    Kind("ruc_py", "PY", py_ruc.is_valid, None, r"\d{5,8}-\d", r"RUC|R\.U\.C\.?"),
    Kind("nie", "ES", nie.is_valid, r"[XYZ]-?\d{7}-?[A-Z]", r"(?!)", "NIE"),
    Kind(
        "nif",
        "ES",
        nif.is_valid,
        r"\d{8}-?[A-Z]|[KLM]\d{7}[A-Z]",
        r"[A-HJ-NP-SUVW]-?\d{7}-?[0-9A-J]",
        r"NIF|CIF|DNI|N\.I\.F\.?|C\.I\.F\.?",
    ),
    Kind("ssn", "US", ssn.is_valid, r"\d{3}-\d{2}-\d{4}", r"\d{9}", r"SSN|social security"),
)
"""In order of trial: where two kinds fit, the first counts."""


class NationalIds(PersonalData):
    """Numbers of the configured countries."""

    kind = "id"
    kinds = tuple(kind.name for kind in KINDS)

    def __init__(self, settings: NationalIdRule) -> None:
        super().__init__(settings)
        self.wanted = tuple(kind for kind in KINDS if kind.country in settings.countries)

    def may_concern(self, signs: Signs) -> Flags:
        concerned: Flags = signs.digits >= (FEWEST_DIGITS if self.wanted else signs.sizes + 1)
        return concerned

    def find(self, text: str) -> list[Match]:
        found: list[Match] = []
        if not self.wanted or not has_digits(text, FEWEST_DIGITS):
            return found
        abbreviations = [match.end() for match in ABBREVIATION.finditer(text)]
        for kind in self.wanted:
            behind = [match for end in abbreviations if (match := kind.abbreviated.match(text, end))]
            for match in (*kind.pattern.finditer(text), *behind):
                start, end = match.span()
                own = kind.own is not None and match.group(1) is not None
                if any(start < one.end and one.start < end for one in found):
                    continue
                if match.group().isalnum() and FILE_ENDING.match(text, end):
                    continue
                if not own and kind.named.search(text, max(0, start - NEAR), start) is None:
                    continue
                if kind.is_valid is None or kind.is_valid(match.group()):
                    found.append(Match(start, end, kind.name, match.group()))
        return found

    def normal(self, value: str) -> str:
        return re.sub(r"[^0-9A-ZÑ&]", "", value.upper())


RULES = {"national_ids": rule_maker(NationalIds)}
