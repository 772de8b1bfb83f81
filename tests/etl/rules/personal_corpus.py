"""Sentences that each contain one piece of personal data of a known kind, or something that only looks like it."""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import phonenumbers
from stdnum import iban, luhn
from stdnum.mx import curp, rfc

from etl.rules.national_ids import KINDS

CHECKED = {kind.name: kind for kind in KINDS}
WORDS = [
    "please",
    "send",
    "the",
    "papers",
    "before",
    "noon",
    "we",
    "met",
    "again",
    "near",
    "the",
    "old",
    "station",
    "and",
    "agreed",
    "on",
    "a",
    "new",
    "plan",
    "for",
    "the",
    "garden",
    "the",
    "committee",
    "reads",
    "every",
    "letter",
    "twice",
    "while",
    "nobody",
    "else",
    "is",
    "looking",
    "la",
    "factura",
    "llega",
    "mañana",
    "con",
    "los",
    "datos",
    "del",
    "cliente",
    "o",
    "contrato",
    "foi",
    "assinado",
    "ontem",
    "pelo",
    "comprador",
]


@dataclass(frozen=True)
class Sentence:
    text: str
    kind: str | None
    """Kind of personal data; None for a look-alike."""
    value: str


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def filled(rng: random.Random, form: str) -> str:
    """Replace `#` by a digit and `@` by a capital letter."""
    letters = {"#": "0123456789", "@": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    return "".join(rng.choice(letters[sign]) if sign in letters else sign for sign in form)


def right(rng: random.Random, kind: str, *forms: str) -> str:
    """Return a number of one of these forms with valid check digits."""
    check = CHECKED[kind].is_valid
    while True:
        number = filled(rng, rng.choice(forms))
        if check is None or check(number):
            return number


def date(rng: random.Random) -> str:
    return f"{rng.randrange(40, 100)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"


def a_curp(rng: random.Random) -> str:
    while True:
        body = filled(
            rng, f"@{rng.choice('AEIOU')}@@{date(rng)}{rng.choice('HM')}{rng.choice(['DF', 'JC', 'NL'])}"
        )
        body += "".join(rng.choices("BCDFGHJKLMNPQRSTVWXYZ", k=3)) + "0"
        number = body + curp.calc_check_digit(body)
        if curp.is_valid(number):
            return number


def an_rfc(rng: random.Random) -> str:
    while True:
        body = filled(rng, f"@@@@{date(rng)}@#")
        number = body + rfc.calc_check_digit(body)
        if rfc.is_valid(number, validate_check_digits=True):
            return number


def an_iban(rng: random.Random) -> str:
    country, form = rng.choice(
        [("DE", "#" * 18), ("GB", "@@@@" + "#" * 14), ("NL", "@@@@" + "#" * 10), ("AT", "#" * 16)]
    )
    body = filled(rng, form)
    number = country + iban.calc_check_digits(f"{country}00{body}") + body
    if rng.random() < 0.5:
        return number
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def a_card(rng: random.Random) -> str:
    body = rng.choice(["4", "51", "55"])
    body += digits(rng, 15 - len(body))
    number = body + luhn.calc_check_digit(body)
    separator = rng.choice(["", " ", "-"])
    return separator.join(number[i : i + 4] for i in range(0, 16, 4))


def a_phone(rng: random.Random) -> str:
    while True:
        number = phonenumbers.parse(
            f"+1{rng.choice(['212', '415', '650', '303'])}{rng.randrange(2, 9)}{digits(rng, 6)}"
        )
        if phonenumbers.is_valid_number(number):
            style = rng.choice(
                [phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.NATIONAL]
            )
            return str(phonenumbers.format_number(number, style))


def a_phone_of(rng: random.Random, region: str) -> str:
    """Return a number of a region's fixed or mobile network, in its national or the international notation."""
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
    styles = (phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.NATIONAL)
    example = phonenumbers.example_number_for_type(region, rng.choice(kinds))
    assert example is not None
    national = str(example.national_number)
    while True:
        number = phonenumbers.parse(f"+{example.country_code}{national[:-6]}{digits(rng, 6)}")
        if phonenumbers.is_valid_number(number):
            return str(phonenumbers.format_number(number, rng.choice(styles)))


def an_ip(rng: random.Random) -> str:
    return ".".join(str(rng.randrange(20, 250)) for _ in range(4))


def an_email(rng: random.Random) -> str:
    host, end = rng.choice(["mail", "post", "web"]), rng.choice(["org", "co.uk"])
    return f"{rng.choice(WORDS[:40])}.{digits(rng, 2)}@{host}.example.{end}"


PLANTED: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "email": lambda rng: ("", an_email(rng)),
    "phone": lambda rng: (rng.choice(["call ", "tel. ", ""]), a_phone(rng)),
    "ip": lambda rng: (rng.choice(["from ", "host ", ""]), an_ip(rng)),
    "iban": lambda rng: (rng.choice(["IBAN ", "to ", ""]), an_iban(rng)),
    "card": lambda rng: (rng.choice(["card ", ""]), a_card(rng)),
    "curp": lambda rng: (rng.choice(["CURP ", ""]), a_curp(rng)),
    "rfc": lambda rng: (rng.choice(["RFC: ", ""]), an_rfc(rng)),
    "cpf": lambda rng: rng.choice(
        [("", right(rng, "cpf", "###.###.###-##")), ("CPF ", right(rng, "cpf", "###########"))]
    ),
    "cnpj": lambda rng: rng.choice(
        [("", right(rng, "cnpj", "##.###.###/0001-##")), ("CNPJ: ", right(rng, "cnpj", "########0001##"))]
    ),
    "rut": lambda rng: rng.choice(
        [("", right(rng, "rut", "1#.###.###-#")), ("RUT ", right(rng, "rut", "1#######-#"))]
    ),
    "cuit": lambda rng: rng.choice(
        [("", right(rng, "cuit", "20-########-#")), ("CUIT ", right(rng, "cuit", "27#########"))]
    ),
    "dni": lambda rng: ("DNI ", right(rng, "dni", "3#.###.###", "3#######")),
    "nit": lambda rng: rng.choice(
        [("", right(rng, "nit", "8##.###.###-#")), ("NIT ", right(rng, "nit", "8########-#"))]
    ),
    "cedula_co": lambda rng: ("C.C. ", right(rng, "cedula_co", "1.0##.###.###", "5#.###.###")),
    "cedula_ec": lambda rng: ("cédula ", right(rng, "cedula_ec", "17########", "17#######-#")),
    "ruc_ec": lambda rng: ("RUC ", right(rng, "ruc_ec", "179#######001")),
    "ruc_pe": lambda rng: ("RUC ", right(rng, "ruc_pe", "20#########")),
    "ruc_py": lambda rng: ("RUC: ", right(rng, "ruc_py", "8#######-#")),
    "nif": lambda rng: (rng.choice(["NIF ", ""]), right(rng, "nif", "5#######@")),
    "nie": lambda rng: (rng.choice(["NIE ", ""]), right(rng, "nie", "X#######@", "Y-#######-@")),
    "ssn": lambda rng: (rng.choice(["SSN ", ""]), right(rng, "ssn", "5##-##-####")),
}
"""Text before the number, and the number, by kind."""

