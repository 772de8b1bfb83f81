"""All kinds of personal data together: precision and recall, pseudonyms, records that are dropped, the secret key."""

import hashlib
import hmac
from collections import Counter
from pathlib import Path

import pytest

from etl.clean import RuleSet
from etl.rules.contacts import Emails, Phones
from etl.rules.national_ids import NationalIds
from etl.rules.personal_data import PersonalData, masking_rules, pseudonym, pseudonym_key
from etl.rules.registry import Filter, build_rules
from schemas.cleaning import Clean, EmailRule, NationalIdRule, PhoneRule
from schemas.errors import ConfigurationError
from tests.etl.rules.personal_corpus import PLANTED, corpus
from tests.etl.sources.source_files import configuration

KEY = b"0123456789abcdef-not-a-secret"


def test_precision_and_recall_among_look_alikes() -> None:
    """A piece counts as found where its value is gone as a whole and nothing but it was counted, as its kind."""
    sentences = corpus(1, 100, 2_500)
    hit: Counter[str] = Counter()
    wrong: list[str] = []
    rules = list(masking_rules(Clean()).values())
    for each in sentences:
        text, kinds = each.text, Counter[str]()
        for rule in rules:
            text, counts = rule.apply_by_kind(text)
            kinds += counts
        if each.kind is not None and each.value not in text and kinds[each.kind] == 1 and kinds.total() == 1:
            hit[each.kind] += 1
        elif kinds:
            wrong.append(f"{each.kind}: {each.text} -> {text}")
    recall = {kind: hit[kind] / 100 for kind in PLANTED}
    assert min(recall.values()) >= 0.98, recall
    assert hit.total() / (hit.total() + len(wrong)) >= 0.98, wrong


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
