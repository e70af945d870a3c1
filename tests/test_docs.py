"""The docs say what is so: the page of settings is made from them, and links lead to what is there."""

import re
from pathlib import Path

import pytest

from stillroom.pipeline.config.augmentations_page import augmentations_page
from stillroom.pipeline.config.reference import config_page

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def links(path):
    """What a page links to beside it: a path, a heading, or both."""
    return [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text()) if not link.startswith("http")]


def headings(path):
    """As links name them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_page_of_settings_is_up_to_date():
    assert (ROOT / "docs" / "config.md").read_text() == config_page()


def test_the_page_of_augmentations_is_up_to_date():
    assert (ROOT / "docs" / "augmentations.md").read_text() == augmentations_page()


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_links_between_the_docs_lead_somewhere(path):
    for link in links(path):
        name, _, heading = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_every_page_is_linked_to():
    """So links are found at all."""
    linked = {
        (path.parent / link.partition("#")[0]).resolve()
        for path in [ROOT / "README.md", *PAGES]
        for link in links(path)
    }
    assert set(PAGES) <= linked
