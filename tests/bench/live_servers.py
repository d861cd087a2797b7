# SPDX-License-Identifier: BSD-3-Clause
"""The servers of live.py and cost.py, and what can be asked about them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time

import nbd
from qmp_client import QMP
from web import listening


def tool(*argv):
    run = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {run.stdout.strip()}")
    return run


class LiveServer:
    """A context manager.  'node' is what the commands call the disk."""

    node = ""

    def __init__(self, *argv, env=None):
        self.argv, self.env = list(argv), env
        self.pid = 0
        self.qmps = []
        self.start_seconds = 0.0

    def prepare(self):
        """The folder with its sockets is there, so arguments can name it."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="bench")
        self.socket = f"{self.folder.name}/s"
        self.control = f"{self.folder.name}/c"
        self.uri = f"nbd+unix:///?socket={self.socket}"
        self.log = open(f"{self.folder.name}/log", "w+b")
        self.prepare()
        begin = time.monotonic()
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log, env={**os.environ, **(self.env or {})})
        self.pid = self.process.pid
        while not listening(self.socket):
            if self.process.poll() is not None or \
                    time.monotonic() > begin + 60:
                self.log.seek(0)
                raise RuntimeError(f"{self.argv}: {self.log.read()!r}")
            time.sleep(0.0002)
        self.start_seconds = time.monotonic() - begin
        return self

    def __exit__(self, *_):
        for qmp in self.qmps:
            qmp.close()
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def export(self, name):
        return self.uri.replace("///", "///" + name.replace("/", "%2F"))

    def connect(self, name=""):
        handle = nbd.NBD()
        handle.set_export_name(name)
        handle.connect_unix(self.socket)
        return handle

    def qmp(self):
        for _ in range(1000):
            try:
                self.qmps.append(QMP(self.control, timeout=600))
                return self.qmps[-1]
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.005)
        raise RuntimeError("no control socket")

    # ---- Figures

    def cpu(self):
        return time.clock_gettime((~self.pid << 3) | 2)

    def memory(self, key="Pss"):
        """Bytes."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {key}")

    def anonymous(self):
        return self.memory("Anonymous")

    def flushes(self):
        return None

    def held(self, before=None):
        """How long writes were held back, how many had to wait, and how many
        had to do some of the work, since 'before'; nothing if that is not
        known."""
        return {}

    def host_requests(self):
        """System calls that read or write anything, whatever it is.  Flushes
        are none of them."""
        with open(f"/proc/{self.pid}/io", encoding="ascii") as file:
            said = dict(line.split(": ") for line in file)
        return int(said["syscr"]) + int(said["syscw"])


class NbdkitServer(LiveServer):
    def __init__(self, filter_so, image, *params, threads=16, plugin=None,
                 env=None):
        super().__init__(env=env)
        self.wanted = (filter_so, image, params, threads, plugin)

    def prepare(self):
        filter_so, image, params, threads, plugin = self.wanted
        self.argv = ["nbdkit", "-f", "-U", self.socket, "-t", str(threads),
                     f"--filter={filter_so}", "file",
                     *(plugin or [str(image)]),
                     f"qcow2-control={self.control}", *params]

    def stats(self):
        """Since the image was opened, which takes a client."""
        qmp = self.qmp()
        handle = self.connect()
        (said,) = qmp.ok("x-q2-query-stats", device="")
        handle.shutdown()
        qmp.close()
        self.qmps.remove(qmp)
        return said

    def flushes(self):
        return self.stats()["flushes"]

    def held(self, before=None):
        said = self.stats()["held"]
        now = {"held us": said["us"],
               "waited": said["requests-that-waited"],
               "tables met": said["tables-shared-by-writes"]}
        return now if before is None else {
            key: now[key] - before[key] for key in now}

    def host_requests(self):
        """Those of the engine, and its flushes."""
        said = self.stats()
        return said["flushes"] + sum(
            each["reads"] + each["writes"] for each in said["io"].values())

    def data_bytes(self):
        return self.stats()["io"]["data"]["bytes-read"]

    def settle(self):
        """What is read ahead, or made durable by itself, is done."""
        time.sleep(0.3)


class QemuNbd(LiveServer):
    def __init__(self, image):
        super().__init__()
        self.image = image

    def prepare(self):
        self.argv = ["qemu-nbd", "-t", "-e", "16", "-k", self.socket,
                     "--cache=writeback", "-f", "qcow2", str(self.image)]


class StorageDaemon(LiveServer):
    node = "q"

    def __init__(self, image):
        super().__init__()
        self.image = image

    def prepare(self):
        self.argv = [
            "qemu-storage-daemon",
            "--blockdev", f"file,node-name=f,filename={self.image}",
            "--blockdev", "qcow2,node-name=q,file=f",
            "--nbd-server", f"addr.type=unix,addr.path={self.socket},"
            "max-connections=16",
            "--export", "nbd,id=e,node-name=q,name=,writable=on",
            "--chardev", f"socket,path={self.control},server=on,wait=off,"
            "id=c", "--monitor", "chardev=c"]
