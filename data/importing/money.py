"""Prices that are text: `9.66 USD`, `6,46 $`, `€12,99`, `1,299.00`, `1 299,00 zł`, `US$ 9.66`, `Rs. 1,299`, `199元`.

    price = read_money(source, "price", "cost")      # SQL: price.amount, price.currency

Whether `1.299` is a price of four digits or of one says the column as a whole: a text that can be read in one way only
(`12,99`, `1.299,00`) settles which sign is the decimal one, and `decimal` in the mapping settles it for all. Where
neither does, such a price becomes missing. So does every text that is not one amount and its currency. Both are
counted, with examples.
"""

from __future__ import annotations

from dataclasses import dataclass

from reshelf.data.importing.casts import is_missing, number_of
from reshelf.data.importing.database import Work, quoted
from reshelf.data.importing.tables import Source, reading

_FEW = 0.01
"""Share of the prices that settle the decimal sign which may speak for the other one: mistakes."""
_WIDE, _NARROW = "０１２３４５６７８９．，￥＄￡－＋\u3000\u00a0\u2007\u2009\u202f’", "0123456789.,¥$£-+     '"
_CODES = (
    "AED|ARS|AUD|BDT|BGN|BHD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|GEL|GHS|HKD|HUF|IDR|ILS|INR|ISK|JOD|JPY|"
    "KES|KRW|KWD|KZT|LKR|MAD|MXN|MYR|NGN|NOK|NZD|OMR|PEN|PHP|PKR|PLN|QAR|RON|RSD|RUB|SAR|SEK|SGD|THB|TND|TRY|TWD|"
    "TZS|UAH|UGX|USD|UYU|UZS|VND|XAF|XOF|ZAR"
)
_SIGNS = {
    "EUR": "€|euros?", "GBP": "£", "INR": r"₹|rs\.?", "CNY": "cn¥|rmb|元|人民币|块", "JPY": "jp¥|円", "KRW": "₩|원",
    "USD": r"us\s?\$", "CAD": r"ca?\s?\$", "AUD": r"au?\s?\$", "NZD": r"nz\s?\$", "HKD": r"hk\s?\$", "SGD": r"sg?\s?\$",
    "TWD": r"nt\s?\$", "BRL": r"r\s?\$", "MXN": r"mx\s?\$", "PLN": "zł|zl", "CZK": "kč", "HUF": "ft", "RON": "lei",
    "TRY": "₺|tl", "RUB": r"₽|руб\.?", "UAH": "₴|грн", "CHF": r"s?fr\.", "ILS": "₪", "VND": "₫|đ", "THB": "฿",
    "PHP": "₱", "NGN": "₦", "IDR": r"rp\.?", "MYR": "rm",
}  # fmt: skip
"""Signs and words that mean one currency, beside its code."""
_SHARED = r"\$|¥|kr\.?|圓|dollars?"
"""Those that several currencies have."""
_NATIVE = "('BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE')"


@dataclass(frozen=True)
class Money:
    """SQL of a column of prices."""

    amount: str = "CAST(NULL AS DOUBLE)"
    """DOUBLE; NULL where it is missing or cannot be read."""
    currency: str = "CAST(NULL AS VARCHAR)"
    """VARCHAR, the ISO 4217 code that the text names; NULL where it names none, or a sign that several have."""


def read_money(source: Source, field: str, name: str) -> Money:
    """How to read a column of prices. What cannot be read is counted in the report.

    Args:
        field: what the column is in the mapping.
        name: of the column.
    """
    column, work = source.column(name), source.work
    if column.is_number:
        return Money(number_of(column))
    native = f"coalesce(json_type({column.sql}) IN {_NATIVE}, false)" if column.type == "JSON" else "false"
    text = f"CASE WHEN NOT {native} THEN {column.text} END"
    work.run(_MACROS)
    reading(
        work,
        source,
        f"""CREATE OR REPLACE TEMP TABLE price_text AS SELECT text, n, with_point(text) AS point, with_comma(text) AS
            comma FROM (SELECT text, count(*) AS n FROM (SELECT {text} AS text FROM {source.relation})
            WHERE NOT ({is_missing("text")}) GROUP BY text)""",
        again=True,
    )
    point, comma = f"with_point({text})", f"with_comma({text})"
    if source.spec.decimal:
        amount, unread = (point, "point IS NULL") if source.spec.decimal == "." else (comma, "comma IS NULL")
    else:
        settled = {".": point, ",": comma}.get(_decimal_sign(work) or "", "NULL")
        amount = f"CASE WHEN {point} <> {comma} THEN {settled} ELSE coalesce({point}, {comma}) END"
        unread = "point IS NULL AND comma IS NULL"
        if settled == "NULL":
            what = f"{field} may have thousands or decimals, now missing: set {source.part}.decimal"
            _count(source, what, "point <> comma")
    _count(source, f"{field} is no number, now missing", unread)
    return Money(f"CASE WHEN {native} THEN {number_of(column)} ELSE {amount} END", f"currency_of({text})")


