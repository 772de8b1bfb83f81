"""The filter by language."""

import pytest

from common.errors import ConfigurationError
from etl.rules.language import LOOKED_AT, FilterLanguage
from schemas.cleaning import LanguageRule

TEXTS = {
    "en": "The seller delivers the goods within thirty days, and the buyer pays what the invoice says.",
    "es": "El vendedor entrega los bienes dentro de treinta días, y el comprador paga la factura.",
    "pt": "O vendedor entrega as mercadorias no prazo de trinta dias, e o comprador paga a fatura.",
    "de": "Der Verkäufer liefert die Ware innerhalb von dreißig Tagen, und der Käufer bezahlt die Rechnung.",
    "ja": "売り手は三十日以内に商品を納入し、買い手は請求書の金額を支払うものとする。",
}


@pytest.mark.parametrize("language", TEXTS)
def test_only_the_language_asked_for_stays(language: str) -> None:
    rule = FilterLanguage(LanguageRule(languages=[language], minimum_score=0.5))
    assert [name for name, text in TEXTS.items() if not rule.drops(text)] == [language]


def test_the_score_decides() -> None:
    score = FilterLanguage(LanguageRule(languages=["pt"])).score(TEXTS["pt"])
    assert 0.4 < score < 0.95
    for limit, dropped in ((score - 0.01, False), (score + 0.01, True)):
        assert (
            FilterLanguage(LanguageRule(languages=["pt"], minimum_score=limit)).drops(TEXTS["pt"]) == dropped
        )


def test_several_languages_and_texts_with_line_breaks_or_in_capitals() -> None:
    rule = FilterLanguage(LanguageRule(languages=["en", "es"]))
    assert not rule.drops(TEXTS["en"].replace(" ", "\n"))
    assert not rule.drops(TEXTS["es"].upper())
    assert rule.drops(TEXTS["de"])


def test_what_is_too_short_to_tell_stays() -> None:
    rule = FilterLanguage(LanguageRule(languages=["ja"]))
    assert not rule.drops("The goods, 12345")
    assert not rule.drops("")
    assert rule.drops(TEXTS["en"])


def test_the_beginning_of_a_text_decides() -> None:
    rule = FilterLanguage(LanguageRule())
    beginning = (TEXTS["en"] + " ") * (LOOKED_AT // len(TEXTS["en"]) + 1)
    assert not rule.drops(beginning + TEXTS["de"] * 50)


def test_what_no_model_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"clean\.language\.languages names 'xx'.* en, "):
        FilterLanguage(LanguageRule(languages=["en", "xx"]))
