# SPDX-License-Identifier: BSD-3-Clause
"""A private web server: nginx on a Unix socket."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

START_TIMEOUT = 30

CONFIG = """
daemon off;
master_process off;
pid {dir}/pid;
error_log {dir}/error;
events {{ }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen unix:{dir}/sock;
        root {root};
    }}
}}
"""


def listening(path: str) -> bool:
    """Look without connecting: a probe would be a client to the server."""
    if not os.path.exists(path):
        return False
    for line in Path("/proc/net/unix").read_text().splitlines():
        fields = line.split()           # [3] is 00010000 for __SO_ACCEPTCON
        if fields[-1] == path and fields[3] == "00010000":
            return True
    return False


class WebServer:
    """Serves the files of one directory; a context manager."""

    def __init__(self, root: Path) -> None:
        self._tmp = tempfile.TemporaryDirectory(prefix="bench")
        self.socket = os.path.join(self._tmp.name, "sock")
        self._config = Path(self._tmp.name, "conf")
        self._config.write_text(CONFIG.format(dir=self._tmp.name,
                                              root=root))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WebServer:
        self._process = subprocess.Popen(
            ["nginx", "-c", str(self._config),
             "-e", os.path.join(self._tmp.name, "error")],
            stdin=subprocess.DEVNULL)
        give_up = time.monotonic() + START_TIMEOUT
        while not listening(self.socket):
            if self._process.poll() is not None \
               or time.monotonic() > give_up:
                self.__exit__()
                raise RuntimeError("nginx did not start")
            time.sleep(0.001)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
        self._tmp.cleanup()
