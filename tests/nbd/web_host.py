# SPDX-License-Identifier: BSD-3-Clause
"""Web servers that nginx cannot play: one of S3 that checks signed addresses,
one that hangs now and then, one that hangs up in the middle of an answer, one
with every fault.

  web_host.py serve FOLDER LOG [--stall SECONDS] [--every N] [--address IP]
      prints its port; LOG gets "METHOD STATUS BYTES PATH" of each answer
        /signed/NAME   only with a signature (AWS version 4, in the address)
        /stalls/NAME   each Nth GET waits before it is answered
        /drops/NAME    each Nth GET ends in the middle
        /faults/NAME   each Nth GET meets one of FAULTS, and the log has the
                       line "FAULT WHICH 0 PATH"
  web_host.py sign URL [--seconds N]
      prints the address signed for GET, as boto3 does it

The server computes signatures itself, so that one checks the other.
"""

import argparse
import datetime
import hashlib
import hmac
import http.server
import os
import re
import sys
import threading
import time
import urllib.parse

KEY = "EXAMPLEKEY"
SECRET = "example/secret"
REGION = "us-east-1"
STAMP = "%Y%m%dT%H%M%SZ"
# In turn: says that it is overloaded, hangs up in the middle of what it sends,
# hangs up without an answer.
FAULTS = ("503", "middle", "silence")


def signature(method, path, query, host):
    """The signature (hex) that this request must have; see AWS's "Signature
    Version 4" with query parameters."""
    stamp = query["X-Amz-Date"]
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    quote = urllib.parse.quote
    canonical = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}"
                         for k, v in sorted(query.items())
                         if k != "X-Amz-Signature")
    request = "\n".join([method, path, canonical, f"host:{host}\n", "host",
                         "UNSIGNED-PAYLOAD"])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope,
                      hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + SECRET).encode()
    for part in (stamp[:8], REGION, "s3", "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def refusal(method, path, query, host):
    """Why a request is refused, or None."""
    try:
        begin = datetime.datetime.strptime(query["X-Amz-Date"], STAMP)
        seconds = int(query["X-Amz-Expires"])
        given = query["X-Amz-Signature"]
    except (KeyError, ValueError):
        return "AccessDenied"
    if not hmac.compare_digest(given, signature(method, path, query, host)):
        return "SignatureDoesNotMatch"
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    if now > begin + datetime.timedelta(seconds=seconds):
        return "AccessDenied: Request has expired"
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def log_message(self, *_):
        pass

    def note(self, status, count):
        self.server.log.write(f"{self.command} {status} {count} "
                              f"{self.path.partition('?')[0]}\n")

    def refuse(self, status, text):
        body = f"<Error><Code>{text}</Code></Error>\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.note(status, len(body))

    def answer(self):
        url = urllib.parse.urlsplit(self.path)
        kind, _, name = url.path[1:].partition("/")
        path = os.path.join(self.server.folder, os.path.basename(name))
        if not os.path.isfile(path):
            return self.refuse(404, "NoSuchKey")
        if kind == "signed":
            why = refusal(self.command, url.path,
                          dict(urllib.parse.parse_qsl(url.query)),
                          self.headers["Host"])
            if why:
                return self.refuse(403, why)
        if kind == "faults":
            return self.answer_or_fail(path)
        drop = self.command == "GET" and self.server.is_turn() and kind
        if drop == "stalls":
            time.sleep(self.server.stall)
        return self.send_file(path, drop == "drops")

    def answer_or_fail(self, path):
        number = self.command == "GET" and self.server.is_turn()
        if not number:
            return self.send_file(path, False)
        fault = FAULTS[number % len(FAULTS)]
        self.server.log.write(f"FAULT {fault} 0 {self.path}\n")
        if fault == "503":
            return self.refuse(503, "SlowDown")
        if fault == "middle":
            return self.send_file(path, True)
        self.close_connection = True
        return None

    def send_file(self, path, drop):
        size = os.path.getsize(path)
        begin, end, status = 0, size, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)",
                             self.headers.get("Range", ""))
        if asked:
            begin, end = int(asked[1]), min(int(asked[2]) + 1, size)
            status = 206
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.end_headers()
        count = 0
        if self.command == "GET":
            count = (end - begin) // 2 if drop else end - begin
            with open(path, "rb") as f:
                f.seek(begin)
                while count > 0:
                    piece = f.read(min(count, 1 << 20))
                    self.wfile.write(piece)
                    count -= len(piece)
            count = (end - begin) // 2 if drop else end - begin
        self.close_connection = self.close_connection or drop
        self.note(status, count)


class Server(http.server.ThreadingHTTPServer):
    """Its threads share the log and the count of requests; lock guards the
    latter, lines of the log are written at once."""

    daemon_threads = True

    def __init__(self, args):
        super().__init__((args.address, 0), Handler)
        self.folder = args.folder
        self.log = open(args.log, "a", buffering=1, encoding="utf-8")
        self.stall = args.stall
        self.every = args.every
        self.count = 0
        self.lock = threading.Lock()

    def is_turn(self):
        """0, or for each Nth call its number among those."""
        with self.lock:
            self.count += 1
            return 0 if self.count % self.every else self.count // self.every

    def handle_error(self, request, client_address):
        """Clients, and proxies, leave when they have waited long enough."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(args):
    server = Server(args)
    print(server.server_port, flush=True)
    server.serve_forever()


def sign(args):
    # Only here: the server does without.
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("GET", args.url)
    S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", REGION,
                     expires=args.seconds).add_auth(request)
    print(request.url)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("serve")
    command.add_argument("folder")
    command.add_argument("log")
    command.add_argument("--stall", type=float, default=2)
    command.add_argument("--every", type=int, default=5)
    command.add_argument("--address", default="127.0.0.1")
    command.set_defaults(run=serve)
    command = commands.add_parser("sign")
    command.add_argument("url")
    command.add_argument("--seconds", type=int, default=3600)
    command.set_defaults(run=sign)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
