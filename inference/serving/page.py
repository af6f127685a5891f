"""The page at /ui: a shopper, a history and a query; first-stage and personalised order side by side, and why.

    app.state.shop = PageSearch(catalogue, data)
    app.include_router(page_routes)

It is in the language of the server's model, and talks to the same routes as everybody. What it needs on top is a first
stage, which a shop has and a demonstration does not: BM25 over the catalogue, and lists of a data set to begin with.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from reshelf.data.bm25 import Bm25Index
from reshelf.data.dataset_folder import read_records
from reshelf.data.schema import Item, RankingList
from reshelf.inference.rules import Rules
from reshelf.inference.serving.dependencies import Admitted, Served
from reshelf.inference.serving.refusals import RefusedError
from reshelf.translation import translations

PAGE = Path(__file__).with_name("page.html")
_READ, _LISTS = 400, 40
_FOUND = 40
_QUERY = 200
HEADERS = {
    # Everything the page needs is in it.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class PageSearch:
    """A first stage for the page.

    Args:
        catalogue: items by id.
        data: data set folder whose test lists can be picked; None for no lists.
    """

    def __init__(self, catalogue: Mapping[str, Item], data: Path | None) -> None:
        self.catalogue = catalogue
        self._data = data

    @cached_property
    def lists(self) -> list[RankingList]:
        """The first test lists of different shoppers, those with a history before those without."""
        if self._data is None or not (self._data / "test.parquet").exists():
            return []
        found: dict[str, RankingList] = {}
        for one in islice(read_records(self._data / "test.parquet", RankingList), _READ):
            found.setdefault(one.user_id, one)
        return sorted(found.values(), key=lambda one: not one.history)[:_LISTS]

    def search(self, query: str, rules: Rules | None) -> list[str]:
        """Ids of the best items by BM25 that a tenant's rules permit; none where no word is found."""
        found = [self._ids[place] for place in self._index.top(query, len(self._ids))]
        permitted = (rules or Rules()).permitted(self.catalogue[item_id] for item_id in found)
        return [found[k] for k in islice(permitted, _FOUND)]

    def described(self, item_ids: list[str]) -> dict[str, Any]:
        """What the page shows of items."""
        return {
            item_id: item.model_dump(mode="json", include={"title", "brand", "price", "currency"}, exclude_none=True)
            for item_id in item_ids
            if (item := self.catalogue.get(item_id)) is not None
        }

    @cached_property
    def _ids(self) -> list[str]:
        return list(self.catalogue)

    @cached_property
    def _index(self) -> Bm25Index:
        return Bm25Index(
            " ".join([item.title, item.brand or "", *item.category, *item.attributes.values()])
            for item in self.catalogue.values()
        )


page_routes = APIRouter(include_in_schema=False)


@cache
def page_text(language: str) -> str:
    """The page in a language."""
    templates = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    words = {"_": translations(language).gettext, "language": "en" if language == "auto" else language}
    return templates.from_string(PAGE.read_text(encoding="utf-8")).render(words)


@page_routes.get("/")
async def start() -> Response:
    return RedirectResponse("ui")


@page_routes.get("/ui")
async def page(service: Served) -> Response:
    text = page_text(service.models.own.spec.prompt.language)
    return Response(text, media_type="text/html; charset=utf-8", headers=HEADERS)


@page_routes.get("/ui/lists")
async def lists(request: Request, tenant: Admitted, service: Served) -> dict[str, Any]:
    shop: PageSearch = request.app.state.shop
    found = await run_in_threadpool(lambda: shop.lists)
    ids = [i for one in found for i in (*one.candidates, *(e.item_id for e in one.history if e.item_id))]
    model = service.models.of(tenant.model)
    read = set() if model is None else set(model.spec.prompt.context)  # a data set may hold more than the model reads
    whole = {"list_id", "user_id", "query", "history", "candidates", "scores", "features"}
    include: dict[str, Any] = dict.fromkeys(whole, True) | {"context": read}
    return {
        "lists": [one.model_dump(mode="json", exclude_none=True, include=include) for one in found],
        "items": shop.described(ids),
    }


@page_routes.get("/ui/search")
async def search(request: Request, query: str, tenant: Admitted) -> dict[str, Any]:
    shop: PageSearch = request.app.state.shop
    if len(query) > _QUERY:
        raise RefusedError(f"{len(query)} characters; send at most {_QUERY}", "query")
    found = await run_in_threadpool(shop.search, query, tenant.rules)
    return {"candidates": found, "items": shop.described(found)}
