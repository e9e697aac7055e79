"""What must hold of the site that was built: `make docs` runs it.

Every link leads somewhere, nothing is fetched from elsewhere, every public name has its page with
an example, and llms.txt lists pages that are there as Markdown.
"""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import vae_fast as vf
from vae_fast.latent import quantizers

SITE = Path(__file__).parents[2] / "build" / "site"
PAGES = [path for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts]
NAMES = [str(path.relative_to(SITE)) for path in PAGES]
FETCHED = {"src", "srcset", "poster", "data"}


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name"):
                self.anchors.add(value)
            elif name == "href" or name in FETCHED:
                self.links.append((tag, name, value or ""))


page = cache(Page)


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_its_links_lead_somewhere(path):
    dead = []
    for _, _, link in page(path).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or link == "#":
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        missing = not target.exists()
        if not missing and parts.fragment and target.suffix == ".html":
            missing = unquote(parts.fragment) not in page(target).anchors
        if missing:
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_it_fetches_nothing_from_elsewhere(path):
    fetched = [
        link
        for tag, name, link in page(path).links
        if urlsplit(link).netloc and (name in FETCHED or tag == "link")
    ]
    assert not fetched


def test_every_public_name_has_a_page_with_an_example():
    names = [f"vae_fast.{name}" for name in vf.__all__ if name != "__version__"]
    names += [f"vae_fast.distributions.{name}" for name in vf.distributions.__all__]
    names += [f"vae_fast.latent.quantizers.{name}" for name in quantizers.__all__]
    for name in names:
        text = (SITE / "api" / f"{name}.html").read_text()
        assert ">Example</p>" in text, name
        assert "&gt;&gt;&gt; " in text, name


def test_llms_txt_lists_markdown_that_is_there():
    indexes = sorted(SITE.rglob("llms.txt"))
    assert SITE / "llms.txt" in indexes
    for index in indexes:
        links = re.findall(r"\]\(([^)]+)\)", index.read_text())
        assert links
        for link in links:
            assert (index.parent / unquote(urlsplit(link).path)).is_file(), link
