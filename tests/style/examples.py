#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs the examples of the documentation and compares their output.

In Markdown, a block of code is run if the line before it is

    <!-- run -->

and in POD the indented paragraph after "=for run".  Blocks after

    <!-- run NAME -->

are run instead if --mark=NAME is given, by a test that has started what they
need.  A line that starts with
"$ " is a command (lines after it that end in a backslash, or follow one,
belong to it), other lines are the output it must have, all of it: "..." on a
line of its own stands for any lines, within a line for any text.  A block
without "$ " is all commands, and its output does not matter.

All blocks of a document run in one shell, in an empty folder with

  disk.qcow2       1 GiB, of which 64 KiB at 0 and 128 KiB at 512 MiB are
                   data; there is a partition table in it with one partition
  disk.qcow2.xz    the same, compressed again
  overlay.qcow2    an overlay over it, with 64 KiB at 1 MiB of its own
  images/          a folder with a.qcow2 and b.qcow2

"nbdkit --filter=qcow2" is the filter that was built, programs of tools/ are
found, and what is written as https://example.com/ is that folder.

A server can have a file with its process id (-P), and can be killed.

usage: examples.py [--mark=NAME] FILTER DOCUMENT...
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import List, NamedTuple, Tuple

WRAPPER = """#!/bin/bash
# Stands in for nbdkit: see examples.py.
args=()
pidfile=
previous=
for arg; do
    [ "$previous" != -P ] || pidfile=$arg
    previous=$arg
    arg=${arg/#--filter=qcow2/--filter=$EXAMPLES_FILTER}
    arg=${arg/#https:\\/\\/example.com/file://$EXAMPLES_DIR}
    args+=("${arg/#url=https:\\/\\/example.com/url=file://$EXAMPLES_DIR}")
done
# If the document wants a file with the process id, that is looked at.
[ -z "$pidfile" ] || ln -s "$EXAMPLES_DIR/$pidfile" "$EXAMPLES_PIDS/$$"
[ -n "$pidfile" ] || args=(--pidfile "$EXAMPLES_PIDS/$$" "${args[@]}")
exec "$EXAMPLES_NBDKIT" "${args[@]}"
"""

FIXTURES = """(
set -e
qemu-img create -q -f qcow2 disk.qcow2 1G
# Partition 1: Linux, from sector 1024 * 1024, 256 sectors.
printf '\\0\\0\\0\\0\\x83\\0\\0\\0\\0\\0\\x10\\0\\0\\x01\\0\\0' > entry
{ head -c 446 /dev/zero; cat entry; head -c 48 /dev/zero; printf '\\x55\\xaa'
  head -c 65024 /dev/zero | tr '\\0' A; } > start
qemu-io -f qcow2 -c 'write -s start 0 64k' -c 'write -P 66 512M 128k' \\
        disk.qcow2 > /dev/null
rm entry start
xz -k disk.qcow2
qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 overlay.qcow2
qemu-io -f qcow2 -c 'write -P 67 1M 64k' overlay.qcow2 > /dev/null
mkdir images
cp disk.qcow2 images/a.qcow2
qemu-img create -q -f qcow2 images/b.qcow2 1M
)"""


class Block(NamedTuple):
    line: int
    steps: List[Tuple[str, List[str]]]      # command, expected output
    compare: bool


def parse(first: int, lines: List[str]) -> Block:
    """Split a block into commands with their output."""
    if not any(line.startswith("$ ") for line in lines):
        return Block(first, [("\n".join(lines), [])], False)
    steps: List[Tuple[str, List[str]]] = []
    more = False
    for line in lines:
        if more:
            steps[-1] = (steps[-1][0] + "\n" + line, [])
        elif line.startswith("$ "):
            steps.append((line[2:], []))
        elif not steps:
            raise SystemExit(f"line {first}: output before a command")
        else:
            steps[-1][1].append(line)
            continue
        more = steps[-1][0].endswith("\\")
    return Block(first, steps, True)


def markdown_blocks(lines: List[str], mark: str) -> List[Block]:
    wanted = f"<!-- run {mark} -->" if mark else "<!-- run -->"
    found = []
    for i, line in enumerate(lines):
        if line.strip() == wanted:
            if not lines[i + 1].startswith("```"):
                raise SystemExit(f"line {i + 2}: no block of code")
            end = lines.index("```", i + 2)
            found.append(parse(i + 3, lines[i + 2:end]))
    return found


def pod_blocks(lines: List[str]) -> List[Block]:
    found = []
    for i, line in enumerate(lines):
        if line.rstrip() == "=for run":
            end = i + 2
            while end < len(lines) and lines[end].startswith(" "):
                end += 1
            if end == i + 2:
                raise SystemExit(f"line {i + 3}: no indented paragraph")
            found.append(parse(i + 3, [text[1:] for text in lines[i + 2:end]]))
    return found


