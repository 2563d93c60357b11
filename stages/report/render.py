"""Fills the templates page.html and page.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stages.report import wording

FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """The template `page.html` or `page.md` with `values`; a missing name is an error, HTML is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("percent", "number", "signed", "significant", "count", "size", "interval", "short", "words"):
        environment.filters[name] = getattr(wording, name)
    environment.filters |= {"cell": markdown_cell, "rich": rich}
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **values)


def rich(text: str) -> Any:
    """Plain text as HTML, what stands between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def markdown_cell(text: Any) -> str:
    """Text that cannot break a Markdown table or start an element of HTML."""
    escaped = " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("<", "&lt;").replace(">", "&gt;")
