# SPDX-License-Identifier: BSD-3-Clause
"""Hours of what restore_drill.py does, and the server must not grow.

drill_soak.py --folder DIR --minutes M [--life SECONDS] [--seed N]
              [--qcow2ctl PROGRAM] [--luks] -- NBDKIT -f --filter=FILE

One history after another: disks get writers, checkpoints, backups, snapshots
that are deleted, in lives of the server that end with SIGKILL or SIGTERM.
Meanwhile its memory, its descriptors and its threads are sampled, each time
between two checkpoints, and the last quarter of a life must be as the third
one, or have grown by much less than that had: tables come into caches, and
threads meet their largest request, until all have, but a leak goes on.
Buffers of requests, some as large as a cluster, come and go, and malloc keeps
some of them: what is less than a few of them is no leak.
The server has one arena of malloc: with several, which is the default, what is
free in them varies by more than a leak would add.
"""

import argparse
import os
import random
import statistics
import time

import restore_drill
from drill_writers import Wrong

MIB = 1 << 20
# What malloc keeps back moves about by some MiB.
MEMORY_SLACK = 4 * MIB
BUFFERS = 2
MEMORY_RATE = 0.05
SLOWER = 0.5
FEWEST = 60             # samples, to say anything


def figures(pid):
    """PSS and RSS in bytes, descriptors, threads."""
    found = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("Pss", "Rss"):
                found[name.lower()] = int(rest.split()[0]) * 1024
    found["fds"] = len(os.listdir(f"/proc/{pid}/fd"))
    found["threads"] = len(os.listdir(f"/proc/{pid}/task"))
    return found


def flat(samples, buffer):
    """The medians of the last two quarters; 'buffer': bytes of a large one."""
    size, result = len(samples) // 4, {}
    for name in samples[0]:
        before, middle, after = (
            statistics.median(s[name] for s in samples[n * size:][:size])
            for n in (1, 2, 3))
        slack = 4
        if name in ("pss", "rss"):
            slack = max(MEMORY_SLACK + BUFFERS * buffer, MEMORY_RATE * middle)
        result[name] = (middle, after)
        if after - middle > max(slack, SLOWER * (middle - before)):
            raise Wrong(f"{name} grows: {before}, {middle}, {after}: "
                        f"{[s[name] for s in samples]}")
    return result


def words(result):
    return ", ".join(
        f"{name} {a / MIB:.1f} then {b / MIB:.1f} MiB"
        if name in ("pss", "rss") else f"{name} {a:g} then {b:g}"
        for name, (a, b) in result.items())


class Soak(restore_drill.Round):
    # nbdkit has a buffer for each, which grows to the largest request that it
    # has met: with many it would take long until all have met a large one.
    threads = 2,

    def life(self, seconds):
        """Samples of a life, and whether it was long enough."""
        samples, end = [], time.monotonic() + seconds
        while time.monotonic() < end or \
                (len(samples) < FEWEST and time.monotonic() < end + seconds):
            self.live(1)
            if self.rng.random() < 0.3:
                self.by_hand()
            samples.append(figures(self.server.process.pid))
            self.forget()
        if len(samples) < FEWEST:
            return f"{len(samples)} samples, too few"
        largest = max(disk.cluster for disk in self.disks)
        return f"{len(samples)} samples: {words(flat(samples, largest))}"

    def by_hand(self):
        """What an administrator does beside."""
        name = self.rng.choice(self.disks).name
        restore_drill.run(self.args.qcow2ctl, "-S", self.server.control,
                          "snapshot", "create", name, "mine")
        # A connection may still be closing.
        for _ in range(400):
            done = restore_drill.run(
                self.args.qcow2ctl, "-S", self.server.control, "snapshot",
                "delete", name, "mine", ok=(0, 1, 4))
            if done.returncode == 0:
                return
            time.sleep(0.01)
        raise Wrong(f"mine stays: {done.stderr}")

    def forget(self):
        """What is certain need not be kept: this client may not grow."""
        for writer in self.writers:
            writer.advance(min(writer.mark, writer.durable))
            for n in range(writer.forgotten, writer.applied):
                writer.ops[n] = None
            writer.forgotten = writer.applied

    def make_writers(self):
        super().make_writers()
        for writer in self.writers:
            writer.forgotten = 0


def soak(args, seed, deadline):
    """Lives of one set of disks."""
    this = Soak(args, seed)
    print(f"seed {seed}: {this}", flush=True)
    crashed = False
    try:
        for _ in range(3):
            this.last_mode = this.mode
            this.start(crashed)
            left = deadline - time.monotonic()
            print("  " + this.life(min(args.life, max(left, 1))), flush=True)
            crashed = this.rng.random() < 0.7
            if crashed:
                this.crash()
            else:
                this.end()
            if time.monotonic() > deadline:
                break
        this.last_mode = this.mode
        this.start(crashed)
        this.end()
        this.ask_qemu()
    except BaseException:
        this.give_up()
        raise
    print("  " + ", ".join(f"{v} {k}" for k, v in this.figures.items()),
          flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--life", type=float, default=60)
    parser.add_argument("--qcow2ctl", default="qcow2ctl")
    parser.add_argument("--apply", default="nbd-apply-extents")
    parser.add_argument("--most", type=int, default=8, help="disks")
    parser.add_argument("--luks", action="store_true")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else \
        random.SystemRandom().randrange(10 ** 9)
    os.environ["MALLOC_ARENA_MAX"] = "1"
    deadline = time.monotonic() + args.minutes * 60
    while time.monotonic() < deadline:
        soak(args, seed, deadline)
        seed += 1


if __name__ == "__main__":
    main()
