#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks a static site.

usage: html_check.py links FOLDER
       html_check.py width FOLDER PIXELS BROWSER

"links": each link and style sheet within the site leads to a page and an id
that are there, ids are unique, each page has a title and can be reached from
index.html, and nothing is loaded from elsewhere.
"width": in a headless BROWSER, in a frame of that width, no page is wider.
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
        if tag in VOID:
            return
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


# Each page says how wide it is to the one that has them all in frames: a window
# of Chromium has a least width, which is more than a phone's.
SCRIPT = """<script>
addEventListener ("load", () => {
  const e = document.documentElement;
  parent.postMessage (
    "width of NAME: " + e.scrollWidth + "/" + e.clientWidth + ";", "*");
});
</script></head>"""
FRAMES = """<!DOCTYPE html><html><head><script>
addEventListener ("message", (m) => {
  document.documentElement.append (m.data);
});
</script></head><body>%s</body></html>"""


def measure(folder: str, pixels: str, browser: str) -> Dict[str, Tuple[int, int]]:
    """Of each page, how wide it is and how much of it is seen."""
    with tempfile.TemporaryDirectory() as place:
        frames = ""
        for path in sorted(glob.glob(os.path.join(folder, "*"))):
            name = os.path.basename(path)
            with open(path, encoding="utf-8") as file:
                text = file.read().replace(
                    "</head>", SCRIPT.replace("NAME", name), 1)
            with open(os.path.join(place, name), "w", encoding="utf-8") as out:
                out.write(text)
            if name.endswith(".html"):
                frames += (f'<iframe src="{name}" width="{pixels}" '
                           'height="800" style="border: 0"></iframe>\n')
        outer = os.path.join(place, "frames")
        os.mkdir(outer)
        with open(outer + "/all.html", "w", encoding="utf-8") as out:
            out.write(FRAMES % frames.replace('src="', 'src="../'))
        dom = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu",
             f"--user-data-dir={place}/profile", "--dump-dom",
             "--virtual-time-budget=10000", f"file://{outer}/all.html"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            timeout=300, check=True).stdout
    return {name: (int(whole), int(seen)) for name, whole, seen in
            re.findall(r"width of (\S+): (\d+)/(\d+);", dom)}


def check_width(folder: str, pixels: str, browser: str) -> int:
    bad = 0
    found = measure(folder, pixels, browser)
    for path in sorted(glob.glob(os.path.join(folder, "*.html"))):
        name = os.path.basename(path)
        whole, seen = found.get(name, (0, 0))
        print(f"{name}: {whole} of {seen} pixels")
        if not 0 < whole <= seen <= int(pixels):
            print("  it is too wide" if whole else "  it was not measured")
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
