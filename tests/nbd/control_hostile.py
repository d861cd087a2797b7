# SPDX-License-Identifier: BSD-3-Clause
"""control_hostile.py SOCKET: peers that do not behave.

After each of them the server answers an ordinary peer.
"""

import json
import socket
import sys
import time

from qmp_client import QMP

path = sys.argv[1]


def well():
    qmp = QMP(path)
    qmp.ok("query-version")
    qmp.close()


def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)          # waits, if many do
    sock.settimeout(60)
    return sock


def gone(sock, within=40):
    """Whether the server ends that connection; what it says is read."""
    sock.settimeout(within)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def send_much(sock, data):
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def check(what, result):
    print(what, flush=True)
    if not result:
        sys.exit(f"{what}: no")
    well()


# ---- What is no message, or none that we take ------------------------------

qmp = QMP(path, negotiate=False)
for text, what in (
        (b"hello\n", "no JSON"),
        (b"[1]\n", "an array"),
        (b'"x"\n', "a string"),
        (b"\x00\x01\xff\n", "bytes"),
        (b"{'execute': 'query-version'}\n", "single quotes"),
        (b'{"execute": "query-version"]', "brackets that do not match"),
        (b'{"execute": "a", "execute": "b"}', "a key twice"),
        (b'{"execute": 1}', "a number for a name"),
        (b'{}', "nothing"),
        (b'{"execute": "query-version", "arguments": []}', "a list"),
        (b'{"execute": "query-version", "more": 1}', "more"),
        (b'{"execute": "\xff\xfe"}', "no UTF-8"),
        (b'{"execute": "query-version", "arguments": {"a": "}{][\\""}}',
         "brackets in a string"),
        (b'{"execute": "query\\u0000version"}', "a zero byte")):
    qmp.send(text)
    reply = qmp.read()
    check(what, set(reply) == {"error"} and
          set(reply["error"]) == {"class", "desc"})
check("not negotiated", qmp.command("query-version")["error"]["class"] ==
      "CommandNotFound")
check("capabilities", "no capabilities" in
      qmp.fails("qmp_capabilities", enable=["oob"]))
qmp.ok("qmp_capabilities")
check("negotiated twice",
      qmp.command("qmp_capabilities")["error"]["class"] == "CommandNotFound")
check("unknown", qmp.command("quit")["error"]["class"] == "CommandNotFound")
check("an argument too many",
      qmp.fails("query-version", a=1) == "Parameter 'a' is unexpected")
check("one missing",
      qmp.fails("x-q2-flush") == "Parameter 'device' is missing")
check("one of another type", "expected: string" in
      qmp.fails("x-q2-flush", device=3))
qmp.send(b'{"execute": "query-version", "id": {"a": [1, null]}}')
check("an id", qmp.read()["id"] == {"a": [1, None]})
qmp.send(b'{"execute":"query-version","id":1}{"execute":"query-version",'
         b'"id":2}\n\n \r\n{"execute":"query-version","id":3}')
check("several at once", [qmp.read()["id"] for _ in range(3)] == [1, 2, 3])
for byte in b'{"execute": "query-version"}':
    qmp.send(bytes([byte]))
check("byte by byte", "return" in qmp.read())
qmp.send(b" " * 300000 + b'{"execute": "query-version"}')
check("white space", "return" in qmp.read())
longest = b'{"execute":"query-version","id":"%s"}'
longest = longest % (b"x" * (65536 - len(longest) + 2))
assert len(longest) == 65536
qmp.send(longest)
check("the longest message", len(qmp.read()["id"]) > 65000)
qmp.close()

# ---- Too much ---------------------------------------------------------------

for data, what in (
        (b"x" * (1 << 20), "1 MiB without a newline"),
        (b'{"a": "' + b"x" * (1 << 20), "a string of 1 MiB"),
        (longest.replace(b'"x', b'"xx', 1), "one byte more than the longest"),
        (b'{"a":' + b"[" * 60000, "deep arrays"),
        (b'{"a":' * 17, "17 levels"),
        (b'{"a":' * 10000 + b"1" + b"}" * 10000, "deep objects")):
    sock = connect()
    send_much(sock, data)
    check(what, gone(sock))
    sock.close()
qmp = QMP(path)
qmp.send(b'{"execute":"query-version","id":' + b"[" * 15 + b"]" * 15 + b"}")
check("16 levels", "return" in qmp.read())
qmp.close()

# ---- Peers that leave, or stay ------------------------------------------------

for _ in range(1000):
    connect().close()
check("1000 connections", True)
for half in (b"{", b'{"execute": "query-ver', b"garb"):
    sock = connect()
    sock.sendall(half)
    sock.close()
check("half a message, and gone", True)
sock = connect()
sock.sendall(b'{"execute": "qmp_capabilities"}{"execute": "query-version"}')
sock.shutdown(socket.SHUT_WR)
check("a request, and no more", gone(sock))

# They take all places, and the next one comes in all the same.
idle = [connect() for _ in range(8)]
check("8 that say nothing", True)
quiet = [QMP(path) for _ in range(8)]
check("8 that only listen", True)
more = [QMP(path) for _ in range(20)]
check("20 more", True)
alive = 0
for peer in more[-7:]:
    try:
        peer.ok("query-version")
        alive += 1
    except (EOFError, OSError):
        pass
check("the last ones stay", alive >= 5)
for peer in quiet + more:
    peer.close()
for sock in idle:
    sock.close()

# It asks and asks, and never reads.
sock = connect()
sock.sendall(b'{"execute": "qmp_capabilities"}')
sock.settimeout(2)
try:
    while True:
        sock.sendall(b'{"execute": "query-commands"}' * 100)
except TimeoutError:
    pass
except OSError:
    pass
check("one that never reads", True)
start = time.monotonic()
stuck = connect()
stuck.sendall(b'{"execute": ')
check("half a message, and nothing more", gone(stuck))
print(json.dumps({"seconds": round(time.monotonic() - start)}))
send_much(sock, b"x")
check("... and it is given up", gone(sock))
