"""National numbers: valid and invalid ones of each kind, in every notation."""

import pytest

from etl.rules.national_ids import KINDS, NationalIds
from schemas.cleaning import COUNTRIES, Country, NationalIdRule

# kind: texts with a number that counts, texts with one that does not (a wrong digit, or no name before it)
EXAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "cpf": (
        [
            "o 390.533.447-05.",
            "CPF: 39053344705",
            "CPF nº 390533447-05",
            "no.390.533.447-05",
            "390.533.447-05.Then",
            "390.533.447-05/Juan",
            "390.533.447-05.pdf",
        ],
        ["390.533.447-06", "39053344705", "CPF 39053344706"],
    ),
    "cnpj": (["16.727.230/0001-97", "CNPJ 16727230000197"], ["16.727.230/0001-98", "16727230000197"]),
    "curp": (["BOXW310820HNERXN09"], ["BOXW310820HNERXN08", "BOXW311320HNERXN09"]),
    "rfc": (["RFC GODE561231GR8", "MAB-930714-8T4"], ["GODE561231GR9", "GODE561331GR8"]),
    "rut": (["12.531.909-2", "RUT 12531909-2", "R.U.T.: 12531909-2"], ["12.531.909-3", "12531909-2"]),
    "cuit": (["20-05536168-2", "CUIL 20055361682"], ["20-05536168-3", "20055361682", "99-05536168-2"]),
    "dni": (
        ["DNI 20.123.456", "D.N.I. n° 20123456", "dni: 20123456", "D.N.I.20123456", "DNI no.20123456"],
        ["20.123.456", "20123456", "adni 20123456"],
    ),
    "nit": (["213.123.432-1", "NIT 213123432-1", "NIT: 2131234321"], ["213.123.432-2", "213123432-1"]),
    "cedula_ec": (["cédula 171430710-3", "C.I. 1714307103"], ["cédula 1714307104", "1714307103"]),
    "ruc_ec": (["RUC 1792060346001"], ["1792060346001", "RUC 1792060347001"]),
    "ruc_pe": (["RUC: 20512333797", "R.U.C.20512333797"], ["RUC: 20512333798", "20512333797"]),
    "ruc_py": (["RUC 80028061-0"], ["RUC 80028061-1", "80028061-0"]),
    "cedula_co": (
        ["C.C. 1.020.304.050", "cédula de ciudadanía No. 52123456", "C.C.52123456"],
        ["1.020.304.050", "52123456"],
    ),
    "nif": (
        ["54362315K", "54362315-K", "CIF A13585625", "NIF B-58378431", "N.I.F.54362315K"],
        ["54362315Z", "A13585625", "CIF A13585626"],
    ),
    "nie": (["X-2482300W", "x: X2482300W"], ["X2482300A"]),
    "ssn": (
        ["536-90-4399", "SSN 536904399", "social security number: 536904399"],
        ["666-90-4399", "536904399", "000-12-3456"],
    ),
}
COUNTRY: dict[str, Country] = {kind.name: kind.country for kind in KINDS}  # type: ignore[misc]


def rule(*countries: Country) -> NationalIds:
    return NationalIds(NationalIdRule(countries=list(countries)))


def test_there_are_examples_of_every_kind() -> None:
    assert set(EXAMPLES) == set(COUNTRY)
    assert set(COUNTRY.values()) == set(COUNTRIES)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_numbers_with_right_check_digits_are_found(kind: str) -> None:
    for text in EXAMPLES[kind][0]:
        replaced, counts = rule(COUNTRY[kind]).apply_by_kind(text)
        assert counts == {kind: 1}, text
        assert "<id>" in replaced
        assert not any(character.isdigit() for character in replaced)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_others_are_not(kind: str) -> None:
    for text in EXAMPLES[kind][1]:
        assert rule(COUNTRY[kind]).apply(text) == (text, 0), text


@pytest.mark.parametrize("kind", EXAMPLES)
def test_other_countries_numbers_are_left_alone(kind: str) -> None:
    for text in EXAMPLES[kind][0]:
        assert rule().apply(text) == (text, 0)


@pytest.mark.parametrize(
    "text",
    [
        "order 39053344705, version 12.531.909, 2024-01-31, 10.20.30.40, 1.714.307.103",
        "x390.533.447-05, 1390.533.447-05, 390.533.447-05-1, 390.533.447-051",
        "part BOXW310820HNERXN09X and 2-390.533.447-05",
        "CPF of the year 2024",
        "backups/54362315K and 54362315K.log, v.390.533.447-05",
    ],
)
def test_look_alikes_stay(text: str) -> None:
    assert rule(*COUNTRIES).apply(text) == (text, 0)


def test_all_countries_at_once_count_each_number_once() -> None:
    texts = [text for found, _ in EXAMPLES.values() for text in found]
    _, counts = rule(*COUNTRIES).apply_by_kind("\n".join(texts))
    assert counts.total() == len(texts)
