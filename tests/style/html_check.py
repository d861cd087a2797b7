#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks a static site.

usage: html_check.py links FOLDER
       html_check.py width FOLDER PIXELS BROWSER

"links": each link and style sheet within the site leads to a page and an id
that are there, ids are unique, each page has a title and can be reached from
index.html, and nothing is loaded from elsewhere.
"width": in a headless BROWSER with a window of that width no page is wider.
"""

import glob
import os
import re
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from typing import Dict, List, Set, Tuple

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.ids: List[str] = []
        self.links: List[str] = []
        self.loads: List[str] = []
        self.open: List[str] = []
        self.bad: List[str] = []
        self.title = ""
        with open(path, encoding="utf-8") as file:
            self.feed(file.read())
        self.close()
        self.bad += [f"<{tag}> is not closed" for tag in self.open
                     if tag not in ("p", "li", "dt", "dd")]

    def handle_starttag(self, tag: str,
                        attrs: List[Tuple[str, "str | None"]]) -> None:
        known = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if known.get("id"):
            self.ids.append(known["id"] or "")
        if tag == "a" and known.get("href") is not None:
            self.links.append(known["href"] or "")
        elif known.get("src") or known.get("href"):
            self.loads.append(known.get("src") or known.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.open:
            self.bad.append(f"</{tag}> without a beginning")
            return
        while self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title":
            self.title += data


def check_page(name: str, pages: Dict[str, Page], folder: str) -> List[str]:
    page = pages[name]
    found = list(page.bad)
    if not page.title:
        found.append("no title")
    found += [f"two of the id {i}" for i in sorted(set(page.ids))
              if page.ids.count(i) > 1]
    for target in page.loads:
        if not os.path.exists(os.path.join(folder, target)):
            found.append(f"loads {target}")
    for target in page.links:
        if re.match("(https?|mailto):", target):
            continue
        file, _, anchor = target.partition("#")
        if file and file not in pages:
            found.append(f"there is no {target}")
        elif anchor and anchor not in pages[file or name].ids:
            found.append(f"there is no id for {target}")
    return found


def check_links(folder: str) -> int:
    pages = {os.path.basename(path): Page(path)
             for path in glob.glob(os.path.join(folder, "*.html"))}
    bad = 0
    for name in sorted(pages):
        for text in check_page(name, pages, folder):
            print(f"{name}: {text}")
            bad = 1
    seen: Set[str] = set()
    todo = ["index.html"]
    while todo:
        name = todo.pop()
        if name in pages and name not in seen:
            seen.add(name)
            todo += [link.partition("#")[0] for link in pages[name].links]
    for name in sorted(set(pages) - seen):
        print(f"no link leads to {name}")
        bad = 1
    print(f"{len(pages)} pages, "
          f"{sum(len(page.links) for page in pages.values())} links")
    return bad


SCRIPT = """<script>
addEventListener ("load", () => {
  const e = document.documentElement;
  e.setAttribute ("data-width", e.scrollWidth + "/" + e.clientWidth);
});
</script></head>"""


def check_width(folder: str, pixels: str, browser: str) -> int:
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        for path in sorted(glob.glob(os.path.join(folder, "*"))):
            with open(path, encoding="utf-8") as file:
                text = file.read().replace("</head>", SCRIPT, 1)
            name = os.path.join(place, os.path.basename(path))
            with open(name, "w", encoding="utf-8") as out:
                out.write(text)
        for path in sorted(glob.glob(os.path.join(place, "*.html"))):
            dom = subprocess.run(
                [browser, "--headless", "--no-sandbox", "--disable-gpu",
                 f"--user-data-dir={place}/profile", "--dump-dom",
                 f"--window-size={pixels},800", "file://" + path],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                timeout=120, check=True).stdout
            match = re.search(r'data-width="(\d+)/(\d+)"', dom)
            print(f"{os.path.basename(path)}: {match and match[0]}")
            if not match or int(match[1]) > int(pixels) \
                    or int(match[2]) > int(pixels):
                print("  it is too wide")
                bad = 1
    return bad


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "links":
        return check_links(sys.argv[2])
    if len(sys.argv) == 5 and sys.argv[1] == "width":
        return check_width(*sys.argv[2:])
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
