#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The documentation as one static site.

usage: make-html.py SOURCES OUTPUT [VERSION]

SOURCES is the top of the source tree.  Each man page and each Markdown file of
docs/, of packaging/ and its folders, and of the top becomes a page of the folder
OUTPUT, which is made anew.  README.md is index.html, that of a folder has its
name.  Links between them lead to the pages; those to other files of the sources
become plain text.  Pictures are copied beside the pages.

Needs cmark-gfm, which renders Markdown as GitHub does, and perl with its own
module Pod::Simple::XHTML.
"""

import filecmp
import glob
import html
import os
import re
import shutil
import subprocess
import sys
from typing import Dict, List, Set

PERL = """
use Pod::Simple::XHTML;
my $pod = Pod::Simple::XHTML->new;
$pod->html_header (''); $pod->html_footer (''); $pod->index (1);
$pod->man_url_prefix ('man:'); $pod->output_fh (*STDOUT);
binmode STDOUT, ':utf8';
$pod->parse_file ($ARGV[0]);
exit ($pod->any_errata_seen);
"""

# No scripts, no fonts, nothing from elsewhere.  What is wider than the window
# scrolls on its own.
STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 50rem; padding: 0 1rem 4rem;
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
nav { border-bottom: 1px solid #8886; padding: .5rem 0; font-size: .9rem; }
nav a { margin-right: .7rem; display: inline-block; }
pre { overflow-x: auto; padding: .6rem; background: #8882;
      overflow-wrap: normal; font-size: .875rem; line-height: 1.35; }
code { background: #8882; font-size: .9em; }
pre code { background: none; font-size: inherit; }
code.word { white-space: nowrap; }
div.table { overflow-x: auto; }
table { border-collapse: collapse; overflow-wrap: normal; }
th, td { border: 1px solid #8886; padding: .25rem .5rem; text-align: left;
         vertical-align: top; min-width: 6rem; }
img { max-width: 100%; }
th[align=right], td[align=right] { text-align: right; min-width: 3rem; }
summary { margin-top: 1rem; }
h1, h2, h3 { line-height: 1.25; margin-top: 2rem; }
dt { margin-top: .8rem; }
dd { margin-left: 1.5rem; }
footer { margin-top: 3rem; font-size: .8rem; opacity: .7; }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="style.css">
</head>
<body>
<nav>{nav}</nav>
<main>
{body}
</main>
<footer>nbdkit-qcow2-filter {version}</footer>
</body>
</html>
"""

# The first pages of the line on top; the others follow by name.
FIRST = ["README.md", "docs/nbdkit-qcow2-filter.pod", "docs/qcow2ctl.pod"]


def fail(*words: str) -> None:
    sys.exit("make-html.py: " + " ".join(words))


def run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        fail(f"{command[0]} fails for {command[-1]}")
    return done.stdout.decode("utf-8")


def find_sources(top: str) -> List[str]:
    found = [os.path.relpath(path, top)
             for pattern in ("*.md", "docs/*.md", "docs/*.pod",
                             "packaging/*.md", "packaging/*/*.md")
             for path in glob.glob(os.path.join(top, pattern))]
    if not set(FIRST) <= set(found):
        fail(f"{top} is not the top of the sources")
    return FIRST + sorted(set(found) - set(FIRST))


def title_of(source: str) -> str:
    folder, name = os.path.split(source)
    if folder and name == "README.md":
        return os.path.basename(folder)
    return os.path.splitext(name)[0]


def page_name(source: str) -> str:
    if source == "README.md":
        return "index.html"
    return title_of(source) + ".html"


def slug(text: str, taken: Set[str]) -> str:
    """The id that GitHub gives a heading."""
    text = html.unescape(re.sub("<[^>]*>", "", text)).strip().lower()
    name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
    number, unique = 0, name
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    taken.add(unique)
    return unique


