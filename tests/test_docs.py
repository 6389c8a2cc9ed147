"""The links of the documentation lead somewhere, and what ranks say to each other was counted."""

import re
from pathlib import Path

import pytest

from benchmarks.ranks import ROWS, costs
from docs.check_links import broken_links, main
from tests.ranks import on_ranks

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


@pytest.mark.slow
def test_the_page_on_many_processes_has_the_calls_and_bytes_that_two_ranks_make() -> None:
    text = (ROOT / "docs" / "many-processes.md").read_text(encoding="utf-8")
    lines: list[tuple[str, str, str]] = re.findall(r"^\| (an? [^|]+) \| (\d) \| ([^|]*?) \| [^|]+", text, re.MULTILINE)
    written = {what: (float(calls), got) for what, calls, got in lines}
    found = on_ranks(2, costs, "ddp", fresh=True)[0]
    counted = {row.what: (one.calls, f"{one.got:,.0f} B") for row, one in zip(ROWS, found, strict=True)}
    calls, got = counted.pop("a checkpoint")  # its random streams take some bytes more or less
    assert written.pop("a checkpoint, rank 0") == (calls, "27 kB")
    assert re.fullmatch(r"2[678],\d{3} B", got)
    assert written == counted
