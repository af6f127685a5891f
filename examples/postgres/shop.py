"""A shop's search in one file: PostgreSQL finds products, Reshelf orders them for the shopper, a page shows both.

    make -C examples/postgres        # from the root of the checkout
    python shop.py --data ../../runs/demo/data --service http://localhost:8000

The cluster is a temporary one in a folder of its own, reached by a Unix socket; nothing of it is left at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import jinja2
import psycopg
import pyarrow.parquet as pq
import uvicorn
from fastapi import Body, FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from psycopg.rows import class_row

from reshelf import Client, SentEvent, ServiceError

CANDIDATES = 100
DEADLINE_MS = 500.0
COLUMNS = ["item_id", "title", "brand", "price", "description"]
# PostgreSQL takes 'Black/White' for a path, 'Dress.Red' for a host, the -15 of 'iPhone-15' for a number, and finds none
# of them by its parts (findings/postgres_reads_black_white_as_a_path.sh).
# Titles weigh more than brands, those more than descriptions.
TABLE = r"""
CREATE FUNCTION apart(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$
    SELECT regexp_replace($1, '(?<=\w)[/-](?=\w)|(?<=[[:alpha:]])[.](?=[[:alpha:]])', ' ', 'g')
$$;
CREATE TABLE items (
    item_id text PRIMARY KEY, title text NOT NULL, brand text, price float8, description text,
    document tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', apart(title)), 'A')
        || setweight(to_tsvector('english', apart(coalesce(brand, ''))), 'B')
        || setweight(to_tsvector('english', apart(coalesce(description, ''))), 'C')
    ) STORED
)
"""
# Any word of the query is enough: what fits badly comes late, and is not lost.
SEARCH = """
SELECT item_id, title, brand, price, ts_rank_cd(document, query) AS score
FROM items, CAST(replace(CAST(plainto_tsquery('english', apart(%s)) AS text), '&', '|') AS tsquery) AS query
WHERE document @@ query
ORDER BY score DESC, item_id
LIMIT %s
"""
COMMON_WORDS = """
SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', title) FROM items')
WHERE length(word) > 3 ORDER BY ndoc DESC, word LIMIT 10
"""


class Hit(NamedTuple):
    """A product that PostgreSQL found."""

    item_id: str
    title: str
    brand: str | None
    price: float | None
    score: float


@contextlib.contextmanager
def temporary_postgres(folder: Path) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a cluster that ends with it. PostgreSQL refuses to be run by root: then it is nobody's."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *filter(None, [shutil.which("initdb")])]
    if not found:
        sys.exit("PostgreSQL is not installed; `apt install postgresql`")
    programs = Path(found[-1]).resolve().parent
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        owner = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
    cluster = folder / "cluster"
    make: list[str | Path] = [
        programs / "initdb",
        "-D",
        cluster,
        "--no-sync",
        "--auth=trust",
        "--username=shop",
        "--encoding=UTF8",
    ]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=folder, **owner)
    run: list[str | Path] = [
        programs / "postgres",
        "-D",
        cluster,
        "-k",
        folder,
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
    ]
    server = subprocess.Popen(run, stderr=subprocess.DEVNULL, cwd=folder, **owner)
    try:
        database = None
        while database is None:
            if server.poll() is not None:
                sys.exit("PostgreSQL did not start")
            with contextlib.suppress(psycopg.OperationalError):
                database = psycopg.connect(host=str(folder), user="shop", dbname="postgres", autocommit=True)
            time.sleep(0.05)
        with database:
            yield database
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def reshelf_service(folder: Path, model: Path, data: Path) -> Iterator[str]:
    """Address of a service that ends with it."""
    place = folder / "reshelf"
    command = [sys.executable, "-m", "reshelf.cli", "serve", "--model", model, "--data", data]
    command += ["--uds", place, "--history", folder / "history.sqlite", "--log_level", "warning"]
    server = subprocess.Popen(list(map(str, command)))
    try:
        while not place.exists():
            if server.poll() is not None:
                sys.exit("Reshelf did not start")
            time.sleep(0.05)
        yield f"unix:{place}"
    finally:
        server.terminate()
        server.wait()


def load(database: psycopg.Connection[Any], data: Path) -> None:
    """The data set's items, as a shop's own table."""
    items = pq.read_table(data / "items.parquet", columns=COLUMNS).to_pylist()
    database.execute(TABLE)
    with database.cursor() as cursor, cursor.copy(f"COPY items ({', '.join(COLUMNS)}) FROM STDIN") as copy:
        for item in items:
            copy.write_row([item[name] for name in COLUMNS])
    database.execute("CREATE INDEX ON items USING gin (document)")
    database.execute("ANALYZE items")


def shop(database: psycopg.Connection[Any], client: Client) -> FastAPI:
    """The page."""
    app = FastAPI(openapi_url=None)
    page = jinja2.Environment(autoescape=True).from_string((Path(__file__).parent / "page.html").read_text("utf-8"))
    words = [word for (word,) in database.execute(COMMON_WORDS)]

    @app.exception_handler(psycopg.OperationalError)
    def away(_request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"PostgreSQL does not answer: {error}", 503)

    @app.get("/", response_class=HTMLResponse)
    def search(q: str = "", user: str = "") -> str:
        q, user = q.replace("\0", " "), user.strip() or "you"  # PostgreSQL's texts hold no NUL
        with psycopg.connect(database.info.dsn, row_factory=class_row(Hit)) as one:
            hits = one.execute(SEARCH, (q, CANDIDATES)).fetchall()
        order, said = list(range(len(hits))), "nothing found" if q else ""
        if hits:
            try:
                reply = client.rerank(
                    q, [hit.item_id for hit in hits], user_id=user, scores=[hit.score for hit in hits],
                    deadline_ms=DEADLINE_MS,
                )  # fmt: skip
                order = [one.index for one in reply.results]
                events = reply.meta.history.get("events", 0)
                said = reply.meta.fallback or f"{events} events, {reply.meta.ms['total']:.0f} ms"
            except ServiceError as error:  # a shop's own order is never worse than no page
                said = str(error)
        ranked = [(hits[index], index - place) for place, index in enumerate(order)]
        return page.render(q=q, user=user, hits=hits, ranked=ranked, said=said, words=words)

    @app.post("/click")
    def click(form: Annotated[bytes, Body(media_type="application/x-www-form-urlencoded")] = b"") -> RedirectResponse:
        sent = dict(parse_qsl(form.decode(errors="replace")))
        user, item = sent.get("user", "you"), sent.get("item", "")
        if item:
            try:
                client.send_events([SentEvent(user_id=user, kind="click", item_id=item)])
            except ServiceError as error:  # nor is a lost click worth one
                logging.warning("a click was not kept: %s", error)
        return RedirectResponse("/?" + urlencode({"q": sent.get("q", ""), "user": user}), 303)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set folder with items.parquet")
    parser.add_argument("--model", type=Path, help="reranker folder, to be served here")
    parser.add_argument("--service", help="or the address of a service that runs already, over the same data set")
    parser.add_argument("--port", type=int, default=8080)
    args = parser.parse_args()
    if (args.model is None) == (args.service is None):
        parser.error("give either --model or --service")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn sends it on, and what is open is closed
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop")))
        database = stack.enter_context(temporary_postgres(folder))
        load(database, args.data)
        service = args.service or stack.enter_context(reshelf_service(folder, args.model, args.data))
        client = stack.enter_context(Client(service))
        uvicorn.run(shop(database, client), port=args.port, log_level="info", access_log=False)


if __name__ == "__main__":
    main()
