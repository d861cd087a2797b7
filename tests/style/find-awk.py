#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Finds the awk programs of shell scripts: find-awk.py FOLDER SCRIPT...

Writes each one to a file of its own in FOLDER, after a comment that says
where it is from.  A program is one word in single quotes after awk's options:
a use of awk that is written in another way is an error, so that none is
missed.  So is a repetition as in /a{2}/, which older mawk take literally."""

import os
import re
import sys

WORD = r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\;|&<>()])+"""
GAP = r"(?:\s|\\\n)+"
USE = re.compile(rf"""(?<![\w./'-])awk(?=\s)
    (?:{GAP}-[Fv](?:{GAP})?{WORD})*
    (?P<program>{GAP}'(?P<text>[^']*)')?""", re.VERBOSE)
REPETITION = re.compile(r"(?<!\\)\{\d+(?:,\d*)?\}")
# The name alone: a test requires or lists it.
MENTION = re.compile(r"requires(_program)?\b|(for|where) awk\b|local\b|read -r")


def blank_comments(text: str) -> str:
    """Comments that are whole lines are as long as before, but empty."""
    return re.sub(r"(?m)^[ \t]*#.*$", lambda m: " " * len(m[0]), text)


def look_at(script: str, folder: str) -> int:
    with open(script, encoding="utf-8") as file:
        text = blank_comments(file.read())
    faults = 0
    for use in USE.finditer(text):
        number = text.count("\n", 0, use.start()) + 1
        begin = text.rfind("\n", 0, use.start()) + 1
        where = f"{script.removeprefix('./')}:{number}"
        program = use["text"]
        if program is None:
            if not MENTION.search(text[begin:use.start() + 3]):
                print(f"{where}: cannot find the program of this awk: write "
                      "it in single quotes, right after the options")
                faults += 1
            continue
        if REPETITION.search(program):
            print(f"{where}: a repetition with braces, which older mawk do "
                  "not know")
            faults += 1
        name = re.sub(r"\W", "_", where)
        while os.path.exists(os.path.join(folder, name)):
            name += "x"
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            out.write(f"# {where}\n{program}\n")
    return faults


def main() -> int:
    # A list, so that every script is checked, even after a fault.
    return 1 if sum([look_at(script, sys.argv[1])
                     for script in sys.argv[2:]]) else 0


if __name__ == "__main__":
    sys.exit(main())
