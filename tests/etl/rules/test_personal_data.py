"""All kinds of personal data together: precision and recall, pseudonyms, records that are dropped, the secret key."""

import hashlib
import hmac
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from common.errors import ConfigurationError
from etl.rules.applying import RuleSet
from etl.rules.contacts import Emails, Phones
from etl.rules.national_ids import NationalIds
from etl.rules.personal_data import PersonalData, masking_rules, pseudonym, pseudonym_key
from etl.rules.registry import Filter, Rule, build_rules
from schemas.cleaning import Clean, EmailRule, NationalIdRule, PhoneRule
from tests.etl.rules.personal_corpus import LOOK_ALIKES, PLANTED, a_phone_of, corpus, sentence
from tests.etl.sources.source_files import configuration

KEY = b"0123456789abcdef-not-a-secret"


REGIONS = ["US", "MX", "BR", "AR", "CL", "CO", "EC", "PE", "PY", "ES"]


@pytest.mark.parametrize("regions", [["US"], REGIONS])
def test_precision_and_recall_of_each_kind_among_look_alikes(regions: list[str]) -> None:
    """A piece counts as found where its value is gone as a whole and nothing but it was counted, as its kind."""
    hit: Counter[str] = Counter()
    wrong: dict[str, list[str]] = defaultdict(list)
    rules = list(masking_rules(Clean.model_validate({"phones": {"regions": regions}})).values())
    for each in corpus(1, 100, 2_500):
        text, kinds = each.text, Counter[str]()
        for rule in rules:
            text, counts = rule.apply_by_kind(text)
            kinds += counts
        if each.kind is not None and each.value not in text and kinds[each.kind] == 1 and kinds.total() == 1:
            hit[each.kind] += 1
        else:
            for kind in kinds:
                wrong[kind].append(f"{each.kind}: {each.text} -> {text}")
    for kind in PLANTED:
        assert hit[kind] / 100 >= 0.98, kind
        assert hit[kind] / (hit[kind] + len(wrong[kind])) >= 0.98, wrong[kind]


@pytest.mark.parametrize("region", REGIONS)
def test_precision_and_recall_of_phone_numbers_of_each_country(region: str) -> None:
    rng, rule = random.Random(7), Phones(PhoneRule(regions=[region]))
    numbers = [a_phone_of(rng, region) for _ in range(200)]
    found = [rule.apply(sentence(rng, f"{rng.choice(['call ', 'tel. ', ''])}{number}")) for number in numbers]
    missed = [n for n, (text, count) in zip(numbers, found, strict=True) if n in text or count != 1]
    assert len(missed) <= 4, missed
    others = [sentence(rng, rng.choice(LOOK_ALIKES)(rng)) for _ in range(600)]
    wrong = [text for text in others if rule.apply(text)[1]]
    assert len(wrong) <= 4, wrong


@pytest.mark.parametrize(
    "text",
    [
        '{"url":"https://x.org","mobile":"+16502530000"}',
        "Acme,http://acme.com,650-253-0000,Springfield",
        "Acme,http://acme.com,6502530000,Springfield",
        "www.acme.com|650-253-0000",
        '<a href="https://acme.com">650-253-0000</a>',
        "https://t.me/+16502530000",
        "https://signal.me/#p/+16502530000",
        "sms://6502530000",
        "https://example.org/?mobile=6502530000",
        "Tel#650-253-0000",
        "Phone #(650) 253-0000",
        "Phone #6502530000",
        "TEL;PREF=1:+16502530000",
        "Phone1:650-253-0000",
        "1:+1 650 253 0000",
        "Orders: 6502530000",
        "To order 6502530000",
        "Parts: 6502530000",
        "just in case 6502530000",
        "Ref: 6502530000",
        "WhatsApp ID: 6502530000",
        "CELL-6502530000",
        "WA-6502530000",
        "HOME-6502530000",
        "ANA-6502530000",
        "Juan,650.253.0000,34,Madrid",
        "to order: 650-253-0000",
        "order by phone 6502530000",
        "order +1 650 253 0000",
        "TEL-6502530000",
        "https://wa.me/16502530000",
        "tel:6502530000",
        "https://example.org/?phone=6502530000",
        "id (650) 253-0000",
        "in 2020 650-253-0000",
        "section 2: 650.253.0000",
    ],
)
def test_what_only_looks_like_something_else_is_a_phone_number(text: str) -> None:
    assert Phones(PhoneRule()).apply(text)[1] == 1


