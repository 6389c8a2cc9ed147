"""Finds links in README.md and docs/*.md that lead nowhere: `python -m docs.check_links`.

A link leads somewhere when its file exists and, after a `#`, when that file has the heading. Addresses of the web are
not visited.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
WEB = re.compile(r"[a-z][a-z0-9+.-]*:")


def anchors(text: str) -> set[str]:
    """The `#names` under which the headings of a page can be reached."""
    headings: list[str] = HEADING.findall(FENCED.sub("", text))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    """Yields the targets in `page` that do not exist, in order."""
    links: list[str] = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    for link in links:
        if WEB.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            yield link


def main(root: Path) -> int:
    """Prints the broken links under `root` and gives the exit code."""
    pages = [*root.glob("README.md"), *sorted((root / "docs").glob("*.md"))]
    broken = [f"{page.relative_to(root)}: {link}" for page in pages for link in broken_links(page)]
    print(*broken, f"{len(pages)} pages, {len(broken)} broken links", sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
