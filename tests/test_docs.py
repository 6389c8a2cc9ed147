"""The links of the documentation lead somewhere."""

from pathlib import Path

import pytest

from docs.check_links import broken_links, main

ROOT = Path(__file__).resolve().parent.parent
PAGE = """# How to stop early
[a page](other.md) and [a heading of it](other.md#the-reference-loop), [own heading](#how-to-stop-early),
[the web](https://example.org/x), `[no](link.md)`
```python
handlers[0](batch)
```
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "other.md").write_text("## The reference loop\n```\n# a comment\n```\n", encoding="utf-8")
    return docs


def test_links_that_lead_somewhere_are_left_alone(folder: Path) -> None:
    (folder / "page.md").write_text(PAGE, encoding="utf-8")
    assert list(broken_links(folder / "page.md")) == []


@pytest.mark.parametrize("link", ["gone.md", "other.md#gone", "#gone", "other.md#a-comment"])
def test_a_link_that_leads_nowhere_is_found(folder: Path, link: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "page.md").write_text(f"[text]({link})", encoding="utf-8")
    assert main(folder.parent) == 1
    assert capsys.readouterr().out == f"docs/page.md: {link}\n2 pages, 1 broken links\n"


def test_the_links_of_our_pages_lead_somewhere() -> None:
    assert main(ROOT) == 0
