# SPDX-License-Identifier: BSD-3-Clause
"""Checks of an image that is being served, while clients write.

    control_check.py raise IMAGE COUNT
    control_check.py begin CONTROL JOB
    control_check.py sound|leaks|slow NBDSOCKET CONTROL [IMAGE COUNT]

raise: makes the refcounts of COUNT clusters one too high, in the file.
"""

import random
import struct
import sys
import threading
import time

import nbd
from qmp_client import QMP

DISK = 16 << 20
DONE = ["created", "running", "concluded"]


def raised(path, count):
    """Host offsets, and where their refcounts are."""
    with open(path, "rb") as image:
        data = image.read(1 << 20)
        bits = struct.unpack_from(">I", data, 20)[0]
        table = struct.unpack_from(">Q", data, 48)[0]
        image.seek(table)
        block = struct.unpack(">Q", image.read(8))[0]
    return {(5 + 3 * i) << bits: block + 2 * (5 + 3 * i)
            for i in range(count)}


def raise_some(path, count):
    places = raised(path, count)
    with open(path, "r+b") as image:
        for place in places.values():
            image.seek(place)
            value = struct.unpack(">H", image.read(2))[0]
            image.seek(place)
            image.write(struct.pack(">H", value + 1))


class Writers:
    """Write, zero, trim and flush at random until told to stop."""

    def __init__(self, path, number):
        self.stop = False
        self.failed = None
        self.done = 0
        self.threads = [threading.Thread(target=self.run, args=(path, i))
                        for i in range(number)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        for thread in self.threads:
            thread.join()
        if self.failed:
            raise SystemExit(f"a writer: {self.failed}")

    def run(self, path, number):
        try:
            client = nbd.NBD()
            client.connect_unix(path)
            rng = random.Random(number)
            while not self.stop:
                self.request(client, rng)
                self.done += 1
            client.shutdown()
        except nbd.Error as error:
            self.failed = error

    @staticmethod
    def request(client, rng):
        size = rng.choice([4096, 12288, 65536])
        at = rng.randrange(0, DISK - size, 4096)
        kind = rng.random()
        if kind < 0.55:
            client.pwrite(rng.randbytes(64) * (size // 64), at)
        elif kind < 0.7:
            client.zero(size, at)
        elif kind < 0.95:
            client.trim(size, at)
        else:
            client.flush()


def wait(qmp, job):
    """The states of the job, until it has concluded."""
    states = []
    while not states or states[-1] != "concluded":
        event = qmp.read_event()
        if event["event"] == "JOB_STATUS_CHANGE" and \
                event["data"]["id"] == job:
            states.append(event["data"]["status"])
    return states


def check(qmp, **arguments):
    job = qmp.ok("x-q2-check", node="", **arguments)["id"]
    states = wait(qmp, job)
    assert states == DONE, states
    result = qmp.ok("x-q2-query-check", id=job)
    info = [j for j in qmp.ok("query-jobs") if j["id"] == job][0]
    assert info["status"] == "concluded" and "error" not in info, info
    assert info["current-progress"] == info["total-progress"], info
    assert info["type"] == "x-q2-check", info
    qmp.ok("job-dismiss", id=job)
    return result


def sound(path, control):
    qmp = QMP(control)
    with Writers(path, 3) as writers:
        for number in range(8):
            if number % 3 == 1:
                qmp.ok("blockdev-snapshot-internal-sync", device="",
                       name=f"s{number}")
            repair = {"repair": "leaks"} if number % 2 else {}
            result = check(qmp, **repair)
            for key in ("corruptions", "leaks", "leaks-fixed"):
                assert key not in result, result
            assert result["check-errors"] == 0, result
            assert result["nbdkit-qcow2"]["findings"] == [], result
        assert writers.done > 20
    # What is asked wrongly.
    for arguments in ({"node": "", "repair": "all"}, {"node": ""},
                      {"node": "", "job-id": "1x"},
                      {"node": "", "max-findings": 5000}):
        if len(arguments) > 1:
            qmp.fails("x-q2-check", **arguments)
    for verb in ("job-cancel", "job-dismiss", "x-q2-query-check"):
        assert qmp.fails(verb, id="none") == "Job not found"
    # Old ones make room.
    for number in range(20):
        qmp.ok("x-q2-check", **{"node": "", "job-id": f"j{number}"})
        wait(qmp, f"j{number}")
    jobs = qmp.ok("query-jobs")
    assert len(jobs) == 16, jobs
    assert "already in use" in qmp.fails(
        "x-q2-check", **{"node": "", "job-id": "j19"})
    qmp.fails("job-cancel", id="j19")


def leaks(path, control, image, count):
    qmp = QMP(control)
    expected = sorted(raised(image, count))
    fixed = 0
    with Writers(path, 2) as writers:
        while writers.done < 10:
            time.sleep(0.01)
        result = check(qmp)
        found = [f["offset"] for f in result["nbdkit-qcow2"]["findings"]
                 if f["severity"] == "leak"]
        assert set(found) <= set(expected), (found, expected)
        assert len(found) + result["nbdkit-qcow2"]["undecided"] >= count
        assert result["leaks"] == len(found), result
        few = check(qmp, **{"max-findings": 1})
        assert len(few["nbdkit-qcow2"]["findings"]) == 1, few
        assert few["nbdkit-qcow2"]["findings-left-out"] > 0, few
        for _ in range(20):
            fixed += check(qmp, repair="leaks").get("leaks-fixed", 0)
            if fixed == count:
                break
    assert fixed == count, fixed
    result = check(qmp)
    assert "leaks" not in result and "corruptions" not in result, result


def slow(_, control):
    """A job that takes long: it is cancelled, and others wait for none."""
    qmp = QMP(control)
    job = qmp.ok("x-q2-check", **{"node": "", "job-id": "long"})["id"]
    while qmp.read_event()["data"]["status"] != "running":
        pass
    qmp.fails("job-dismiss", id=job)
    assert "has no result yet" in qmp.fails("x-q2-query-check", id=job)
    start = time.monotonic()
    qmp.ok("job-cancel", id=job)
    assert wait(qmp, job) == ["aborting", "concluded"]
    assert time.monotonic() - start < 30
    assert "cancelled" in qmp.fails("x-q2-query-check", id=job)
    assert "cancelled" in qmp.ok("query-jobs")[0]["error"]
    qmp.ok("job-dismiss", id=job)
    assert qmp.ok("query-jobs") == []
    # The end of the server cancels this one.
    qmp.ok("x-q2-check", node="")


def main():
    if sys.argv[1] == "begin":
        QMP(sys.argv[2]).ok("x-q2-check", **{"node": "",
                                             "job-id": sys.argv[3]})
    elif sys.argv[1] == "raise":
        raise_some(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "leaks":
        leaks(*sys.argv[2:5], int(sys.argv[5]))
    else:
        {"sound": sound, "slow": slow}[sys.argv[1]](*sys.argv[2:4])


if __name__ == "__main__":
    main()
