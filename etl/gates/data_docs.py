"""Great Expectations' Data Docs as pages that need no network.

The library's renderers decide the content of a page, its templates draw the parts; the page around them is ours. The
library's own page loads style sheets, scripts and a picture from half a dozen servers.
"""

import importlib
from collections.abc import Sequence
from html import escape
from typing import Any

from jinja2 import ChoiceLoader, DictLoader

from common import storage
from common.storage import Storage

INDEX = "index.html"
_PAGE = "ringlake_page.j2"
_STYLE = """<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { border-bottom: 1px solid #8884; padding: .35rem .6rem; text-align: left; vertical-align: top; }
ul { padding-left: 1.2rem; } .list-unstyled { list-style: none; padding: 0; }
.fa-check-circle::before { content: "✔"; color: #1a7f37; } .fa-times::before { content: "✘"; color: #c62828; }
.fa-exclamation-triangle::before { content: "!"; color: #b26a00; }
</style>"""
_HEAD = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>{_STYLE}</head>'
_TEMPLATE = (
    _HEAD
    + """<body><p><a href="{{ home }}">Data Docs</a></p>
{% for section in sections %}{% set section_loop = loop %}{% include "section.j2" %}{% endfor %}
</body></html>
"""
)


def write(validations: Sequence[Any], run: str, location: str, options: Storage) -> str:
    """Replace the site at `location` by pages about these results of suites; return the location of its first page.

    `run`: the name of the folder for the results.
    """
    file_system, path = storage.filesystem(location, options)
    if file_system.exists(path):
        file_system.rm(path, recursive=True)
    pages = _pages(validations, run)
    index = storage.join(location, INDEX)
    for name, page in {**pages, INDEX: _first_page(list(pages))}.items():
        storage.write_bytes(storage.join(location, name), page.encode(), options)
    return index


def _pages(validations: Sequence[Any], run: str) -> dict[str, str]:
    """Return the HTML by the path below the site: for each result its suite's expectations, and their outcome."""
    if not validations:
        return {}
    # By name: the library has types, but exports none of these.
    renderers: Any = importlib.import_module("great_expectations.render.renderer")
    views: Any = importlib.import_module("great_expectations.render.view")
    view, pages = views.DefaultJinjaPageView(), {}
    view.env.loader = ChoiceLoader([DictLoader({_PAGE: _TEMPLATE}), view.env.loader])
    for validation, suite in validations:
        # Four folders deep: from there the library's link to the expectations leads to the page of the suite.
        shown = renderers.ValidationResultsPageRenderer().render(validation)
        pages[f"validations/{suite.name}/{run}/newest/result.html"] = view.render(
            shown, template=_PAGE, home=f"../../../../{INDEX}"
        )
        of_suite = renderers.ExpectationSuitePageRenderer().render(suite)
        pages[f"expectations/{suite.name}.html"] = view.render(of_suite, template=_PAGE, home=f"../{INDEX}")
    return pages


def _first_page(pages: Sequence[str]) -> str:
    lists = []
    for heading, folder in (("Validation results", "validations"), ("Expectations", "expectations")):
        below = [page for page in pages if page.startswith(f"{folder}/")]
        links = "".join(
            f'<li><a href="{escape(page)}">{escape(page.split("/")[1].removesuffix(".html"))}</a></li>'
            for page in below
        )
        lists.append(f"<h2>{heading}</h2><ul>{links}</ul>")
    return (
        f"{_HEAD}<body><h1>Data Docs</h1><p>Made by Great Expectations.</p>{''.join(lists)}</body></html>\n"
    )
