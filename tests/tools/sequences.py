#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random sequences of changes of one image, by QEMU's tools, by qcow2ctl and
by clients of the filter in turn, against a model of the disk, of its
snapshots and of its bitmaps.

After each change qemu-img finds the image clean, and the disk, each snapshot
and the list of snapshots are what the model says.  Now and then the filter
looks at the same, and the bits of each bitmap that qemu-img accepts have all
that was written since it was made.
"""

import argparse
import json
import os
import random
import shlex
import subprocess
import sys

MiB = 1 << 20
GRANULARITY = 65536
CLUSTER = 65536                 # the largest
KINDS = [
    "cluster_size=64k",
    "cluster_size=512",
    "cluster_size=4k,lazy_refcounts=on",
    "cluster_size=4k,compat=0.10",
    "extended_l2=on,cluster_size=16k",
    "cluster_size=1k,refcount_bits=64",
    "cluster_size=2k,refcount_bits=8",
    "cluster_size=64k,compression_type=zstd",
]


class Wrong(Exception):
    pass


def run(args, ok=(0,)):
    """(code, what it printed); Wrong, if the code is none of these."""
    done = subprocess.run(args, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode(errors="replace")
    if ok is not None and done.returncode not in ok:
        raise Wrong("%s: code %d\n%s" % (shlex.join(args), done.returncode,
                                         text))
    return done.returncode, text


class Bitmap:
    def __init__(self):
        self.enabled = True
        self.known = True       # QEMU or a server has not given it up
        self.dirty = set()      # granules that must be set


    def become(self, old, new):
        """The disk that was old is new."""
        size = len(new)
        self.dirty = {g for g in self.dirty if g * GRANULARITY < size}
        if self.enabled:
            for g in range(-(-size // GRANULARITY)):
                at = g * GRANULARITY
                if old[at:min(at + GRANULARITY, size)] != \
                        new[at:at + GRANULARITY]:
                    self.dirty.add(g)


class Model:
    def __init__(self, size):
        self.disk = bytearray(size)
        self.snapshots = {}     # id: (name, bytes)
        self.bitmaps = {}

    def touch(self, start, end):
        for b in self.bitmaps.values():
            if b.enabled:
                b.dirty.update(range(start // GRANULARITY,
                                     -(-end // GRANULARITY)))

    def put(self, start, data):
        self.disk[start:start + len(data)] = data
        self.touch(start, start + len(data))


class Sequence:
    def __init__(self, options, seed, tmp):
        self.o = options
        self.random = random.Random(seed)
        self.image = os.path.join(tmp, "sequence.qcow2")
        self.raw = os.path.join(tmp, "sequence.raw")
        self.done = []
        self.kind = KINDS[seed % len(KINDS)]
        self.v3 = "compat=0.10" not in self.kind
        self.model = Model(self.random.choice([1, 2, 3]) * MiB)
        for name in (self.image, self.raw):
            if os.path.exists(name):
                os.unlink(name)
        self.base = os.path.join(os.path.abspath(tmp), "base.raw")
        self.below = b""
        overlay = self.make_base() if self.random.random() < 0.5 else []
        size = str(len(self.model.disk))
        program = ["qemu-img", "create", "-q", "-f", "qcow2"] \
            if self.random.random() < 0.5 else [self.o.ctl, "create", "-q"]
        self.note(*program, "-o", self.kind, *overlay, self.image, size)

    def make_base(self):
        """A raw file below, shorter or longer than the disk."""
        size = self.random.randrange(1, 4 * MiB // 512) * 512
        self.below = b"".join(bytes([self.random.randrange(256)]) * 512
                              for _ in range(size // 512))
        with open(self.base, "wb") as f:
            f.write(self.below)
        disk = len(self.model.disk)
        self.model.disk[:size] = self.below[:disk]
        return ["-b", self.base, "-F", "raw"]

    def files(self, given):
        """The options of qcow2ctl, or parameters of the filter, for that."""
        if not self.below:
            return []
        return ["--backing=" + self.base] if given == "ctl" else \
            ["qcow2-backing=" + self.base]

    def perhaps_files(self):
        """Now and then: for commands that can do without."""
        return self.files("ctl") if self.random.random() < 0.5 else []

    def note(self, *args, ok=(0,)):
        self.done.append(shlex.join(args))
        return run(list(args), ok)

    # ---- Writers ----------------------------------------------------------

    def place(self, longest=300000):
        disk = len(self.model.disk)
        start = self.random.randrange(disk // 512) * 512
        length = min(self.random.randrange(1, longest // 512) * 512,
                     disk - start)
        return start, length

    def io(self, command):
        """A command of qemu-io, on the file or through the filter."""
        if self.random.random() < 0.5:
            self.note("qemu-io", "-c", command, self.image)
            through = "file"
        else:
            self.note("nbdkit", "-U", "-", "--filter=" + self.o.filter,
                      "file", "file=" + self.image, *self.files("filter"),
                      "--run", "qemu-io -f raw -c %s \"$uri\"" % shlex.quote(command))
            through = "filter"
        if through == "filter":
            # The filter gives up those that a write would make untrue.
            for b in self.model.bitmaps.values():
                if b.enabled:
                    b.known = False

    def write(self):
        start, length = self.place()
        byte = self.random.randrange(1, 256)
        self.io("write -q -P %d %d %d" % (byte, start, length))
        self.model.put(start, bytes([byte]) * length)

    def zero(self):
        start, length = self.place(1500000)
        flag = self.random.choice(["-z", "-z -u"])
        self.io("write -q %s %d %d" % (flag, start, length))
        self.model.put(start, bytes(length))

    def compressed(self):
        cluster = run(["qemu-img", "info", "--output=json", self.image])[1]
        cluster = json.loads(cluster)["cluster-size"]
        start, _ = self.place()
        start = start // cluster * cluster
        length = min(cluster, len(self.model.disk) - start)
        byte = self.random.randrange(1, 256)
        # Nothing but room for it may be there.
        code, _ = self.note("qemu-io", "-c", "write -q -c -P %d %d %d" %
                            (byte, start, length), self.image, ok=None)
        if code == 0:
            self.model.put(start, bytes([byte]) * length)

    # ---- Snapshots --------------------------------------------------------

    def snapshot_create(self):
        name = "s%d" % len(self.done)       # no two have the same
        if len(self.model.snapshots) >= 5:
            return
        if self.random.random() < 0.5:
            self.note("qemu-img", "snapshot", "-c", name, self.image)
        else:
            self.note(self.o.ctl, "snapshot", "create", *self.perhaps_files(),
                      self.image, name)
        ident = str(max([int(i) for i in self.model.snapshots] or [0]) + 1)
        self.model.snapshots[ident] = (name, bytes(self.model.disk))

    def some_snapshot(self):
        if not self.model.snapshots:
            return None
        return self.random.choice(sorted(self.model.snapshots))

    def snapshot_delete(self):
        ident = self.some_snapshot()
        if ident is None:
            return
        self.note(self.o.ctl, "snapshot", "delete", *self.perhaps_files(),
                  "--by-id", self.image, ident)
        del self.model.snapshots[ident]

    def snapshot_delete_by_qemu(self):
        ident = self.some_snapshot()
        if ident is None:
            return
        self.note("qemu-img", "snapshot", "-d", self.model.snapshots[ident][0],
                  self.image)
        del self.model.snapshots[ident]

    def snapshot_apply(self):
        ident = self.some_snapshot()
        if ident is None:
            return
        disk = self.model.snapshots[ident][1]
        old = bytes(self.model.disk)
        # QEMU keeps no bitmap true then.
        if self.model.bitmaps or self.random.random() < 0.5:
            code, _ = self.note(self.o.ctl, "snapshot", "apply",
                                *self.perhaps_files(), "--by-id", self.image,
                                ident, ok=None)
            in_use = any(not b.known for b in self.model.bitmaps.values())
            if code != 0 and not (in_use and len(old) != len(disk)):
                raise Wrong("a snapshot cannot be applied: code %d" % code)
        else:
            code, _ = self.note("qemu-img", "snapshot", "-a", ident,
                                self.image)
        if code == 0:
            self.model.disk = bytearray(disk)
            for b in self.model.bitmaps.values():
                b.become(old, disk)

    # ---- Other changes ----------------------------------------------------

    def resize(self):
        old = len(self.model.disk)
        new = self.random.randrange(1, 4 * MiB // 512) * 512
        by_ctl = self.random.random() < 0.5
        args = [self.o.ctl, "resize", "-q"] if by_ctl else \
            ["qemu-img", "resize", "-q"]
        if new < old:
            args.append("--shrink")
            # QEMU leaves what its last cluster had behind the new end, and
            # shows it if it makes the disk larger again.
            if not by_ctl:
                new = max(new // CLUSTER, 1) * CLUSTER
        if by_ctl:
            args += self.files("ctl")
        code, text = self.note(*args, self.image, str(new), ok=None)
        if code != 0:
            # Of a bitmap that is in use nothing is known.
            if by_ctl and "snapshot" not in text and \
                    all(b.known for b in self.model.bitmaps.values()):
                raise Wrong("not resized: " + text)
            return
        # What is new reads as zeros, whatever lies below.
        del self.model.disk[new:]
        self.model.disk.extend(bytes(new - len(self.model.disk)))
        for b in self.model.bitmaps.values():
            b.dirty = {g for g in b.dirty if g * GRANULARITY < new}

    def amend(self):
        choice = self.random.choice(["compat=1.1", "lazy_refcounts=on",
                                     "lazy_refcounts=off", "refcount_bits=16",
                                     "refcount_bits=32", "refcount_bits=64",
                                     "compat=0.10"])
        # QEMU downgrades an image with bitmaps, which it then calls broken.
        args = [self.o.ctl, "amend", "-q"] if self.random.random() < 0.7 or \
            (choice == "compat=0.10" and self.model.bitmaps) else \
            ["qemu-img", "amend", "-q"]
        if args[0] == self.o.ctl:
            args += self.files("ctl")
        code, _ = self.note(*args, "-o", choice, self.image, ok=None)
        if code == 0 and choice.startswith("compat"):
            self.v3 = choice == "compat=1.1"

    def empty(self):
        self.note(self.o.ctl, "empty", "-q", *self.files("ctl"), self.image)
        disk = len(self.model.disk)
        self.model.put(0, self.below[:disk].ljust(disk, b"\0"))
        for b in self.model.bitmaps.values():
            if b.enabled:
                b.known = False

    def check(self):
        # Of an image with both, QEMU 7.2 loses the snapshots.
        both = self.model.bitmaps and self.model.snapshots
        if self.random.random() < 0.5 and not both:
            self.note("qemu-img", "check", "-q", "-r", "all", self.image)
        else:
            self.note(self.o.ctl, "check", "-q", "-r", "all", self.image)

    # ---- Bitmaps ----------------------------------------------------------

    def bitmap_add(self):
        name = "b%d" % len(self.done)
        if not self.v3 or len(self.model.bitmaps) >= 4:
            return
        if self.random.random() < 0.5:
            self.note("qemu-img", "bitmap", "--add", "-g", "64k", self.image,
                      name)
        else:
            self.note(self.o.ctl, "bitmap", "add", "-g", "64k", self.image,
                      name)
        self.model.bitmaps[name] = Bitmap()

    def some_bitmap(self, known=True):
        names = [n for n, b in self.model.bitmaps.items()
                 if b.known or not known]
        return self.random.choice(sorted(names)) if names else None

    def bitmap_do(self, what, name):
        if self.random.random() < 0.5:
            self.note("qemu-img", "bitmap", "--" + what, self.image, name)
        else:
            self.note(self.o.ctl, "bitmap", what, self.image, name)

    def bitmap_remove(self):
        name = self.some_bitmap(known=False)
        if name:
            self.bitmap_do("remove", name)
            del self.model.bitmaps[name]

    def bitmap_clear(self):
        name = self.some_bitmap()
        if name:
            self.bitmap_do("clear", name)
            self.model.bitmaps[name].dirty = set()

    def bitmap_switch(self):
        name = self.some_bitmap()
        if name:
            b = self.model.bitmaps[name]
            self.bitmap_do("disable" if b.enabled else "enable", name)
            b.enabled = not b.enabled

    def bitmap_merge(self):
        one, two = self.some_bitmap(), self.some_bitmap()
        if not one or one == two:
            return
        if self.random.random() < 0.5:
            self.note("qemu-img", "bitmap", "--merge", two, self.image, one)
        else:
            self.note(self.o.ctl, "bitmap", "merge", self.image, one, two)
        self.model.bitmaps[one].dirty |= self.model.bitmaps[two].dirty

    # ---- What must be true ------------------------------------------------

    def look_at(self, want, what, args, prefix=False):
        if os.path.exists(self.raw):
            os.unlink(self.raw)
        run(args)
        with open(self.raw, "rb") as f:
            have = f.read()
        if prefix:
            want = want[:len(have)]
            have = have[:len(want)]
        if have == bytes(want):
            return
        at = next((i for i, (a, b) in enumerate(zip(have, want)) if a != b),
                  min(len(have), len(want)))
        raise Wrong("%s is wrong at %d (%d bytes, should have %d)" %
                    (what, at, len(have), len(want)))

    def look_by_filter(self, export, want):
        if len(want) == 0:
            return
        self.look_at(want, "by the filter, export '%s'" % export,
                     ["nbdkit", "-r", "-U", "-", "-e", export,
                      "--filter=" + self.o.filter, "file",
                      "file=" + self.image, *self.files("filter"), "--run",
                      "nbdcopy \"$uri\" %s" % self.raw])

    def verify(self, closely):
        m = self.model
        run(["qemu-img", "check", "-q", self.image])
        self.look_at(m.disk, "the disk", ["qemu-img", "convert", "-O", "raw",
                                          self.image, self.raw])
        if closely:
            run([self.o.ctl, "check", "-q", self.image])
            self.look_by_filter("", m.disk)
        info = json.loads(run(["qemu-img", "info", "--output=json",
                               self.image])[1])
        have = {s["id"]: s["name"] for s in info.get("snapshots", [])}
        if have != {i: s[0] for i, s in m.snapshots.items()}:
            raise Wrong("snapshots: %s" % have)
        for ident, (_, disk) in m.snapshots.items():
            # qemu-img takes the size that the disk has now.
            self.look_at(disk, "snapshot " + ident,
                         ["qemu-img", "convert", "-O", "raw", "-l",
                          "snapshot.id=" + ident, self.image, self.raw], True)
            if closely or len(disk) > len(m.disk):
                self.look_by_filter("snapshot-id/" + ident, disk)
        self.verify_bitmaps(info)

    def verify_bitmaps(self, info):
        data = info.get("format-specific", {}).get("data", {})
        have = {b["name"]: b["flags"] for b in data.get("bitmaps", [])}
        if set(have) != set(self.model.bitmaps):
            raise Wrong("bitmaps: %s" % have)
        for name, b in self.model.bitmaps.items():
            if "in-use" in have[name]:
                if b.known:
                    raise Wrong("bitmap %s has been given up" % name)
                continue
            if ("auto" in have[name]) != b.enabled:
                raise Wrong("bitmap %s: %s" % (name, have[name]))
            missing = b.dirty - self.bits_of(name)
            if missing:
                raise Wrong("bitmap %s lacks %s" % (name, sorted(missing)))

    def bits_of(self, name):
        text = run([self.o.ctl, "--output", "json", "map", "--bitmap", name,
                    self.image])[1]
        found = set()
        for e in json.loads(text):
            if e["present"]:    # marked, whether it reads as zeros or not
                found.update(range(e["start"] // GRANULARITY,
                                   -(-(e["start"] + e["length"])
                                     // GRANULARITY)))
        return found

    # ---- All of it --------------------------------------------------------

    def step(self):
        weights = [(self.write, 8), (self.zero, 3), (self.compressed, 2),
                   (self.snapshot_create, 3), (self.snapshot_delete, 1),
                   (self.snapshot_delete_by_qemu, 1),
                   (self.snapshot_apply, 2), (self.resize, 2),
                   (self.amend, 2), (self.empty, 0.3), (self.check, 0.5),
                   (self.bitmap_add, 1.5), (self.bitmap_remove, 1),
                   (self.bitmap_clear, 0.5), (self.bitmap_switch, 1),
                   (self.bitmap_merge, 0.5)]
        self.random.choices([w[0] for w in weights],
                            [w[1] for w in weights])[0]()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ctl", required=True)
    parser.add_argument("--filter", required=True)
    parser.add_argument("--tmp", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    o = parser.parse_args()
    steps = 0
    for seed in range(o.seed, o.seed + o.runs):
        s = Sequence(o, seed, o.tmp)
        try:
            for n in range(o.steps):
                before = len(s.done)
                s.step()
                if len(s.done) > before:
                    s.verify(n % 8 == 7)
                    steps += 1
            s.verify(True)
        except Wrong as e:
            print("\n".join(s.done[-40:]))
            print("seed %d, %s: %s" % (seed, s.kind, e))
            sys.exit(1)
    print("%d sequences, %d changes" % (o.runs, steps))


if __name__ == "__main__":
    main()
