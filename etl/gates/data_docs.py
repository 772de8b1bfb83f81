"""Great Expectations' Data Docs, made to be read without a network and moved to where they belong.

Its pages load style sheets and scripts from half a dozen servers. They are taken out, and a small style sheet and a
plain list of the pages take their place, so that they show the same anywhere and tell nobody that they were opened.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common import storage
from common.storage import Storage

_REMOTE = re.compile(
    r"""<link\b[^>]*\bhref=["']https?://[^>]*>|<script\b[^>]*\bsrc=["']https?://[^>]*>\s*</script>"""
    r"""|<img\b[^>]*\bsrc=["']https?://[^>]*>|<script\b[^>]*>.*?</script>""",
    re.IGNORECASE | re.DOTALL,
)
_LINK = re.compile(r"""<a\b[^>]*\bhref=["']https?://[^>]*>(.*?)</a>""", re.IGNORECASE | re.DOTALL)

STYLE = """<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { border-bottom: 1px solid #8884; padding: .35rem .6rem; text-align: left; vertical-align: top; }
ul { padding-left: 1.2rem; } .breadcrumb, .nav, .list-unstyled { list-style: none; padding: 0; }
.fa-check-circle::before { content: "✔"; color: #1a7f37; } .fa-times::before { content: "✘"; color: #c62828; }
.fa-exclamation-triangle::before { content: "!"; color: #b26a00; }
footer, .modal, .tooltip-inner, .btn, .ge-index-page-site-name-title img, input, select { display: none; }
</style>
"""


@dataclass(frozen=True)
class Site:
    """A site under construction: the local folder that it is built in, and where its first page will lie."""

    folder: Path
    index: str


@contextmanager
def site(location: str, options: Storage) -> Iterator[Site]:
    """A folder to build a site in; at the end its pages are made self-contained and replace those at `location`."""
    with tempfile.TemporaryDirectory(prefix="data-docs-") as folder:
        building = Site(Path(folder), storage.join(location, "index.html"))
        yield building
        for page in building.folder.rglob("*.html"):
            page.write_text(self_contained(page.read_text(encoding="utf-8")), encoding="utf-8")
        (building.folder / "index.html").write_text(_first_page(building.folder), encoding="utf-8")
        for unused in ("fonts", "images"):
            shutil.rmtree(building.folder / "static" / unused, ignore_errors=True)
        _replace(building.folder, location, options)


def self_contained(page: str) -> str:
    """The page without scripts and without anything that a browser would fetch from a server."""
    page = _LINK.sub(r"\1", _REMOTE.sub("", page))
    return page.replace("</head>", f"{STYLE}</head>", 1)


def _first_page(folder: Path) -> str:
    """Links to all pages; the library's own first page draws them with a script from a server."""
    lists = []
    for heading, part in (("Validation results", "validations"), ("Expectations", "expectations")):
        pages = sorted(page.relative_to(folder) for page in (folder / part).rglob("*.html"))
        links = "".join(f'<li><a href="{page.as_posix()}">{page.parts[1]}</a></li>' for page in pages)
        lists.append(f"<h2>{heading}</h2><ul>{links.replace('.html</a>', '</a>')}</ul>")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>{STYLE}</head>'
        f"<body><h1>Data Docs</h1><p>Made by Great Expectations.</p>{''.join(lists)}</body></html>\n"
    )


def _replace(folder: Path, location: str, options: Storage) -> None:
    file_system, path = storage.filesystem(location, options)
    if file_system.exists(path):
        file_system.rm(path, recursive=True)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            storage.write_bytes(
                storage.join(location, file.relative_to(folder).as_posix()), file.read_bytes(), options
            )
