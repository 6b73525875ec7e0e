"""How our pages are rendered: escaped, with their own scripts inside them, and forbidden to load anything else."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def environment() -> Environment:
    """Templates of this package; what is put into them is escaped, and a name that is not given is an error."""
    return Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def source(*names: str) -> Markup:
    """Our JavaScript files as the text of one script element: a scope of their own, in strict mode."""
    folder = resources.files("reports") / "templates"
    parts = [(folder / name).read_text(encoding="utf-8") for name in names]
    text = "(() => {\n'use strict';\n" + "\n".join(parts) + "})();\n"
    assert "</script" not in text, "it would end the element"
    return Markup(text)


def policy(script: str) -> str:
    """A Content-Security-Policy by which a browser runs this one script and loads nothing from anywhere.

    Source: Content Security Policy Level 3, section 2.3.1 (hash sources).
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = ("default-src 'none'", f"script-src 'sha256-{digest}'", "style-src 'unsafe-inline'", "img-src data:")
    return "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))
