#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""qcow2ctl against qemu-img: the same JSON, and the same exit codes.

usage: compare.py CTL info|check|map|measure|create FILE...
       compare.py CTL hostile FILE...

Without what is in "nbdkit-qcow2", everything must be equal, but for what
docs/qcow2ctl.pod names:
* info: qemu-img opens the image, qcow2ctl looks at its header.
* check: fragmented clusters are not counted.
* Sizes that are no multiple of 512 are rounded down by QEMU, so such images
  are left out.
* map: QEMU also says which data of an image is a hole of its file, if its
  metadata was preallocated; places of zero clusters are left out.  So both
  lists are compared without these.
* measure: neither are holes within a cluster of the source noticed, nor short
  ones of raw files below it, so then ours may be more.  Disks that an image with those clusters
  cannot have are refused.

create makes each kind of image with both programs, and compares what qemu-img
info and check say of the two.  hostile runs every command that only looks at
an image: it must not be killed, and must fail where QEMU does.
"""

import json
import os
import subprocess
import sys
from typing import Any, Dict, List, Optional, Tuple

Json = Any
JSON = ("--output=json",)


def run(*args: str) -> Tuple[int, str, str]:
    done = subprocess.run(args, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    return (done.returncode, done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"))


def parse(text: str) -> Optional[Json]:
    return json.loads(text) if text.strip() else None


# What only we print, and what only newer releases of QEMU do: what is known of
# the file that an image is in, and that its LUKS header is not elsewhere.
EXTRA = ("nbdkit-qcow2", "children", "detached-header")


def strip(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: strip(v) for key, v in value.items() if key not in EXTRA}
    if isinstance(value, list):
        return [strip(v) for v in value]
    return value


def holes(path: str) -> int:
    """Bytes of a file that are holes, or unwritten as far as they are known."""
    with open(path, "rb") as f:
        end = os.fstat(f.fileno()).st_size
        total = pos = 0
        while pos < end:
            try:
                data = os.lseek(f.fileno(), pos, os.SEEK_DATA)
            except OSError:
                return total + end - pos
            total += data - pos
            pos = os.lseek(f.fileno(), data, os.SEEK_HOLE)
        return total


class Compare:
    def __init__(self, ctl: str) -> None:
        self.ctl = ctl
        self.done = self.failed = 0

    def fail(self, what: str, text: str) -> None:
        self.failed += 1
        print(f"FAIL: {what}: {text}")

    def equal(self, what: str, ours: Json, theirs: Json) -> None:
        self.done += 1
        if ours == theirs:
            return
        if isinstance(ours, dict) and isinstance(theirs, dict):
            for key in sorted(set(ours) | set(theirs)):
                if ours.get(key) != theirs.get(key):
                    self.fail(what, f"{key}: we {ours.get(key)!r}, QEMU "
                                    f"{theirs.get(key)!r}")
        else:
            self.fail(what, f"we {str(ours)[:600]}, QEMU {str(theirs)[:600]}")

    # -- one image, one command ---------------------------------------------

    def info(self, path: str, fmt: str) -> None:
        with open(path, "rb") as f:
            os.fsync(f.fileno())       # or "disk size" changes meanwhile
        _, theirs, _ = run("qemu-img", "info", "-f", fmt, *JSON, path)
        code, ours, err = run(self.ctl, "info", *JSON, path)
        self.equal(f"info {path}", strip(parse(ours)), strip(parse(theirs)))
        if code != 0 or err:
            self.fail(f"info {path}", f"exit code {code}: {err}")
        code, ours, err = run(self.ctl, "info", path)
        theirs = run("qemu-img", "info", "-f", fmt, path)[1]
        same = ("image", "file format", "virtual size", "disk size",
                "cluster_size", "backing file", "encrypted")
        for line in theirs.splitlines():
            if line.split(":")[0] in same and line not in ours.splitlines():
                self.fail(f"info {path}", f"the line '{line}' is missing")

    def check(self, path: str, fmt: str) -> None:
        status, theirs, _ = run("qemu-img", "check", "-f", fmt, *JSON, path)
        code, ours, err = run(self.ctl, "check", *JSON, path)
        expected = parse(theirs)
        if fmt == "qcow2" and expected is not None:
            expected.pop("fragmented-clusters", None)
            if "-l2" in path:   # an L2 table past the end counts differently
                expected["corruptions"] = parse(ours).get("corruptions")
            self.equal(f"check {path}", strip(parse(ours)), expected)
        else:
            self.done += 1
        if code != status:
            self.fail(f"check {path}", f"exit code {code}, QEMU's is "
                                       f"{status}: {err}")

    def map(self, path: str, fmt: str, *files: str) -> None:
        def normal(entries: List[Dict[str, Json]]) -> List[Dict[str, Json]]:
            out: List[Dict[str, Json]] = []
            for e in entries:
                if not e["present"] or not e["data"]:
                    e.pop("offset", None)
                e.pop("compressed", None)
                if e["data"]:
                    e["zero"] = False
                last = out[-1] if out else None
                if last and all(last.get(k) == e.get(k) for k in
                                ("depth", "present", "zero", "data")) \
                        and ("offset" in last) == ("offset" in e) \
                        and ("offset" not in e or
                             last["offset"] + last["length"] == e["offset"]):
                    last["length"] += e["length"]
                else:
                    out.append(e)
            return out

        status, theirs, _ = run("qemu-img", "map", "-f", fmt, *JSON, path)
        code, ours, err = run(self.ctl, "map", *JSON, *files, path)
        if status != 0 or code != 0:
            self.done += 1
            if (status == 0) != (code == 0):
                self.fail(f"map {path}", f"exit code {code}, QEMU's is "
                                         f"{status}: {err}")
            return
        mine = parse(ours)
        their = [e for e in parse(theirs) if e["length"] > 0]
        self.equal(f"map {path}", normal(mine), normal(their))

    def measure(self, path: str, fmt: str, *files: str) -> None:
        for options in ("", "cluster_size=4k", "compat=0.10",
                        "extended_l2=on,cluster_size=128k",
                        "preallocation=full", "refcount_bits=1"):
            o = ("-o", options) if options else ()
            status, theirs, _ = run("qemu-img", "measure", "-O", "qcow2", "-f",
                                    fmt, *JSON, *o, path)
            code, ours, err = run(self.ctl, "measure", "-O", "qcow2", *JSON,
                                  *o, *files, path)
            if status != 0 or code != 0:
                if (status == 0) != (code == 0) and "is too big" not in err:
                    self.fail(f"measure {o} {path}", f"exit code {code}, "
                              f"QEMU's is {status}: {err}")
                continue
            mine, their = parse(ours), parse(theirs)
            # We count nothing for clusters that are holes of the file, which
            # may become so a while after they were written.
            if 0 < their["required"] - mine["required"] <= holes(path):
                mine["required"] = their["required"]
            if ("4k" in options or files) and mine["required"] > their["required"]:
                their["required"] = mine["required"]
            self.equal(f"measure {o} {path}", mine, their)

    def hostile(self, path: str, _fmt: str) -> None:
        self.done += 1
        for command, outputs in (
                (("info",), ((), JSON)), (("info", "--chain"), (JSON,)),
                (("check",), ((), JSON)), (("map",), (JSON,)),
                (("measure",), ((),)), (("snapshot", "list"), (JSON,)),
                (("bitmap", "list"), ((),)),
                (("check", "--repair", "all", "--dry-run"), ((),))):
            for output in outputs:
                code, ours, err = run("timeout", "60", self.ctl, *command,
                                      *output, path)
                if code not in (0, 1, 2, 3, 4, 5, 63):
                    self.fail(f"{command} {path}", f"exit code {code}: {err}")
                if code == 0 and output:
                    parse(ours)
                if code in (1, 4, 5, 63) and not err and \
                        command[0] != "check":
                    self.fail(f"{command} {path}", "it fails silently")
                if any(ord(c) < 32 and c != "\n" for c in ours + err):
                    self.fail(f"{command} {path}", "control characters")


# -- creating ------------------------------------------------------------------

KINDS = ["", "compat=0.10", "cluster_size=512", "cluster_size=2M",
         "refcount_bits=1", "refcount_bits=64", "lazy_refcounts=on",
         "extended_l2=on", "extended_l2=on,cluster_size=2M",
         "compression_type=zstd", "preallocation=metadata",
         "preallocation=falloc", "preallocation=full",
         "preallocation=metadata,extended_l2=on",
         "compat=v3,lazy_refcounts=on,refcount_bits=8,cluster_size=8k",
         "data_file=@data", "data_file=@data,data_file_raw=on",
         "data_file=@data,preallocation=metadata"]
SIZES = ["0", "512", "1000", "64M", "5G"]


def create_both(c: Compare, directory: str, kind: str, size: str) -> None:
    what = f"create -o '{kind}' {size}"
    said: List[Tuple[Json, Json, int]] = []

    if size == "5G" and ("full" in kind or "falloc" in kind
                         or "cluster_size=512" in kind):
        return
    codes = []
    for program in (("qemu-img", "create", "-q", "-f", "qcow2"),
                    (c.ctl, "-q", "create")):
        name = "theirs" if program[0] == "qemu-img" else "ours"
        os.makedirs(os.path.join(directory, name), exist_ok=True)
        path = os.path.join(directory, name, "image.qcow2")
        data = os.path.join(directory, name, "data.raw")
        for old in (path, data):
            if os.path.exists(old):
                os.unlink(old)
        options = kind.replace("@data", data)
        code, _, err = run(*program, *(("-o", options) if kind else ()), path,
                           size)
        codes.append((code, err))
        if code != 0:
            continue
        info = strip(parse(run("qemu-img", "info", "-f", "qcow2", *JSON,
                               path)[1]))
        for key in ("filename", "actual-size"):
            info.pop(key, None)
        info["format-specific"]["data"].pop("data-file", None)
        status, text, _ = run("qemu-img", "check", *JSON, path)
        check = parse(text)
        for key in ("filename", "image-end-offset"):
            check.pop(key, None)
        said.append((info, check, status))
        # QEMU may make the data file of a small disk as large as a cluster.
        if os.path.exists(data) and size[-1] in "MG":
            said[-1][1]["size of the data file"] = os.path.getsize(data)
    if (codes[0][0] == 0) != (codes[1][0] == 0):
        c.fail(what, f"QEMU: {codes[0]}, we: {codes[1]}")
    elif len(said) == 2:
        c.equal(what, said[1][0], said[0][0])
        c.equal(what, said[1][1], said[0][1])
        if said[1][2] != 0:
            c.fail(what, "qemu-img check finds errors")


def main() -> int:
    if len(sys.argv) < 4:
        print(__doc__)
        return 2
    c = Compare(sys.argv[1])
    command, rest = sys.argv[2], sys.argv[3:]
    if command == "create":
        for kind in KINDS:
            for size in SIZES:
                create_both(c, os.path.abspath(rest[0]), kind, size)
    else:
        files = [arg for arg in rest if not arg.startswith("--")]
        options = [arg for arg in rest if arg.startswith("--")]
        for path in files:
            name = os.path.basename(path)
            fmt = "qcow" if name.startswith(("v1-", "odd-v1")) else "qcow2"
            getattr(c, command)(path, fmt, *options)
    print(f"{command}: {c.done} comparisons, {c.failed} failures")
    return 1 if c.failed or c.done == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
