"""Fills the templates page.html and page.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.report import wording

FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """The template `page.html` or `page.md` with `values`; a name that is missing is an error, HTML is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("percent", "number", "significant", "count", "size", "interval", "short", "words"):
        environment.filters[name] = getattr(wording, name)
    environment.filters["cell"] = markdown_cell
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **values)


def markdown_cell(text: Any) -> str:
    """Text that cannot break a Markdown table or start an element of HTML."""
    escaped = " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("<", "&lt;").replace(">", "&gt;")
