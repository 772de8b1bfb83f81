"""IBANs and payment cards, and look-alikes."""

import pytest

from etl.rules.payments import Cards, Ibans
from schemas.cleaning import CardRule, IbanRule

IBANS, CARDS = Ibans(IbanRule()), Cards(CardRule())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("to DE89370400440532013000.", "to <iban>."),
        ("GB82 WEST 1234 5698 7654 32 AND MORE", "<iban> AND MORE"),
        ("NO93 8601 1117 947, MT84MALT011000012345MTLCAST001S", "<iban>, <iban>"),
        ("ES91 2100 0418 4502 0005 1332; BR1800360305000010009795493C1", "<iban>; <iban>"),
        ("FR14\u00a02004\u00a01010\u00a00505\u00a00001\u00a03M02\u00a0606", "<iban>"),
        ("DE89370400440532013001", None),  # a wrong digit
        ("DE8937040044053201300", None),  # one too few
        ("XDE89370400440532013000", None),
        ("ZZ89370400440532013000", None),  # no such country
        ("US12 3456 7890 1234 5678", None),  # a country without IBANs
        ("AB12 CD34", None),
        ("de89370400440532013000", None),
    ],
)
def test_ibans(text: str, expected: str | None) -> None:
    assert IBANS.apply(text) == ((text, 0) if expected is None else (expected, expected.count("<iban>")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111111111111111, 4111 1111 1111 1111, 5500-0000-0000-0004", "<card>, <card>, <card>"),
        ("378282246310005 3782 822463 10005", "<card> <card>"),
        (
            "2223000048400011 6011111111111117 3530111333300000 6200000000000005",
            "<card> <card> <card> <card>",
        ),
        ("30569309025904 and 3056 930902 5904", "<card> and <card>"),
        ("4111\u00a01111\u00a01111\u00a01111 4111\u202f1111\u202f1111\u202f1111", "<card> <card>"),
        (
            "no.4111111111111111, card/4111111111111111, VISA-4111111111111111",
            "no.<card>, card/<card>, VISA-<card>",
        ),
        ("discard/4111111111111111 items/4111111111111111", None),
        ("4111111111111112", None),  # a wrong digit
        ("4111 1111 11111111", None),  # groups of two kinds
        ("9111111111111119", None),  # no issuer begins like this
        ("4444444444444444 0000000000000000", None),
        ("1.4111111111111111 4111111111111111.5 4111111111111111-7 x4111111111111111", None),
        ("41111111111111111111", None),
    ],
)
def test_cards(text: str, expected: str | None) -> None:
    assert CARDS.apply(text) == ((text, 0) if expected is None else (expected, expected.count("<card>")))