def test_a_card_before_the_end_of_a_sentence_is_no_name_of_a_file() -> None:
    (rule,) = (rule for name, rule in masking_rules(Clean()).items() if name == "cards")
    for after, count in (
        (".", 1),
        (". Then", 1),
        (".Then", 1),
        (".pdf", 0),
        (".tar.gz", 0),
        (".ZIP: 94301", 1),
    ):
        assert rule.apply(f"paid with 4111111111111111{after}")[1] == count, after
    assert rule.apply("4111 1111 1111 1111.jpg")[1] == 1


def test_in_csv_without_spaces_every_kind_is_found() -> None:
    rng = random.Random(4)
    for kind, make in PLANTED.items():
        for _ in range(20):
            before, value = make(rng)
            text = f"12,{before}{value},34,x"
            for rule in masking_rules(Clean()).values():
                text, _ = rule.apply(text)
            assert value not in text, (kind, before, value)
            assert text.startswith("12,")
            assert text.endswith(",34,x")


def test_numbers_of_other_countries_after_words_that_announce_orders() -> None:
    rule = Phones(PhoneRule(regions=REGIONS))
    for text in (
        "Pedidos: 987654321",
        "Pedidos 3001234567",
        "Faça seu pedido no 11987654321",
        "Contact no#+919876543210",
        "Juan,612.345.678,34,Madrid",
        "WPP-11987654321",
        "TLF-612345678",
    ):
        assert rule.apply(text)[1] == 1, text


def test_a_pseudonym_is_the_same_for_all_ways_of_writing_a_value() -> None:
    rule = Phones(PhoneRule(action="pseudonym"))
    rule.key = KEY
    found = {rule.apply(text)[0] for text in ("(650) 253-0000", "+1 650-253-0000", "650.253.0000")}
    digest = hmac.new(KEY, b"phone\0+16502530000", hashlib.sha256).hexdigest()
    letters = "".join("abcdefghijklmnop"[int(digit, 16)] for digit in digest[:20])
    assert found == {f"<phone:{letters}>"}

    emails = Emails(EmailRule(action="pseudonym"))
    emails.key = KEY
    one, other = (emails.apply(text)[0] for text in ("Joe@Example.org", "joe@example.ORG"))
    assert one == other == f"<email:{pseudonym(KEY, 'email', 'joe@example.org')}>"
    assert pseudonym(b"another key of some length", "email", "joe@example.org") not in one

    ids = NationalIds(NationalIdRule(action="pseudonym", countries=["BR"]))
    ids.key = KEY
    assert ids.apply("390.533.447-05")[0] == ids.apply("CPF 39053344705")[0].removeprefix("CPF ")