LOOK_ALIKES: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"order {digits(rng, rng.randrange(8, 15))}",
    lambda rng: f"invoice no. {filled(rng, '@@-########')}",
    lambda rng: f"tracking {filled(rng, '@@#########@@')}",
    lambda rng: f"version {rng.randrange(30)}.{rng.randrange(30)}.{rng.randrange(30)}.{rng.randrange(3000)}",
    lambda rng: f"v{rng.randrange(9)}.{rng.randrange(20)}.{rng.randrange(99)}",
    lambda rng: f"{rng.randrange(1950, 2030)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
    lambda rng: f"{rng.randrange(1, 29):02}.{rng.randrange(1, 13):02}.{rng.randrange(1950, 2030)}",
    lambda rng: (
        f"{rng.randrange(1950, 2030)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}T{digits(rng, 6)}"
    ),
    lambda rng: f"{rng.randrange(1, 99)}.{digits(rng, 3)}.{digits(rng, 3)},{digits(rng, 2)} pesos",
    lambda rng: f"ISBN 978-{rng.randrange(10)}-{digits(rng, 2)}-{digits(rng, 6)}-{rng.randrange(10)}",
    lambda rng: f"batch {filled(rng, '@##########@')}",
    lambda rng: f"part {filled(rng, '####-@@-###')}",
    lambda rng: f"@{rng.choice(WORDS)} wrote",
    lambda rng: f"section {rng.randrange(1, 9)}.{rng.randrange(1, 20)}.{rng.randrange(1, 20)}",
    lambda rng: f"the file {filled(rng, '################')}.bin",
    lambda rng: f"timestamp {rng.randrange(10**9, 2 * 10**9)}",
    lambda rng: f"bar code {digits(rng, 13)}",
    lambda rng: f"IMEI {digits(rng, 15)}",
    lambda rng: f"ZIP {digits(rng, 5)}-{digits(rng, 4)}",
    lambda rng: f"doi:10.{digits(rng, 4)}/{digits(rng, 7)}",
    lambda rng: str(uuid.UUID(int=rng.getrandbits(128))),
    lambda rng: f"commit {rng.getrandbits(160):040x}",
    lambda rng: f"${rng.randrange(1, 999)},{digits(rng, 3)},{digits(rng, 3)}",
    lambda rng: f"at {rng.randrange(24)}:{rng.randrange(60):02}:{rng.randrange(60):02}.{digits(rng, 6)}",
    lambda rng: f"{rng.randrange(1, 13)}/{rng.randrange(1, 29)}/{rng.randrange(1950, 2030)}",
    lambda rng: f"pages {rng.randrange(100, 400)}-{rng.randrange(400, 999)}",
    lambda rng: f"https://example.org/item/{digits(rng, 10)}",
    lambda rng: f"a share of {rng.random():.9f}",
    lambda rng: f"#{digits(rng, 9)}",
    lambda rng: f"item {digits(rng, 10)}",
    lambda rng: f"coordinates {rng.randrange(90)}.{digits(rng, 6)}, {rng.randrange(180)}.{digits(rng, 6)}",
)


def sentence(rng: random.Random, middle: str) -> str:
    before, after = (" ".join(rng.choices(WORDS, k=rng.randrange(3, 9))) for _ in range(2))
    return f"{before} {middle}{rng.choice([',', '.', '', ';'])} {after}"


def corpus(seed: int, of_each_kind: int, look_alikes: int) -> list[Sentence]:
    """Return sentences in random order; the same seed gives the same ones."""
    rng = random.Random(seed)
    found = []
    for kind, make in PLANTED.items():
        for _ in range(of_each_kind):
            before, value = make(rng)
            found.append(Sentence(sentence(rng, before + value), kind, value))
    for _ in range(look_alikes):
        value = rng.choice(LOOK_ALIKES)(rng)
        found.append(Sentence(sentence(rng, value), None, value))
    rng.shuffle(found)
    return found
