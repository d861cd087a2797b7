# SPDX-License-Identifier: BSD-3-Clause
"""Disks for drills: images of all kinds, and the server that has them."""

import json
import os
import signal
import subprocess
import time

import nbd
from drill_writers import Wrong
from qmp_client import QMP

SECRET = "drill"
MIB = 1 << 20


def run(*command, ok=(0,)):
    done = subprocess.run(command, capture_output=True, text=True,
                          check=False)
    if done.returncode not in ok:
        raise Wrong(f"{' '.join(map(str, command))}: status "
                    f"{done.returncode}: {(done.stdout + done.stderr)[-800:]}")
    return done


class Disk:
    """One image, chosen by 'rng', in 'folder'/images."""

    def __init__(self, rng, number, folder, qcow2ctl, luks, compress):
        self.number, self.name = number, f"disk{number}"
        self.path = f"{folder}/images/{self.name}"
        self.cluster = 1 << rng.randrange(12, 22)
        most = rng.choice((2, 2, 4, 10)) * MIB
        self.size = rng.randrange(MIB, most) // 512 * 512
        if rng.random() < 0.5:
            self.size = self.size // MIB * MIB
        self.luks = luks and rng.random() < 0.5
        # Each stream in a cluster is a reference.
        widths = (16, 32, 64) if compress else (4, 8, 16, 16, 32, 64)
        options = [f"cluster_size={self.cluster}",
                   f"refcount_bits={rng.choice(widths)}"]
        if self.cluster >= 16384 and rng.random() < 0.3:
            options.append("extended_l2=on")
        if rng.random() < 0.2:
            options.append("lazy_refcounts=on")
        self.base = None
        if rng.random() < 0.25:
            self.base = self.make_base(rng, folder)
            options += [f"backing_file={self.base}", "backing_fmt=raw"]
        elif rng.random() < 0.2:
            options.append("preallocation=metadata")
        self.options = ",".join(options)
        self.create(qcow2ctl, folder)
        # In a folder of images nbdkit before 1.44 cannot let them grow.
        os.truncate(self.path, 12 * self.size + 64 * MIB)

    def make_base(self, rng, folder):
        path = f"{folder}/{self.name}.base"
        with open(path, "wb") as file:
            file.write(rng.randbytes(4096) * (rng.randrange(
                1, self.size // 4096)))
        return path

    def create(self, qcow2ctl, folder):
        if self.luks:
            secret = f"{folder}/secret"
            with open(secret, "w", encoding="ascii") as file:
                file.write(SECRET + "\n")
            run(qcow2ctl, "create", "-q", "-o", self.options +
                ",encrypt.format=luks,encrypt.iter-time=10",
                "--passphrase", f"+{secret}", self.path, str(self.size))
        else:
            run("qemu-img", "create", "-q", "-f", "qcow2", "-o",
                self.options, self.path, str(self.size))

    def first(self):
        """What the disk is at first."""
        data = bytearray(self.size)
        if self.base:
            with open(self.base, "rb") as file:
                base = file.read(self.size)
            data[:len(base)] = base
        return data

    def __str__(self):
        return f"{self.name} of {self.size} bytes, {self.options}" + \
            (", luks" if self.luks else "")

    # ---- As QEMU sees it

    def by_qemu(self, snapshot, to, in_use=False):
        """A snapshot, read by somebody else."""
        image = f"driver=qcow2,file.filename={self.path}"
        secret = []
        if self.luks:
            secret = ["--object", f"secret,id=s,data={SECRET}"]
            image += ",encrypt.key-secret=s"
        run("qemu-img", "convert", *secret, *(["-U"] if in_use else []),
            "-l", f"snapshot.name={snapshot}", "--image-opts", "-O", "raw",
            image, to)
        with open(to, "rb") as file:
            return file.read()

    def snapshots_by_qemu(self):
        info = json.loads(run("qemu-img", "info", "--output=json",
                              self.path).stdout)
        return [snapshot["name"] for snapshot in info.get("snapshots", [])]

    def check(self, state):
        """By qemu-img.  A disk that was never in a crash has nothing wrong.
        'leaks': it was written to since, so all that may be left is space
        that nobody uses.  'crash': counts may also be too high, and flags of
        shared clusters stale, which the next writer repairs."""
        secret, image = [], ["-f", "qcow2", self.path]
        if self.luks:
            secret = ["--object", f"secret,id=s,data={SECRET}"]
            image = ["--image-opts", f"driver=qcow2,file.filename={self.path}"
                     ",encrypt.key-secret=s"]
        done = run("qemu-img", "check", *secret, *image, ok={
            "clean": (0,), "leaks": (0, 3), "crash": (0, 2, 3)}[state])
        for line in (done.stdout + done.stderr).splitlines():
            if line.startswith("ERROR ") and "OFLAG_COPIED" not in line:
                raise Wrong(f"{self}: qemu-img check: {line}")


class Server:
    """'command', with its filter, and the plugin and parameters."""

    def __init__(self, command, arguments, folder):
        self.sock, self.control = f"{folder}/sock", f"{folder}/ctl"
        self.log_path = f"{folder}/log"
        for path in (self.sock, f"{folder}/pid"):
            if os.path.exists(path):
                os.unlink(path)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(    # pylint: disable=R1732
                [*command, "-P", f"{folder}/pid", "-U", self.sock,
                 *arguments, f"qcow2-control={self.control}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(4000):
            if os.path.exists(f"{folder}/pid") and \
                    os.path.getsize(f"{folder}/pid"):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        raise Wrong(f"no server: {self.log()}")

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()[-1500:]

    def connect(self, export):
        handle = nbd.NBD()
        handle.set_export_name(export)
        handle.add_meta_context("base:allocation")
        handle.connect_unix(self.sock)
        return handle

    def qmp(self):
        for _ in range(2000):
            try:
                return QMP(self.control)
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.005)       # that of the server before
        raise Wrong(f"no control socket: {self.log()}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)

    def killed(self):
        if self.process.wait() != -signal.SIGKILL:
            raise Wrong(f"the server ended by itself: {self.log()}")

    def stop(self):
        """All clients have left."""
        self.process.terminate()
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise Wrong("the server does not end") from error
        if status != 0:
            raise Wrong(f"the server ended with {status}: {self.log()}")


def read_all(handle):
    size, data = handle.get_size(), []
    for at in range(0, size, MIB):
        data.append(handle.pread(min(MIB, size - at), at))
    return b"".join(data)


def extents(handle):
    """(offset, length, flags) of the whole export."""
    found, at, size = [], 0, handle.get_size()

    def note(_context, offset, entries, _error):
        nonlocal at
        for length, flags in zip(entries[::2], entries[1::2]):
            found.append((offset, min(length, size - offset), flags))
            offset += length
        at = offset
        return 0

    while at < size:
        handle.block_status(size - at, at, note)
    return found


def bitmap_flags(qmp, disk):
    return {b["name"]: b["flags"] for b in
            qmp.ok("x-q2-query-bitmaps", device=disk.name)}


def snapshot_names(qmp, disk):
    return {s["name"] for s in
            qmp.ok("x-q2-query-snapshots", device=disk.name)}


def show(value):
    return json.dumps(value, sort_keys=True)
