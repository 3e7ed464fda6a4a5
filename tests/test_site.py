"""The site has every page, and links between pages lead somewhere."""

import re

import pytest

from restyle_lib.paths import REPOSITORY
from restyle_lib.reporting import site


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    site.gather(folder)
    return folder


def test_links_between_pages_lead_somewhere(source):
    """Without a build, which takes over a minute: every file that a page or a notebook names is in the sources."""
    pages = [page for page in source.rglob("*") if page.suffix in (".md", ".ipynb")]
    assert len(pages) > 20
    missing = [
        f"{page.relative_to(source)}: {link}"
        for page in pages
        for link in site.targets(page)
        if not (page.parent / link).exists() and not link.startswith("attachment:")
    ]
    assert not missing, "\n".join(missing)


def test_links_to_headings_lead_to_one(source):
    """`page.md#a-heading`, with the name that MyST and GitHub both give to it."""
    for page in source.rglob("*.md"):
        for link, name in re.findall(r"\]\(([^)#\s:]*\.md)#([^)\s]+)\)", page.read_text()):
            headings = re.findall(r"^#+ (.+)$", (page.parent / link).read_text(), re.MULTILINE)
            names = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert name in names, f"{page}: {link}#{name}"


def test_the_table_of_contents_has_every_page(source):
    """And no page that there is not."""
    listed = re.findall(r"^([\w/-]+)$", site.index(), re.MULTILINE)
    found = {str(path.relative_to(source).with_suffix("")) for path in source.rglob("*") if path.suffix in PAGES}
    assert found - {"index"} <= set(listed) and all(any(source.glob(f"{page}.*")) for page in listed)


PAGES = (".md", ".rst", ".ipynb")


def test_a_docstring_becomes_a_list_of_parameters():
    lines = ["Does it.", "", "steps: how many,", "       at least 1", "x, y:  images * 2", "Raises ValueError for 0."]
    site.docstring_as_markup(None, "function", "name", None, None, lines)
    assert lines == [
        "Does it.",
        "",
        ":param steps: how many,",
        "    at least 1",
        r":x, y: images \* 2",
        "",
        "Raises ValueError for 0.",
    ]


def test_nothing_of_it_is_committed():
    assert "/site/" in (REPOSITORY / ".gitignore").read_text().splitlines()
