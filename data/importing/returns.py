"""Columns of an events table that the mapping does not read and that call some of its purchases cancelled or returned.

    warn_of_returns(work, mapping, number, "events")      # a warning in the report for each such column

By name and values: quantities and amounts below zero, the words for cancelled and returned of five languages, and marks
such as `is_refunded` and `cancelled_at`. Only rows that count as a cart or a purchase are looked at.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from reshelf.data.importing.casts import is_missing
from reshelf.data.importing.column_names import column_names
from reshelf.data.importing.database import Work, quoted
from reshelf.data.importing.divided_rows import one_row_each
from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.mapping import UNDO, EventsTable, Mapping
from reshelf.data.importing.tables import names_of, open_table
from reshelf.data.schema import EventKind
from reshelf.errors import InputError

_WORTH = tuple(list(EventKind).index(kind) for kind in (EventKind.CART, EventKind.PURCHASE))
_QUANTITY = re.compile(r"quantit|qty|\bqte\b|units|menge|anzahl|stuck|cantidad|\bcant\b|unidades|数量|件数")
_AMOUNT = re.compile(
    r"amount|total|revenue|value|price|sales|betrag|preis|umsatz|summe|montant|prix|importe|precio|ingreso|金额|价"
)
_LESS = re.compile(
    r"discount|coupon|voucher|adjust|diff|delta|change|margin|profit|balance|rabatt|gutschein|remise|descuento|优惠|折扣"
)
"""Names of quantities and of amounts, and of amounts that are below zero for sales too; in small letters and without
accents as all that is compared here."""
_STATUS = re.compile(r"stat(us|e|ut)\b|zustand|etat|estado|状态")
_STATE = re.compile(_STATUS.pattern + r"|type|kind|\bart\b|typ\b|tipo|类型")
"""Names of what state an order is in, and of what state or kind it is."""
_BACK = re.compile(
    r"cancel|\bvoid(ed)?\b|refund|\breturn(ed|s)?\b|charge ?back|\breversed\b|\bdeleted\b|"
    r"storn|retour|zuruckge|erstatt|gutschrift|widerruf|abgebrochen|geloscht|"
    r"annul|rembours|renvoye|\bavoir\b|supprime|devuel|devol|reembols|anulad|eliminad|取消|退款|退货|退回|作废|删除"
)
"""What an order that was cancelled, sent back or deleted is called, in English, German, French, Spanish and Chinese."""
_REMOVED = re.compile(r"remov|entfern|supprim|retir|elimin|quita|移除|移出|删除")
_CART = re.compile(r"cart|basket|\bbag\b|warenkorb|panier|carrito|cesta|购物车")
"""What is taken out of a cart, and what a cart is called."""
_OTHERWISE = re.compile(
    r"able\b|bar\b|polic|window|\bdays?\b|\burl|rate\b|until|deadline|\bnot?\b|\bnon\b|\bun(cancel|return)|\bnicht\b|\bsin\b|\bpas\b|未"
)
"""What makes such a word say something else: `refundable`, `return_window`, `not returned`."""
_TYPED = re.compile(r"quer|search|term|title|name|text|comment|note|descr|url|mail|message")
"""Names of columns whose words people typed."""
_NO = "('false', 'f', 'no', 'n', 'off', 'nein', 'non', '否')"
_FEW = 50
"""States a column may have: one with more different words holds texts."""
_SOME = 200_000
"""Rows that are looked at: what is in none of them is rare."""


@dataclass(frozen=True)
class _Found:
    """What a column says of carts and purchases."""

    rows: int
    """Of how many."""
    total: int
    says: str
    key: str
    """What to add to the mapping."""


def warn_of_returns(work: Work, mapping: Mapping, number: int, part: str) -> None:
    """Say which columns of an events table have to be mapped, lest what was sent back count as bought."""
    spec = mapping.events[number]
    _warn_of_kinds(work, spec, number, part)
    _warn_of_states(work, spec, number, part)
    raws = [raw for (raw,) in work.fetch(f"SELECT raw FROM kind WHERE part = {number} AND kind IN {_WORTH}")]
    try:
        names = _not_mapped(work, spec, part) if raws else []
        if not names:
            return
        once_more = replace(work, report=ImportReport())  # what is said of the files was said when they were read
        source = open_table(once_more, spec, part, [*names, *_mapped(spec)])
        source, _ = one_row_each(source, names_of(spec.item_id))
        kinds = f"{source.text(spec.kind_column)} IN ({', '.join(map(quoted, raws))})" if spec.kind_column else "true"
        rest = f"coalesce({source.number(spec.quantity)}, 1) > 0" if spec.quantity else "true"
        texts = ", ".join(f"{source.column(name).text} AS c{n}" for n, name in enumerate(names))
        some = f"(FROM {source.relation} LIMIT {_SOME})"
        work.run(f"CREATE OR REPLACE TEMP TABLE looked AS SELECT {texts} FROM {some} WHERE {kinds} AND {rest}")
        for n, name in enumerate(names):
            if found := _found(work, f"c{n}", name):
                what = f"although {name!r}, which is not mapped, {found.says}; add {found.key} to {part}"
                work.report.warn(f"{part} counts {found.rows:,} of {found.total:,} carts and purchases {what}")
                if found.key.startswith("quantity"):  # rows that take something back by it need no other key
                    work.run(f"DELETE FROM looked WHERE {_is_below_zero(f'c{n}')}")
        work.run("DROP TABLE looked")
    except (InputError, duckdb.Error):
        return  # columns that nobody asked for may be unreadable


def _not_mapped(work: Work, spec: EventsTable, part: str) -> list[str]:
    """The columns of rows, and of the list that products are in, that the mapping does not read; quantities first."""
    heads = {"", *(name.rpartition(".")[0] for name in names_of(spec.item_id))}
    read = {*_mapped(spec), *spec.where}
    names = [name for name, head in column_names(work, spec, part).items() if name not in read and head in heads]
    return sorted(names, key=lambda name: (not _QUANTITY.search(_plain(name)), not _AMOUNT.search(_plain(name))))


def _warn_of_states(work: Work, spec: EventsTable, number: int, part: str) -> None:
    """Say which words of `kind_column` take something back, though they may be the state of an order itself."""
    if spec.undo != UNDO or not _STATUS.search(_plain(spec.kind_column or "")):
        return
    back = f"SELECT raw FROM kind WHERE part = {number} AND undoes IS NOT NULL"
    rows = f"event_row WHERE part = {number} AND kind IN ({back})"
    for raw, n in work.fetch(f"SELECT kind, count(*) FROM {rows} GROUP BY kind ORDER BY 2 DESC, 1"):
        what = f"{spec.kind_column!r} says {raw!r} ({n:,}), which takes back what was bought before of the same product"
        work.report.warn(f"{part}: {what}; where it is the state of that order itself, add undo: {{}} to {part}")


def _warn_of_kinds(work: Work, spec: EventsTable, number: int, part: str) -> None:
    """Say which words of `kind_column` seem to take something back, and are dropped for want of a kind."""
    if spec.undo != UNDO:
        return
    unknown = f"SELECT raw FROM kind WHERE part = {number} AND kind IS NULL AND undoes IS NULL"
    rows = f"event_row WHERE part = {number} AND kind IN ({unknown})"
    for raw, n in work.fetch(f"SELECT kind, count(*) FROM {rows} GROUP BY kind ORDER BY 2 DESC, 1"):
        of_cart = bool(_CART.search(_plain(raw)))
        if _is_back(raw) or (of_cart and _REMOVED.search(_plain(raw))):
            undo = _yaml({raw: EventKind.CART.value if of_cart else EventKind.PURCHASE.value})
            what = f"leaves out the kind {raw!r} ({n:,}), which is not mapped, and what it takes back counts"
            work.report.warn(
                f"{part} {what}; add undo: {undo} to {part}, or undo: {{}} where it is the state of an order"
            )


def _mapped(spec: EventsTable) -> list[str]:
    ids = names_of(spec.user_id, spec.item_id, spec.list_id, spec.session_id, spec.event_id)
    return names_of(ids, spec.time, spec.order, spec.kind_column, spec.query, spec.value, spec.quantity, spec.split)


def _found(work: Work, text: str, name: str) -> _Found | None:
    """What an unmapped column says of some carts and purchases.

    Args:
        text: what the column is called in the table `looked`.
    """
    plain = _plain(name)
    words = [] if _TYPED.search(plain) else work.fetch(f"SELECT DISTINCT {text} FROM looked LIMIT {_FEW + 1}")
    told = len(words) <= _FEW and any(_is_back(word) for (word,) in words if word)
    if (_STATE.search(plain) or told) and (found := _of_states(work, text, name)):
        return found
    if _is_back(name):
        return _of_marks(work, text, name)
    counted = _QUANTITY.search(plain) or (_AMOUNT.search(plain) and not _LESS.search(plain))
    return _below_zero(work, text, name) if counted else None


def _of_states(work: Work, text: str, name: str) -> _Found | None:
    """Of `status`: rows that are cancelled, refunded, …"""
    counts = work.fetch(f"SELECT {text}, count(*) FROM looked GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {2 * _FEW + 1}")
    back = {word: n for word, n in counts if word is not None and _is_back(word)}
    if not back or len(counts) > 2 * _FEW:
        return None
    says = "says " + ", ".join(f"{word!r} ({n:,})" for word, n in back.items())
    total = sum(n for _, n in counts)
    return _Found(sum(back.values()), total, says, f"where: {_yaml({name: {'not': list(back)}})}")


def _of_marks(work: Work, text: str, name: str) -> _Found | None:
    """Of `is_refunded`, `cancelled_at`, `refund_amount`: rows where it is set, if it is not in all of them."""
    no = f"({is_missing(text)} OR lower(trim({text})) IN {_NO} OR coalesce(try_cast({text} AS DOUBLE) = 0, false))"
    ((total, unset, missing),) = work.fetch(
        f"SELECT count(*), count(*) FILTER ({no}), count(*) FILTER ({is_missing(text)}) FROM looked"
    )
    if not 0 < unset < total:
        return None
    set_to = [word for (word,) in work.fetch(f"SELECT DISTINCT {text} FROM looked WHERE NOT {no} ORDER BY 1 LIMIT 4")]
    few = len(set_to) < 4 and not any(word[:1].isdigit() for word in set_to)
    where = {"not": set_to} if few else None if unset == missing else [None, 0]
    return _Found(total - unset, total, f"is set ({set_to[0]!r}, …)", f"where: {_yaml({name: where})}")


def _below_zero(work: Work, text: str, name: str) -> _Found | None:
    """Of `qty`, `amount`: rows with a sign."""
    below = _is_below_zero(text)
    ((total, n, least),) = work.fetch(
        f"SELECT count(*), count(*) FILTER ({below}), any_value({text}) FILTER ({below}) FROM looked"
    )
    return _Found(n, total, f"is below zero ({least}, …)", f"quantity: {_yaml(name)}") if n else None


def _is_below_zero(text: str) -> str:
    """BOOLEAN, of a number as text, with a currency or without."""
    return f"regexp_matches({text}, '^\\s*-\\s*[$€£¥]?[0-9]')"


def _is_back(text: str) -> bool:
    plain = _plain(text)
    return bool(_BACK.search(plain) and not _OTHERWISE.search(plain))


def _plain(text: str) -> str:
    """In small letters, without accents, with a space between words: `isRefunded`, `IS_REFUNDED` are `is refunded`."""
    letters = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", letters).casefold()


def _yaml(value: Any) -> str:
    """Of one line, as a mapping file has it."""
    return json.dumps(value, ensure_ascii=False)
