"""The page at /ui in a real browser: pick a shopper, see the order and why, add a click, see the order react."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.inference.serving.page import HEADERS, page_text
from tests.inference.serving.server import Server

HOSTILE = "<img src=x onerror=\"document.title='taken'\"> mug"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a browser: install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Server], catalogue: dict[str, Item],
    lists: list[RankingList],
) -> Iterator[Server]:  # fmt: skip
    folder = tmp_path_factory.mktemp("page")
    items = catalogue | {"evil": Item(item_id="evil", title=HOSTILE)}
    save_dataset_folder(folder / "data", RankingData(items, {"test": lists}))
    running = serve(folder, "--data", folder / "data")
    yield running
    assert running.close() == 0


@pytest.fixture
def page(browser: Browser, shown: Server) -> Iterator[Page]:
    with browser.new_context() as context:
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{shown.url}/ui")
        ranked(page)
        yield page
        assert problems == []


def order(page: Page, side: str) -> list[str]:
    return page.locator(f"#{side} .product").evaluate_all("nodes => nodes.map(node => node.dataset.item)")


def ranked(page: Page) -> None:
    expect(page.locator("#said")).to_contain_text("moved", timeout=30_000)


def test_both_orders_stand_side_by_side_as_the_server_gives_them(
    page: Page, shown: Server, lists: list[RankingList]
) -> None:
    ranking = lists[0]
    assert order(page, "before") == list(ranking.candidates)
    history = [event.model_dump(mode="json", exclude_none=True, exclude={"time"}) for event in ranking.history]
    reply = shown.rerank(
        query=ranking.query,
        documents=list(ranking.candidates),
        history=history,
        scores=ranking.scores,
        context=ranking.context,
    ).json()
    assert order(page, "after") == [ranking.candidates[one["index"]] for one in reply["results"]]
    for place, one in enumerate(reply["results"]):
        row = page.locator("#after .product").nth(place)
        moved = one["index"] - place
        expect(row.locator(".up, .down")).to_have_text([f"▲{moved} " if moved > 0 else f"▼{-moved} "] if moved else [])
    why = page.locator("#after .why").first
    why.locator("summary").click()
    expect(why).to_contain_text("Place 1, ")
    expect(why.locator(".bar").first).to_be_visible()


def test_a_click_joins_the_history_and_the_order_reacts(page: Page) -> None:
    before = order(page, "after")
    events = page.locator("#history li").count()
    with page.expect_response("**/v1/rerank") as reply:
        page.locator("#before .product button").last.click()
    assert reply.value.ok
    expect(page.locator("#history li")).to_have_count(events + 1)
    ranked(page)
    after = order(page, "after")
    assert sorted(after) == sorted(before)
    assert after != before
    with page.expect_response("**/v1/rerank"):
        page.locator("#history button").last.click()
    expect(page.locator("#history li")).to_have_count(events)
    ranked(page)
    assert order(page, "after") == before


def test_the_first_stage_is_there_while_a_list_is_ranked(page: Page, lists: list[RankingList]) -> None:
    held: list[Route] = []
    page.route("**/v1/rerank", lambda route: held.append(route))
    page.fill("#query", "wool")
    page.click("#ask button")
    expect(page.locator("#after")).to_have_attribute("aria-busy", "true")
    expect(page.locator("#said")).to_have_text("ranking …")
    assert order(page, "after") == order(page, "before") != list(lists[0].candidates)
    held[0].continue_()
    ranked(page)
    expect(page.locator("#after")).to_have_attribute("aria-busy", "false")
    assert sorted(order(page, "after")) == sorted(order(page, "before"))


def test_a_typed_shoppers_clicks_are_kept_by_the_server(page: Page, shown: Server, lists: list[RankingList]) -> None:
    page.fill("#shopper", "typed")
    page.fill("#query", "blue wool coat")
    with page.expect_response("**/v1/rerank"):
        page.click("#ask button")
    ranked(page)
    found = order(page, "before")
    assert found
    with page.expect_response("**/v1/events") as sent, page.expect_response("**/v1/rerank"):
        page.locator("#before .product button").first.click()
    assert sent.value.json() == {"stored": 1}
    asked = shown.rerank(query="blue wool coat", documents=found, user_id="typed").json()
    assert asked["meta"]["history"]["events"] == 1


def test_a_chinese_models_page_holds_no_english(page: Page) -> None:
    """The page of a Chinese model, over this server's lists."""
    page.route("**/ui", lambda route: route.fulfill(body=page_text("zh"), headers=HEADERS, content_type="text/html"))
    page.reload()
    expect(page.locator("#said")).to_contain_text("改变了位置", timeout=30_000)
    catalogue = page.evaluate("Object.values(items).flatMap(item => [item.title, price(item.item_id)])")
    catalogue += page.evaluate("[list.query, ...events.map(event => event.query)].filter(Boolean)")

    def english() -> list[str]:
        words = page.locator("main").inner_text()
        for text in sorted(catalogue, key=len, reverse=True):
            words = words.replace(text, "")
        return re.findall("[A-Za-z]{2,}", re.sub("Reshelf|transformers|token|id|EUR", "", words))

    assert english() == []
    page.fill("#event", "搜索 雨衣")
    with page.expect_response("**/v1/rerank"):
        page.click("#add button")
    expect(page.locator("#history li").last).to_have_text("搜索 雨衣 ×")
    page.fill("#shopper", "typed")
    page.fill("#query", "qqq")
    page.click("#ask button")
    expect(page.locator("#said")).to_have_text("商品目录中没有与该查询匹配的商品")


def test_another_shoppers_lists_do_not_stay(page: Page) -> None:
    assert order(page, "before")
    page.fill("#shopper", "somebody else")
    page.locator("#shopper").blur()
    expect(page.locator("#before .product, #after .product")).to_have_count(0)
    expect(page.locator("#said")).to_have_text("")
    page.fill("#query", "blue wool coat")
    with page.expect_response("**/v1/rerank"):
        page.click("#ask button")
    ranked(page)
    page.fill("#query", "zzz qqq")
    page.click("#ask button")
    expect(page.locator("#said")).to_have_text("the catalogue has nothing for this query")
    expect(page.locator("#before .product, #after .product")).to_have_count(0)


def test_what_a_shop_wrote_is_text(page: Page) -> None:
    page.fill("#query", "onerror")
    with page.expect_response("**/v1/rerank"):
        page.click("#ask button")
    expect(page.locator("#before .title")).to_have_text([HOSTILE])
    assert page.title() == "Reshelf"
    assert page.locator("img").count() == 0


def test_what_is_refused_is_said(page: Page) -> None:
    page.fill("#query", "zzz qqq")
    page.click("#ask button")
    expect(page.locator("#said")).to_have_text("the catalogue has nothing for this query")
    page.fill("#event", "no such item")
    page.click("#add button")
    page.fill("#query", "x" * 300)
    page.click("#ask button")
    expect(page.locator("#said")).to_have_text("query: 300 characters; send at most 200")
