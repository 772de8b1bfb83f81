"""E-mail addresses, phone numbers, IP addresses, and what looks like them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigurationError
from etl.rules.contacts import IPV4, Emails, IpAddresses, Phones, may_have_ipv4
from etl.rules.personal_data import has_digits
from schemas.cleaning import EmailRule, IpAddressRule, PhoneRule
from schemas.config import load

EMAILS = Emails(EmailRule())
PHONES = Phones(PhoneRule())
IPS = IpAddresses(IpAddressRule())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to a.b+c_d@mail.example.co.uk.", ("write to <email>.", 1)),
        ("<jane@example.org>, mailto:joe@example.org?x", ("<<email>>, mailto:<email>?x", 2)),
        ("jürgen@münchen.example", ("<email>", 1)),
        ("*_ana@example.com_* joe@example.org-- x@y.xn--p1ai.", ("*<email>_* <email>-- <email>.", 3)),
        (
            "a@b.c @example.org name@ a@@b.org x@localhost",
            ("a@b.c @example.org name@ a@@b.org x@localhost", 0),
        ),
        ("@author me, @param x.y", ("@author me, @param x.y", 0)),
    ],
)
def test_emails(text: str, expected: tuple[str, int]) -> None:
    assert EMAILS.apply(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call (650) 253-0000 now", ("call <phone> now", 1)),
        ("650.253.0000 or +1 650-253-0000", ("<phone> or <phone>", 2)),
        ("Phone: +44 1223 334714, +49 (89) 636-48018", ("Phone: <phone>, <phone>", 2)),
        ("MA 02110-1301, 1991-2007, ISO 9001:2008", ("MA 02110-1301, 1991-2007, ISO 9001:2008", 0)),
        ("2020-01-01 12:00:00 and 1234567890123456", ("2020-01-01 12:00:00 and 1234567890123456", 0)),
        ("212.227.70.13", ("212.227.70.13", 0)),
        (
            "x" * 500 + " 650-253-0000 " + "y" * 500 + " 650-253-0000",
            ("x" * 500 + " <phone> " + "y" * 500 + " <phone>", 2),
        ),
    ],
)
def test_phones(text: str, expected: tuple[str, int]) -> None:
    assert PHONES.apply(text) == expected


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("DFARS 252.227-7013 and clause\n252.227-7014", "DFARS <phone> and clause\n<phone>"),
        ("48 C.F.R. §\n      252.227-7014(a)(1)", "48 C.F.R. §\n      <phone>(a)(1)"),
        ("the DOD FAR supplement\n252.227-7013", "the DOD FAR supplement\n<phone>"),
        ("Clause (DFARS) 252.227-7014", "Clause (DFARS) <phone>"),
    ],
)
def test_the_demo_tells_clauses_of_defence_regulations_from_phones(text: str, masked: str) -> None:
    demo = Phones(load("conf/licences.toml", []).clean.phones)
    assert PHONES.apply(text) == (masked, 1 + ("and" in text))
    assert demo.apply(text) == (text, 0)


def test_a_number_inside_a_match_of_a_configured_pattern_stays() -> None:
    ours = Phones(PhoneRule(look_alikes=[r"part \d{3}-\d{3}-\d{4}/\d", r"#\d{3}-\d{3}"]))
    for text, expected in {
        "call part 650-253-0000/1": "call part 650-253-0000/1",
        "part 650-253-0000": "part <phone>",
        "#650-253-0000": "#<phone>",  # only part of it matches the pattern
        "part 650-253-0000/1, 650-253-0000": "part 650-253-0000/1, <phone>",
    }.items():
        assert ours.apply(text)[0] == expected


def test_behind_however_many_other_numbers_a_phone_is_found() -> None:
    # Each of these is tried, and none of them is a number; by default the library gives up after 65,535.
    text = "0000000000;" * 66_000 + "650-253-0000"
    assert PHONES.apply(text) == (text.removesuffix("650-253-0000") + "<phone>", 1)


def test_numbers_without_country_code_belong_to_the_configured_regions() -> None:
    text = "020 7031 3000 und 030 901820"
    assert PHONES.apply(text) == (text, 0)
    assert Phones(PhoneRule(regions=["GB", "DE"])).apply(text) == ("<phone> und <phone>", 2)
    assert Phones(PhoneRule(regions=["GB"], mask="#")).apply(text) == ("# und 030 901820", 1)
    with pytest.raises(ConfigurationError, match="'ZZ', which is no region"):
        Phones(PhoneRule(regions=["ZZ"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 192.168.0.1 to 10.0.0.0/8", ("from <ip> to <ip>/8", 2)),
        ("http://127.0.0.1:8080/", ("http://<ip>:8080/", 1)),
        ("the host 1.1.1.1, ends with 8.8.8.80.", ("the host <ip>, ends with <ip>.", 2)),
        ("2001:db8::8a2e:370:7334 fe80::1%eth0 ::1", ("<ip> <ip>%eth0 <ip>", 3)),
        ("[2001:0db8:0000:0000:0000:ff00:0042:8329]:443", ("[<ip>]:443", 1)),
        ("::ffff:192.0.2.128", ("<ip>", 1)),
        (
            "version 10.2.3.4, v10.2.3.4, Release: 10.20.30.40",
            ("version 10.2.3.4, v10.2.3.4, Release: 10.20.30.40", 0),
        ),
        ("law:\n\n  3.1.12.1. Words\n10.0.0.1 host\n", ("law:\n\n  3.1.12.1. Words\n<ip> host\n", 1)),
        ("10.1.2.30 - - [10/Oct\n10.1.2.31,GET\n12.1.2.30\n", ("<ip> - - [10/Oct\n<ip>,GET\n12.1.2.30\n", 2)),
        ('3.1.12.1 "Words"\n3.1.12.2. (a) more', ('3.1.12.1 "Words"\n3.1.12.2. (a) more', 0)),
        ("library 1.2.3.4 and section 12.1.1.3", ("library 1.2.3.4 and section 12.1.1.3", 0)),
        (
            "1.3.6.1.4.1.311 256.1.1.1 01.22.33.44 1.22.33",
            ("1.3.6.1.4.1.311 256.1.1.1 01.22.33.44 1.22.33", 0),
        ),
        (
            "12:30:45 a::b std::vector ::add ::2 00:11:22:33:44:55",
            ("12:30:45 a::b std::vector ::add ::2 00:11:22:33:44:55", 0),
        ),
        ("de:ad:be:ef:00:11:22:33:44:55:66", ("de:ad:be:ef:00:11:22:33:44:55:66", 0)),
    ],
)
def test_ip_addresses(text: str, expected: tuple[str, int]) -> None:
    assert IPS.apply(text) == expected


@pytest.mark.parametrize(
    "piece", ["a@", "a.", "a@b.", "1.", "1:", "12 ", "+1-", "a@a-", "(650) 253-", ":", "1.1.1.", "@"]
)
@pytest.mark.timeout(60)
def test_hostile_texts_take_no_longer_than_their_length_asks_for(piece: str) -> None:
    text = piece * (50_000 // len(piece))
    assert EMAILS.apply(text) == (text, 0)
    assert IPS.apply(text) == (text, 0)
    PHONES.apply(text)


@given(st.text(alphabet="0129+ .-/(x\u0663", max_size=40))
def test_the_fast_searches_find_what_the_plain_patterns_say(text: str) -> None:
    between = r"[ \t().\-/\u2010-\u2015\u00a0]{0,4}"
    fewest = PHONES.digits
    plain = re.compile(rf"\+{between}(?:\d{between}){{6,}}\d|(?<!\d)(?:\d{between}){{{fewest - 1},}}\d")
    expected = [match.span() for match in plain.finditer(text)]
    assert [match.span() for match in PHONES.candidate.finditer(text)] == expected
    assert not expected or has_digits(text, PHONES.fewest)
    quads = re.compile(r"(?<![\w.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\w|\.\d)", re.ASCII)
    expected = [match.span() for match in quads.finditer(text)]
    assert [match.span() for match in IPV4.finditer(text)] == expected
    assert not expected or may_have_ipv4(text)