def from_markdown(path: str, source: str, pages: Dict[str, str]) -> str:
    body = run("cmark-gfm", "-e", "table", "-e", "autolink", path)
    body = re.sub(r"<!-- raw HTML omitted -->\n?", "", body)
    taken: Set[str] = set()
    body = re.sub(r"<(h[1-6])>(.*?)</\1>",
                  lambda m: f'<{m[1]} id="{slug(m[2], taken)}">{m[2]}</{m[1]}>',
                  body, flags=re.DOTALL)

    def link(match: "re.Match[str]") -> str:
        target, text = html.unescape(match[1]), match[2]
        if re.match("[a-z]+:|#", target):
            return match[0]
        file, _, anchor = target.partition("#")
        name = os.path.normpath(os.path.join(os.path.dirname(source), file))
        if name not in pages:
            return text
        target = pages[name] + ("#" + anchor if anchor else "")
        return f'<a href="{html.escape(target)}">{text}</a>'

    return re.sub(r'<a href="([^"]*)">(.*?)</a>', link, body, flags=re.DOTALL)


def from_pod(path: str, pages: Dict[str, str]) -> str:
    body = run("perl", "-e", PERL, path)

    def link(match: "re.Match[str]") -> str:
        source, text = f"docs/{match[1]}.pod", match[2]
        if source not in pages:
            return f"<b>{text}</b>"
        section = re.match("&quot;(.*)&quot; in ", text)
        anchor = "#" + section[1].replace(" ", "-") if section else ""
        return f'<a href="{pages[source]}{anchor}">{text}</a>'

    # The table of contents is folded: it fills a screen.
    body = re.sub(r"<ul id=\"index\">.*?\n</ul>",
                  lambda m: "<details><summary>Contents</summary>\n"
                            f"{m[0]}\n</details>", body, flags=re.DOTALL)
    return re.sub(r'<a href="man:\d/([^"#]*)[^"]*">(.*?)</a>', link, body,
                  flags=re.DOTALL)


def copy_pictures(body: str, source: str, top: str, made: str) -> str:
    def copy(match: "re.Match[str]") -> str:
        name = html.unescape(match[1])
        path = os.path.join(top, os.path.dirname(source), name)
        copied = os.path.join(made, os.path.basename(name))
        if not os.path.isfile(path):
            fail(f"{source}: there is no picture {name}")
        if os.path.exists(copied) and not filecmp.cmp(path, copied, False):
            fail(f"two pictures of the name {os.path.basename(name)}")
        shutil.copyfile(path, copied)
        return f'<img src="{html.escape(os.path.basename(name))}"'

    return re.sub('<img src="([^"]*)"', copy, body)


# No line ends within an option, such as after its first dash.
SHORT = 24


def finish(body: str) -> str:
    """What is the same for both kinds of sources."""
    body = body.replace("<table>", '<div class="table"><table>').replace(
        "</table>", "</table></div>")
    return re.sub(r"(?<!<pre>)<code>([^<\n]{1,%d})</code>" % SHORT,
                  r'<code class="word">\1</code>', body)


def main() -> None:
    if len(sys.argv) not in (3, 4):
        print(__doc__)
        sys.exit(2)
    for program in ("cmark-gfm", "perl"):
        if not shutil.which(program):
            fail(f"needs {program} (on Debian: apt-get install {program})")
    top, output = sys.argv[1:3]
    version = sys.argv[3] if len(sys.argv) > 3 else ""
    sources = find_sources(top)
    pages = {source: page_name(source) for source in sources}
    nav = " ".join(
        f'<a href="{name}">{title_of(source)}</a>'
        for source, name in pages.items())
    if len(set(pages.values())) < len(pages):
        fail("two pages of the same name")
    made = output + ".new"
    shutil.rmtree(made, ignore_errors=True)
    os.makedirs(made)
    for source, name in pages.items():
        path = os.path.join(top, source)
        body = (from_pod(path, pages) if source.endswith(".pod")
                else from_markdown(path, source, pages))
        body = copy_pictures(finish(body), source, top, made)
        with open(os.path.join(made, name), "w", encoding="utf-8") as out:
            out.write(PAGE.format(
                title=title_of(source), nav=nav, body=body,
                version=html.escape(version)))
    with open(os.path.join(made, "style.css"), "w", encoding="utf-8") as out:
        out.write(STYLE.lstrip())
    shutil.rmtree(output, ignore_errors=True)
    os.rename(made, output)
    print(f"{len(pages)} pages in {output}")


if __name__ == "__main__":
    main()
