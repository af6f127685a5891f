"""The page at /docs: every route with its request and replies, out of the OpenAPI; it loads nothing from anywhere.

app.include_router(docs_routes)
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

from reshelf.inference.serving.page import HEADERS

docs_routes = APIRouter(include_in_schema=False)
_PARTS = ("parameters", "requestBody", "responses")
_STYLE = "body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{overflow:auto}"


@docs_routes.get("/docs")
async def docs(request: Request) -> Response:
    described = request.app.openapi()
    parts = [f"<h1>{escape(described['info']['title'])} {escape(described['info']['version'])}</h1>"]
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(route.get('description', ''))}</p>")
            parts += [_details(name, route[name]) for name in _PARTS if name in route]
    parts.append("<h2>Schemas</h2>")
    parts += [_details(name, schema) for name, schema in described["components"]["schemas"].items()]
    page = f"<!doctype html><title>Reshelf</title><style>{_STYLE}</style>{''.join(parts)}"
    return Response(page, media_type="text/html; charset=utf-8", headers=HEADERS)


def _details(name: str, value: Any) -> str:
    text = escape(json.dumps(value, indent=1, ensure_ascii=False))
    return f"<details><summary>{escape(name)}</summary><pre>{text}</pre></details>"