def matches(expected: List[str], actual: List[str]) -> bool:
    """Compare as described above."""
    if not expected:
        return not actual
    if expected[0] == "...":
        return any(matches(expected[1:], actual[i:])
                   for i in range(len(actual) + 1))
    if not actual:
        return False
    pattern = ".*".join(map(re.escape, expected[0].split("...")))
    return (re.fullmatch(pattern, actual[0]) is not None
            and matches(expected[1:], actual[1:]))


class Shell:
    """One bash for all commands of a document, and what they need."""

    def __init__(self, filter_path: str, directory: str) -> None:
        self.pids = os.path.join(directory, "pids")
        self.directory = os.path.join(directory, "work")
        tools = os.path.join(directory, "bin")
        for made in (self.pids, self.directory, tools):
            os.mkdir(made)
        wrapper = os.path.join(tools, "nbdkit")
        with open(wrapper, "w", encoding="utf-8") as out:
            out.write(WRAPPER)
        os.chmod(wrapper, 0o755)
        # nbdsh takes the first Python of the path, which may have no libnbd.
        nbdsh = os.path.join(tools, "nbdsh")
        with open(nbdsh, "w", encoding="utf-8") as out:
            out.write(f'#!/bin/sh\nexec {sys.executable} -m nbd "$@"\n')
        os.chmod(nbdsh, 0o755)
        programs = os.path.join(os.path.dirname(__file__), "../../tools")
        # Beside the filter that was built.
        built = os.path.join(os.path.dirname(os.path.abspath(filter_path)),
                             "../../tools/qcow2ctl")
        environment = dict(
            os.environ, EXAMPLES_PIDS=self.pids, LC_ALL="C",
            EXAMPLES_FILTER=os.path.abspath(filter_path),
            EXAMPLES_DIR=self.directory,
            EXAMPLES_NBDKIT=shutil.which("nbdkit") or "nbdkit",
            PATH=":".join([tools, os.path.abspath(programs), built,
                           os.environ["PATH"], "/usr/sbin", "/sbin"]))
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, cwd=self.directory, env=environment,
            text=True)
        status, output = self.run(FIXTURES)
        if status != 0:
            raise SystemExit("making the images failed:\n"
                             + "\n".join(output))

    def run(self, command: str) -> Tuple[int, List[str]]:
        """Run a command; returns its exit status and its output.

        The output of daemons would keep a pipe open, so it goes through a
        file."""
        assert self.process.stdin and self.process.stdout
        path = os.path.join(self.pids, "..", "output")
        self.process.stdin.write(
            f"{{ {command}\n}} < /dev/null > '{path}' 2>&1\necho $?\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        with open(path, encoding="utf-8", errors="replace") as output:
            return int(answer or 255), output.read().splitlines()

    def close(self) -> None:
        """End the shell and each nbdkit that was started."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        for name in os.listdir(self.pids):
            try:
                with open(os.path.join(self.pids, name),
                          encoding="ascii") as f:
                    os.kill(int(f.read()), signal.SIGTERM)
            except (ValueError, FileNotFoundError, ProcessLookupError):
                pass


def run_block(shell: Shell, block: Block) -> bool:
    for command, expected in block.steps:
        status, actual = shell.run(command)
        if status == 0 and (not block.compare or matches(expected, actual)):
            continue
        print(f"  $ {command}\n  exit status {status}, output:")
        print("\n".join("    " + line for line in actual))
        if block.compare:
            print("  expected:")
            print("\n".join("    " + line for line in expected))
        return False
    return True


def run_document(filter_path: str, document: str,
                 mark: str) -> Tuple[int, int]:
    """Returns the number of blocks and of failures."""
    with open(document, encoding="utf-8") as text:
        lines = text.read().splitlines()
    blocks = (pod_blocks(lines) if document.endswith(".pod")
              else markdown_blocks(lines, mark))
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        shell = Shell(filter_path, directory)
        try:
            for block in blocks:
                good = run_block(shell, block)
                print(f"{'ok' if good else 'FAIL'}: "
                      f"{os.path.basename(document)}:{block.line}")
                failed += not good
        finally:
            shell.close()
    return len(blocks), failed


def main() -> int:
    arguments = sys.argv[1:]
    mark = ""
    if arguments and arguments[0].startswith("--mark="):
        mark = arguments.pop(0).split("=")[1]
    if len(arguments) < 2:
        print(__doc__)
        return 2
    status = 0
    for document in arguments[1:]:
        blocks, failed = run_document(arguments[0], document, mark)
        print(f"{document}: {blocks} examples, {failed} failed")
        if blocks == 0 or failed:
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