@pytest.mark.parametrize(
    ("name", "kind", "one", "other", "value"),
    [
        ("ip_addresses", "ip", "2001:db8:0:0::7", "2001:DB8::7", "2001:db8::7"),
        ("ibans", "iban", "DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "DE89370400440532013000"),
        ("cards", "card", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111"),
        ("national_ids", "ssn", "536-90-4399", "536-90-4399", "536904399"),
        ("national_ids", "curp", "BOXW310820HNERXN09", "BOXW310820HNERXN09", "BOXW310820HNERXN09"),
        ("national_ids", "cuit", "20-05536168-2", "20-05536168-2", "20055361682"),
    ],
)
def test_every_rule_makes_pseudonyms_and_drops_records(
    name: str, kind: str, one: str, other: str, value: str
) -> None:
    def made(action: str) -> Rule:
        countries = {"countries": ["US", "MX", "AR"]} if name == "national_ids" else {}
        return dict(build_rules(Clean.model_validate({name: {"action": action, **countries}}), KEY))[name]

    edit = made("pseudonym")
    assert isinstance(edit, PersonalData)
    for written in (one, other):
        assert edit.apply(f"of {written}, x") == (f"of <{kind}:{pseudonym(KEY, kind, value)}>, x", 1)
    dropping = made("drop")
    assert isinstance(dropping, Filter)
    assert dropping.drops(f"of {one}, x")
    assert not dropping.drops("of nobody, x")


@pytest.mark.parametrize(("name", "text"), [("emails", "a@b.org"), ("phones", "call 650-253-0000")])
def test_addresses_and_phones_drop_records_too(name: str, text: str) -> None:
    rule = dict(build_rules(Clean.model_validate({name: {"action": "drop"}})))[name]
    assert isinstance(rule, Filter)
    assert rule.drops(text)
    assert not rule.drops("nothing here")


def test_no_rule_takes_a_pseudonym_for_something_else() -> None:
    for number in range(200):
        text = f"<phone:{pseudonym(KEY, 'phone', str(number))}>"
        for rule in masking_rules(Clean()).values():
            assert rule.apply(text) == (text, 0)


def test_without_the_key_pseudonyms_are_masks() -> None:
    rule = dict(build_rules(Clean.model_validate({"emails": {"action": "pseudonym"}})))["emails"]
    assert isinstance(rule, PersonalData)
    assert rule.apply("a@b.org") == ("<email>", 1)


def test_a_record_can_be_dropped_for_what_it_holds(tmp_path: Path) -> None:
    clean = {
        "cards": {"action": "drop"},
        "emails": {"action": "pseudonym"},
        "national_ids": {"countries": ["US", "BR"]},
    }
    config = configuration(tmp_path, [{"format": "jsonl", "path": "*.jsonl"}], {"label": "label"}, clean)
    rules = RuleSet(config, KEY)
    assert isinstance(dict(rules.rules)["cards"], Filter)
    text = "pay joe@example.org with 4111 1111 1111 1111, SSN 536-90-4399, 390.533.447-05 and 535-90-4398"
    texts, filtered_by, effects = rules.apply([text])
    assert filtered_by == "cards"
    assert effects == [
        {"rule": "emails", "count": 1},
        {"rule": "cards", "count": 1},
        {"rule": "national_ids.cpf", "count": 1},
        {"rule": "national_ids.ssn", "count": 2},
    ]
    assert texts == [
        f"pay <email:{pseudonym(KEY, 'email', 'joe@example.org')}> with 4111 1111 1111 1111, SSN <id>, <id> and <id>"
    ]
    assert rules.apply(["nothing here"]) == (["nothing here"], None, [])


def test_the_key_comes_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RINGLAKE_PSEUDONYM_KEY", raising=False)
    assert pseudonym_key(Clean()) is None
    clean = Clean.model_validate({"phones": {"action": "pseudonym"}})
    with pytest.raises(
        ConfigurationError, match=r"clean\.phones\.action .* RINGLAKE_PSEUDONYM_KEY \(there are 0\)"
    ):
        pseudonym_key(clean)
    monkeypatch.setenv("RINGLAKE_PSEUDONYM_KEY", "too short")
    with pytest.raises(ConfigurationError, match="at least 16 bytes") as raised:
        pseudonym_key(clean)
    assert "too short" not in str(raised.value)
    monkeypatch.setenv("RINGLAKE_PSEUDONYM_KEY", KEY.decode())
    assert pseudonym_key(clean) == KEY

    file = tmp_path / "key"
    of_file = Clean.model_validate({"phones": {"action": "pseudonym"}, "pseudonyms": {"key_file": str(file)}})
    with pytest.raises(ConfigurationError, match=r"key_file: .*/key cannot be read \(No such file"):
        pseudonym_key(of_file)
    file.write_bytes(b"  another key of some length\n")
    assert pseudonym_key(of_file) == b"another key of some length"
    off = Clean.model_validate({"phones": {"action": "pseudonym"}, "rules": ["emails"]})
    assert pseudonym_key(off) is None
