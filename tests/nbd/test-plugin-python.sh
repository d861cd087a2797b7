#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over a plugin written in Python, which takes one request at a time.
# shellcheck source=services.sh source-path=SCRIPTDIR
source "$(dirname "$0")/services.sh"

requires_plugin python
skip_if_instrumented "Python has leaks of its own"
make_images
cat >"$tmp/plugin.py" <<'END'
import os
import nbdkit

API_VERSION = 2
path = None


def config(key, value):
    global path
    path = value


def open(readonly):
    return os.open(path, os.O_RDONLY)


def get_size(fd):
    return os.fstat(fd).st_size


def pread(fd, buf, offset, flags):
    buf[:] = os.pread(fd, len(buf), offset)


def close(fd):
    os.close(fd)
END
for name in mix mix-extl2; do
    start_nbdkit --filter="$filter" python "$tmp/plugin.py" \
        image="$tmp/images/$name.qcow2"
    check_disk "$uri" "$name"
    stop_nbdkit
done
