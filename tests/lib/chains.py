#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random chains of images, each an overlay of the one before, and their disks
as QEMU reads them.

A seed decides everything: the number of layers, and for each its version and
geometry, contents, encryption, and size.  Besides images made here step by
step, any image of the matrix (matrix_images.py) and of qgen.py may be a layer.

usage: chains.py make SEED DIR URI     URI/NAME is an NBD export of DIR/NAME
       chains.py selftest [FIRST [COUNT]]

make writes, besides the layers,
  truth.raw   the disk, as qemu-img convert reads it
  truth.json  its map, as qemu-img map sees it
  args-N      arguments for nbdkit, one a line, that serve it in another way
  args-qemu   arguments for qemu-img, one a line, that open it
and prints what the chain is, from the bottom upwards.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from typing import Dict, List, NamedTuple

import luks
import matrix
import qgen
from build import pattern, run
from matrix_images import ENTRIES

K, M = 1 << 10, 1 << 20
LONGEST = 3 * M
CLUSTERS = ("512", "1k", "4k", "16k", "64k", "64k", "256k", "2M")


class Layer(NamedTuple):
    name: str                   # in the folder
    driver: str                 # of QEMU
    what: str
    size: int
    passphrase: str = ""


class Chain:
    """Layers, the lowest first."""

    def __init__(self, directory: str, seed: int):
        self.dir = directory
        self.rng = random.Random(seed)
        self.layers: List[Layer] = []
        length = self.rng.choice((1, 2, 2, 3, 3, 4, 5, 6, 8))
        self.add(self.rng.choice((
            self.raw, self.raw, self.qcow2, self.qcow2, self.version1,
            self.of_matrix, self.of_matrix, self.generated, self.aes,
            self.luks)))
        # What is served is an image.
        while len(self.layers) < length or self.top.driver == "raw":
            self.add(self.rng.choice((
                self.qcow2, self.qcow2, self.qcow2, self.qcow2, self.qcow2,
                self.version1, self.of_matrix, self.of_matrix, self.generated,
                self.aes, self.luks)))

    # -- Tools --------------------------------------------------------------

    def path(self, name: str) -> str:
        return os.path.join(self.dir, name)

    @property
    def top(self) -> Layer:
        return self.layers[-1]

    def below(self) -> List[str]:
        """How qemu-img is told what a new layer is over."""
        if not self.layers:
            return []
        return ["-b", self.top.name, "-F", self.top.driver]

    def opened(self, level: int = -1) -> List[str]:
        """The arguments with which QEMU opens a layer and those below."""
        options = [f"file.filename={self.path(self.layers[level].name)}"]
        secrets = []
        prefix = ""
        last = level % len(self.layers)
        for index in range(last, -1, -1):
            layer = self.layers[index]
            options.append(f"{prefix}driver={layer.driver}")
            if layer.passphrase:
                secrets += ["--object", f"secret,id=s{index},"
                            f"data={layer.passphrase}"]
                options.append(f"{prefix}encrypt.key-secret=s{index}")
            prefix += "backing."
        return [*secrets, "--image-opts", ",".join(options)]

    def some_size(self, sectors: bool = True) -> int:
        """Mostly near to that of the layer below."""
        rng = self.rng
        size = rng.randint(300 * K, LONGEST)
        if self.layers and rng.random() < 0.7:
            size = max(1, self.top.size + rng.choice(
                (0, 0, -512, 512, -300 * K, 200 * K, 100 * 512, 2 * M,
                 2 * M)))
        return -(-size // 512) * 512 if sectors else size

    def spot(self, size: int, unit: int) -> Dict[str, int]:
        rng = self.rng
        at = rng.randrange(size)
        if rng.random() < 0.5:
            at = at // unit * unit
        length = min(int(2 ** rng.uniform(0, 19)), size - at)
        return {"at": at, "len": length, "byte": rng.randrange(1, 256)}

    def fill(self, layer: Layer, unit: int, compress: bool, zeros: bool
             ) -> None:
        """Random commands for qemu-io."""
        rng = self.rng
        commands = []
        if compress:                # only what is not allocated yet
            all_units = range(-(-layer.size // unit))
            for index in rng.sample(all_units, min(5, len(all_units))):
                at = index * unit
                commands.append(f"write -q -c -P {rng.randrange(256)} {at} "
                                f"{min(unit, layer.size - at)}")
        for _ in range(rng.randint(1, 12)):
            command = "write -q -P {byte} {at} {len}"
            if zeros and rng.random() < 0.4:
                command = rng.choice(("write -q -z {at} {len}",
                                      "write -q -z -u {at} {len}",
                                      "discard -q {at} {len}"))
            commands.append(command.format(**self.spot(layer.size, unit)))
        said = run("qemu-io", *self.opened(),
                   text="\n".join(commands) + "\n")
        if "failed" in said or "rror" in said:
            raise RuntimeError(f"qemu-io: {commands}: {said}")

    def add(self, kind) -> None:
        kind(f"l{len(self.layers)}")

    # -- Kinds of layers -------------------------------------------------------

    def raw(self, name: str) -> None:
        size = self.some_size(sectors=self.rng.random() < 0.5)
        with open(self.path(name), "wb") as file:
            file.write(pattern(size, 16 * K, self.rng.randrange(1 << 30)))
            for _ in range(3):      # holes
                at = self.rng.randrange(size)
                os.truncate(self.path(name), at)
                os.truncate(self.path(name), size)
                file.seek(self.rng.randrange(at + 1) // 4096 * 4096)
                file.write(self.rng.randbytes(
                    min(5000, size - file.tell())))
        self.layers.append(Layer(name, "raw", f"raw {size}", size))

    def qcow2(self, name: str) -> None:
        rng = self.rng
        cluster = rng.choice(CLUSTERS)
        options = [f"cluster_size={cluster}"]
        bits = 16
        version2 = rng.random() < 0.2
        if version2:
            options.append("compat=0.10")
        else:
            if cluster not in ("512", "1k", "4k") and rng.random() < 0.5:
                options.append("extended_l2=on")
            bits = rng.choice((1, 16, 16, 64))
            options.append(f"refcount_bits={bits}")
            if rng.random() < 0.3:
                options.append("compression_type=zstd")
            if rng.random() < 0.1 and not self.layers:
                options.append("preallocation=metadata")
        text = ",".join(options)
        size = self.some_size()
        run("qemu-img", "create", "-q", "-f", "qcow2", "-u",
            *self.below(), "-o", text, self.path(name), str(size))
        self.layers.append(Layer(name, "qcow2", f"qcow2 {text} {size}", size))
        # Compressed clusters and snapshots are counted more than once.
        self.fill(self.top, self.unit(), zeros=True,
                  compress=bits > 1 and "preallocation" not in text)
        if rng.random() < 0.2 and bits > 1:
            # A snapshot is below nothing, but shares clusters.
            run("qemu-img", "snapshot", "-c", "one", *self.opened())
            self.fill(self.top, self.unit(), compress=False, zeros=True)

    def unit(self) -> int:
        told = json.loads(run("qemu-img", "info", "--output=json",
                              self.path(self.top.name)))
        return told["cluster-size"]

    def version1(self, name: str) -> None:
        size = self.some_size()
        run("qemu-img", "create", "-q", "-f", "qcow", "-u", *self.below(),
            self.path(name), str(size))
        self.layers.append(Layer(name, "qcow", f"qcow {size}", size))
        self.fill(self.top, 4 * K, compress=False, zeros=False)

    def aes(self, name: str) -> None:
        driver = self.rng.choice(("qcow", "qcow2"))
        size = self.some_size()
        passphrase = f"secret of {name}"
        run("qemu-img", "create", "-q", "-f", driver, "-u", *self.below(),
            "--object", f"secret,id=s,data={passphrase}", "-o",
            "encrypt.format=aes,encrypt.key-secret=s", self.path(name),
            str(size))
        self.layers.append(Layer(name, driver, f"{driver} aes {size}", size,
                                 passphrase))
        self.fill(self.top, 4 * K, compress=False, zeros=driver == "qcow2")

    def luks(self, name: str) -> None:
        options = self.rng.choice(("cluster_size=4k", "cluster_size=64k"))
        size = self.some_size()
        passphrase = luks.create(self.path(name), size, options)
        below = self.below()
        self.layers.append(Layer(name, "qcow2", f"luks {options} {size}",
                                 size, passphrase))
        if below:
            secret = ["--object", f"secret,id=s,data={passphrase}",
                      "--image-opts"]
            run("qemu-img", "rebase", "-u", *below, *secret,
                f"driver=qcow2,file.filename={self.path(name)},"
                "encrypt.key-secret=s")
        self.fill(self.top, 64 * K, compress=False, zeros=True)

    def rebased(self, name: str, what: str, driver: str, size: int) -> None:
        """A complete image becomes an overlay, if QEMU agrees."""
        if self.layers:
            done = subprocess.run(
                ["qemu-img", "rebase", "-u", "-f", driver, *self.below(),
                 self.path(name)], check=False, stderr=subprocess.DEVNULL)
            if done.returncode != 0:
                self.add(self.qcow2)
                return
        self.layers.append(Layer(name, driver, what, size))

    def of_matrix(self, name: str) -> None:
        names = [n for n, entry in ENTRIES.items()
                 if entry.raw and entry.size % 512 == 0 and entry.size > 0
                 and entry.size <= 4 * M and entry.check == 0
                 and (entry.version > 1 or not self.layers)]
        chosen = self.rng.choice(names)
        path, raw = matrix.make(chosen, self.dir)
        os.unlink(raw)
        os.rename(path, self.path(name))
        entry = ENTRIES[chosen]
        self.rebased(name, f"matrix {chosen}", entry.format, entry.size)

    def generated(self, name: str) -> None:
        while True:
            seed = self.rng.randrange(1 << 20)
            made = qgen.generate(seed, 512 * K)
            if made.clean and made.head.size and made.head.size % 512 == 0 \
                    and (made.head.version > 1 or not self.layers):
                break
        made.save(self.path(name))
        self.rebased(name, f"qgen {seed}", made.format, made.head.size)

    # -- What QEMU makes of it ------------------------------------------------

    def truth(self) -> None:
        run("qemu-img", "convert", *self.opened(), "-O", "raw",
            self.path("truth.raw"))
        # Where a raw disk ends in the middle of a sector, QEMU reads on.
        os.truncate(self.path("truth.raw"), self.top.size)
        with open(self.path("truth.json"), "w", encoding="ascii") as file:
            file.write(run("qemu-img", "map", "--output=json",
                           *self.opened()))

    def common_arguments(self) -> List[str]:
        found = [f"qcow2-passphrase={layer.passphrase}"
                 for layer in reversed(self.layers) if layer.passphrase]
        # In version 1 there is no place for it.
        if any(layer.driver == "qcow" for layer in self.layers[1:]) or \
                self.rng.random() < 0.3:
            found += ["qcow2-backing-format=" +
                      ("raw" if layer.driver == "raw" else "qcow2")
                      for layer in reversed(self.layers[:-1])]
        return found

    def arguments(self, uri: str) -> List[List[str]]:
        """Ways to serve it."""
        def given(remote: float) -> List[str]:
            return ["qcow2-backing=" +
                    (uri.replace("/NAME", "/" + layer.name)
                     if self.rng.random() < remote else self.path(layer.name))
                    for layer in reversed(self.layers[:-1])]

        common = self.common_arguments()
        local = ["file", self.path(self.top.name)]
        nbd = ["nbd", "uri=" + uri.replace("/NAME", "/" + self.top.name)]
        return [[*local, f"qcow2-follow={self.dir}", *common],
                [*local, *given(0.5), *common],
                [*nbd, *given(1), *common]]


def make(seed: int, directory: str, uri: str) -> None:
    chain = Chain(directory, seed)
    chain.truth()
    print(f"seed {seed}: " + "; ".join(layer.what for layer in chain.layers))
    for name, arguments in [*enumerate(chain.arguments(uri)),
                            ("qemu", chain.opened())]:
        with open(chain.path(f"args-{name}"), "w", encoding="ascii") as file:
            file.write("\n".join(arguments) + "\n")


def selftest(first: int, count: int) -> int:
    """That they can be made, and that what QEMU thinks of its own images is
    that nothing is wrong with them."""
    failed = 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as directory:
            chain = Chain(directory, seed)
            chain.truth()
            for level, layer in enumerate(chain.layers):
                if layer.driver != "qcow2":
                    continue
                done = subprocess.run(
                    ["qemu-img", "check", "-q", *chain.opened(level)],
                    check=False)
                if done.returncode != 0:
                    print(f"FAIL {seed}: {layer}: {done.returncode}")
                    failed += 1
    print(f"{failed} failed of {count}")
    return 1 if failed else 0


def main(argv: List[str]) -> int:
    if argv[1:2] == ["make"] and len(argv) == 5:
        os.makedirs(argv[3], exist_ok=True)
        make(int(argv[2]), argv[3], argv[4])
        return 0
    if argv[1:2] == ["selftest"]:
        return selftest(*map(int, (argv[2:] + ["1", "20"][len(argv) - 2:])))
    print(__doc__[__doc__.index("usage:"):], file=sys.stderr, end="")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
