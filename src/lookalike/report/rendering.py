"""Fill the templates of this folder, with numbers in words."""

from pathlib import Path
from typing import Any

import jinja2

from lookalike.report.numbers import describe, in_per_cent, protocol, seconds, settings, si


def render(template: str, **content: Any) -> str:
    """Return a template of this folder with its content; only HTML is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    filters = (describe, in_per_cent, protocol, seconds, settings, si)
    environment.filters |= {function.__name__: function for function in filters} | {"thousands": "{:,.0f}".format}
    return environment.get_template(template).render(content)
