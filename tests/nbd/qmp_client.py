# SPDX-License-Identifier: BSD-3-Clause
"""A client of the control socket, as small as can be.

    qmp_client.py SOCKET COMMAND[,NAME=VALUE...]...

sends commands and prints each reply on a line of its own.  Tests import QMP.
"""

import json
import socket
import sys


class QMP:
    """One connection; 'events' has those that have come so far."""

    def __init__(self, path, negotiate=True, timeout=600):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.sock.settimeout(timeout)
        self.file = self.sock.makefile("rb")
        self.events = []
        self.greeting = self.read()
        if negotiate:
            self.ok("qmp_capabilities")

    def send(self, data):
        self.sock.sendall(data)

    def read_any(self):
        line = self.file.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def read(self):
        while True:
            message = self.read_any()
            if "event" not in message:
                return message
            self.events.append(message)

    def read_event(self):
        if not self.events:
            self.events.append(self.read_any())
        return self.events.pop(0)

    def command(self, name, /, **arguments):
        message = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        self.send(json.dumps(message).encode())
        return self.read()

    def ok(self, name, /, **arguments):
        reply = self.command(name, **arguments)
        if "return" not in reply:
            raise RuntimeError(f"{name} {arguments}: {reply}")
        return reply["return"]

    def fails(self, name, /, **arguments):
        """The text of the error."""
        reply = self.command(name, **arguments)
        if "error" not in reply:
            raise RuntimeError(f"{name} {arguments} succeeded: {reply}")
        return reply["error"]["desc"]

    def close(self):
        self.file.close()
        self.sock.close()


def main():
    qmp = QMP(sys.argv[1])
    for argument in sys.argv[2:]:
        name, *pairs = argument.split(",")
        print(json.dumps(qmp.command(name, **dict(
            pair.split("=", 1) for pair in pairs))))


if __name__ == "__main__":
    main()