def _decimal_sign(work: Work) -> str | None:
    """That of texts which can be read in two ways; None where the others do not say."""
    points, commas, unclear, with_comma = work.fetch(
        """SELECT coalesce(sum(n) FILTER (WHERE comma IS NULL AND point IS NOT NULL), 0),
        coalesce(sum(n) FILTER (WHERE point IS NULL AND comma IS NOT NULL), 0),
        count(*) FILTER (WHERE point <> comma), count(*) FILTER (WHERE point <> comma AND contains(text, ','))
        FROM price_text"""
    )[0]
    few = _FEW * (points + commas)
    if not unclear or (points and commas <= few):
        return "."
    if commas and points <= few:
        return ","
    # Only prices such as 1,299 and 499: those are thousands. Prices such as 1.299 are written in both ways.
    return "." if not points + commas and unclear == with_comma else None


def _count(source: Source, what: str, condition: str) -> None:
    found = source.work.fetch(f"SELECT text, n FROM price_text WHERE {condition} ORDER BY n DESC, text")
    source.work.report.repair(source.part, what, sum(n for _, n in found), [str(text) for text, _ in found])


def _macros() -> str:
    """`bare_price(t)`: narrow signs, no currency. `with_point`, `with_comma`: DOUBLE, with that decimal sign."""
    words = "|".join((*_SIGNS.values(), _SHARED, _CODES))
    narrow = f"trim(translate(t, {quoted(_WIDE)}, {quoted(_NARROW)}))"
    before, after = quoted(rf"(?i)^({words})\s*"), quoted(rf"(?i)\s*({words})$")
    bare = f"regexp_replace(regexp_replace({narrow}, {before}, ''), {after}, '')"
    bare = f"regexp_replace(regexp_replace({bare}, {before}, ''), '[.,](-|–|—)$', '')"  # EUR € 5; 199,-
    made = [f"CREATE OR REPLACE TEMP MACRO bare_price(t) AS {bare}"]
    for name, decimal, group in (("with_point", ".", ","), ("with_comma", ",", ".")):
        form = rf"[-+]?([0-9]+|[1-9][0-9]{{0,2}}([{group} ''][0-9]{{2,3}})*[{group} ''][0-9]{{3}})?([{decimal}][0-9]+)?"
        digits = f"replace(regexp_replace(bare_price(t), '[{group} '']', '', 'g'), '{decimal}', '.')"
        made.append(
            f"CREATE OR REPLACE TEMP MACRO {name}(t) AS CASE WHEN regexp_full_match(bare_price(t), '{form}') THEN "
            f"try_cast({digits} AS DOUBLE) WHEN regexp_full_match(bare_price(t), '[0-9]+(\\.[0-9]+)?[eE][-+]?[0-9]+') "
            f"THEN try_cast(bare_price(t) AS DOUBLE) END"
        )
    cases = ""
    for code in dict.fromkeys((*_SIGNS, *_CODES.split("|"))):
        word = rf"(?i)(^|[^\pL])({code}|{_SIGNS.get(code, code)})([^\pL]|$)"
        cases += f"WHEN regexp_matches({narrow}, {quoted(word)}) THEN '{code}' "
    made.append(f"CREATE OR REPLACE TEMP MACRO currency_of(t) AS CASE {cases} END")
    return ";\n".join(made)


_MACROS = _macros()
