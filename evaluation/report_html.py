"""A report's Markdown as one HTML file that can be sent around: its pictures are inside it.

page(markdown_text, Path("runs/demo"), "en")
"""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1d2433; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #dde1e8; padding-bottom: .3rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #eceff3; text-align: left; white-space: nowrap; }
th { background: #f6f7f9; } img { max-width: 100%; }
"""
_IMAGE = re.compile(r'<img src="([^":/]+\.svg)"')


def page(markdown: str, folder: Path, language: str = "en") -> str:
    """HTML in a language; raw HTML in the Markdown is shown as text, and pictures are read from `folder`."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    title = html.escape(markdown.splitlines()[0].lstrip("# "))

    def inside(found: re.Match[str]) -> str:
        data = base64.b64encode((folder / found[1]).read_bytes()).decode()
        return f'<img src="data:image/svg+xml;base64,{data}"'

    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{_IMAGE.sub(inside, body)}</body></html>\n"
    )
