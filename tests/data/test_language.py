"""The language of a catalogue is that of most of its titles."""

from __future__ import annotations

import pytest

from reshelf.data.language import catalogue_language


@pytest.mark.parametrize(
    ("titles", "language"),
    [
        (["蓝色羊毛外套", "Nordvik 马克杯 350ml", "iPhone 15"], "zh"),
        (["蓝色羊毛外套", "iPhone 15"], "en"),
        (["ステンレス 保温 水筒", "電気ケトル コードレス", "充電器"], "en"),
        (["주방 가위", "Blue wool coat"], "en"),
        ([], "en"),
    ],
)
def test_most_titles_decide_and_kanji_beside_kana_are_not_chinese(titles: list[str], language: str) -> None:
    assert catalogue_language(titles) == language
