# SPDX-License-Identifier: BSD-3-Clause
"""Backups of disks that are in use, restored and compared, over and over.

restore_drill.py --folder DIR [--seed N] [--rounds N] [--most DISKS]
                 [--qcow2ctl PROGRAM] [--luks] -- NBDKIT -f --filter=FILE

A round is a random history of 1 to 8 disks of one server: clients write, all
disks get checkpoints, each is copied as docs/BACKUP.md says, and compared byte
for byte; the server is killed at any moment, opens the disks again, and the
backups go on.  What must hold:

- the snapshots of a checkpoint are one moment of all disks (drill_writers.py);
- a copy that gets the changes which a bitmap shows is the snapshot, as the
  server has it and as QEMU reads it;
- without a crash no more is shown than was written;
- what was acknowledged survives a crash; a checkpoint on its way is there or
  not, in each disk as a whole, and the snapshot's name tells.

It prints the seed of a round that fails; --seed SEED --rounds 1 repeats it, as
far as threads can be repeated.  To see it bite, have the server forget some
bits (track/track.c), or give the images of a transaction moments of their own
(edit/transact.c): test-mutants.sh does both.
"""

import argparse
import gc
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import nbd
from drill_backups import ADD, DISABLE, TAKE, Backup, Backups, Group
from drill_disks import Disk, Server, read_all, run, show, snapshot_names
from drill_writers import SECTOR, Chain, Part, RandomWriter, Wrong

RATE = 600
DEAD = (OSError, EOFError, nbd.Error, Wrong)


class Round(Backups):
    threads = 2, 4, 4, 16       # of a connection

    def __init__(self, args, seed):
        self.args, self.seed = args, seed
        self.rng = rng = random.Random(seed)
        self.folder = f"{args.folder}/round"
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(f"{self.folder}/images")
        count = min(rng.choice((1, 2, 2, 3, 3, 4, 6, 8)), args.most)
        luks = args.luks and rng.random() < 0.3
        compress = not luks and rng.random() < 0.15
        self.disks = [Disk(rng, n, self.folder, args.qcow2ctl, luks, compress)
                      for n in range(count)]
        self.backups = [Backup(disk, self.folder) for disk in self.disks]
        self.parameters = [f"dir={self.folder}/images",
                           f"qcow2-follow={self.folder}"]
        if any(disk.luks for disk in self.disks):
            self.parameters.append(f"qcow2-passphrase=+{self.folder}/secret")
        if compress:
            self.parameters.append("qcow2-compress=on")
        if rng.random() < 0.2:
            self.parameters.append("qcow2-detect-zeroes=unmap")
        self.contents = {d.number: d.first() for d in self.disks}
        self.writers, self.groups, self.holders = [], {}, []
        self.notes, self.begun = [], time.monotonic()
        self.next = 0
        self.unsure = None      # a group whose reply has not come
        self.server = self.qmp = None
        self.mode = "durable"
        self.figures = {"checkpoints": 0, "incremental": 0, "full": 0,
                        "kills": 0, "incomplete": 0, "copied": 0, "by qemu": 0}

    def __str__(self):
        return f"{show(self.parameters)}, " + \
            "; ".join(map(str, self.disks))

    def note(self, text):
        """For whoever wants to know what came before a failure."""
        self.notes.append(f"{time.monotonic() - self.begun:8.3f} {text}")

    def give_up(self):
        print("\n".join(self.notes[-30:]), file=sys.stderr)
        if self.server:
            print(f"the server: {self.server.log()[-4000:]}", file=sys.stderr)
            self.server.kill()

    # ---- A life of the server

    def start(self, crashed):
        self.mode = "lazy" if self.rng.random() < 0.15 else "durable"
        self.server = Server(
            self.args.command, ["-t", str(self.rng.choice(self.threads)),
                                "file", *self.parameters,
                                f"qcow2-bitmaps={self.mode}"], self.folder)
        self.qmp = self.server.qmp()
        # Some versions of nbdkit change only what a client has open.
        self.holders = [self.server.connect(d.name) for d in self.disks]
        self.note(f"life, {self.mode}, after a crash: {crashed}")
        if crashed:
            self.recover()
        if self.writers:
            self.look_again(crashed)
        self.make_writers()
        for writer in self.writers:
            writer.start()
        for backup in self.backups:
            self.settle(backup)

    def read(self, export):
        handle = self.server.connect(export)
        data = read_all(handle)
        handle.shutdown()
        return data

    def look_again(self, crashed):
        """What the last life has left."""
        self.contents = {d.number: bytearray(self.read(d.name))
                         for d in self.disks}
        for writer in self.writers:
            if crashed:
                writer.survived(self.contents)
            else:
                writer.prefix(self.contents, writer.acked, writer.acked)
        for group in self.groups.values():
            for disk in self.disks:
                if disk.number in group.digests and group.snapshot in \
                        snapshot_names(self.qmp, disk):
                    self.same(group, disk, self.read(
                        f"{disk.name}/snapshot/{group.snapshot}"), "again")

    def make_writers(self):
        rng, parts = self.rng, {}
        chains, randoms = rng.randrange(1, 3), rng.randrange(1, 3)
        for disk in self.disks:
            sectors = disk.size // SECTOR
            cuts = sorted(rng.sample(range(1, sectors // 16),
                                     chains + randoms - 1))
            cuts = [0, *(cut * 16 + rng.randrange(8) for cut in cuts), sectors]
            order = list(zip(cuts, cuts[1:]))
            rng.shuffle(order)
            # A chain needs room for a record.
            order.sort(key=lambda c: c[1] - c[0] < 8)
            parts[disk.number] = [
                Part(a * SECTOR, self.contents[disk.number][
                    a * SECTOR:b * SECTOR]) for a, b in order]
        self.writers = []

        # In all some hundreds of requests a second.
        pause = 2 * (chains + randoms * len(self.disks)) / RATE

        def connect(number):
            return self.server.connect(self.disks[number].name)

        def add(kind, owned, **more):
            number = self.rng.randrange(1 << 48)
            self.writers.append(kind(
                number, random.Random(number), connect, owned, pause,
                **more))

        for n in range(chains):
            add(Chain, {d: p[n] for d, p in parts.items()},
                fua=rng.random() < 0.5)
        for n in range(chains, chains + randoms):
            for number, mine in parts.items():
                add(RandomWriter, {number: mine[n]})
        for writer in self.writers:
            writer.mark = 0

    def work(self):
        """Let each write a little."""
        goals = [(w, w.acked + self.rng.randrange(2, 16))
                 for w in self.writers]
        for writer, goal in goals:
            writer.wait(goal)
            if writer.error:
                raise writer.error

    def note_touched(self, ends):
        for writer in self.writers:
            for backup in self.backups:
                backup.touched += writer.touched(
                    backup.disk.number, writer.mark, ends[writer])

    def live(self, checkpoints):
        for _ in range(checkpoints):
            self.work()
            self.checkpoint()

    def end(self):
        """Cleanly."""
        for writer in self.writers:
            writer.stop()
            if writer.error:
                raise writer.error
        self.note_touched({w: w.acked for w in self.writers})
        self.qmp.close()
        for handle in self.holders:
            handle.shutdown()
        self.server.stop()
        self.by_qemu_img("leaks" if self.figures["kills"] else "clean")

    def by_qemu_img(self, state, rate=0.5):
        # The first write repairs what a crash has left.
        for disk in self.disks:
            repaired = not self.figures["kills"] or any(
                w.has_written(disk.number) for w in self.writers)
            if self.rng.random() < rate:
                disk.check(state if repaired else "crash")

    def crash(self):
        """Killed somewhere in what goes on."""
        rng = self.rng
        self.work()
        delay = rng.random() * rng.choice((0.005, 0.05, 0.3))
        timer = threading.Timer(delay, self.server.kill)
        timer.start()
        try:
            while True:
                self.checkpoint()
                self.work()
        except DEAD:
            timer.join()
            try:
                self.server.process.wait(2)
            except subprocess.TimeoutExpired:
                pass
            if self.server.process.poll() is None:
                raise
        self.server.killed()
        self.note("killed")
        self.holders = []
        self.figures["kills"] += 1
        for writer in self.writers:
            writer.stop()
        self.qmp.close()
        for backup in self.backups:
            backup.exact = False
        self.by_qemu_img("crash")

    # ---- Checkpoints

    def actions(self, group, granularity):
        for backup in self.backups:
            node = backup.disk.name
            if backup.bitmap:
                yield DISABLE, {"node": node, "name": backup.bitmap}
            yield ADD, {"node": node, "name": group.bitmap,
                        "persistent": True, **granularity}
            yield TAKE, {"device": node, "name": group.snapshot}

    def checkpoint(self):
        group = self.unsure = Group(self.next)
        self.next += 1
        group.ended = {b.disk.number: b.bitmap for b in self.backups}
        group.granules = {b.disk.number: self.granule_of(b.disk, b.bitmap)
                          for b in self.backups}
        granularity = {}
        if self.rng.random() < 0.7:
            granularity = {"granularity": 1 << self.rng.randrange(9, 21)}
        first = {w: w.acked for w in self.writers}
        group.bounds = {w: (first[w], None) for w in self.writers}
        self.note(f"checkpoint {group.number}, ends {group.ended}")
        ended = set(group.ended.values())
        if len(ended) == 1 and self.rng.random() < 0.7:
            (old,) = ended
            names = [d.name for d in self.disks]
            self.rng.shuffle(names)
            self.qmp.ok("x-q2-checkpoint", nodes=names,
                        snapshot=group.snapshot, add=group.bitmap,
                        **granularity, **({"disable": old} if old else {}))
        else:
            self.qmp.ok("transaction", actions=[
                {"type": verb, "data": data}
                for verb, data in self.actions(group, granularity)])
        group.bounds = {w: (first[w], len(w.ops)) for w in self.writers}
        self.unsure = None
        self.note("taken")
        self.taken(group)
        for backup in self.backups:
            self.settle(backup)
        self.tidy()

    def taken(self, group):
        """All disks have it."""
        self.figures["checkpoints"] += 1
        self.groups[group.number] = group
        repeat = self.rng.random() < 0.15
        self.note_touched({w: group.bounds[w][1] for w in self.writers})
        for writer, (first, _last) in group.bounds.items():
            writer.durable = max(writer.durable, first)
            writer.mark = first
        for backup in self.backups:
            do = "merge" if repeat and backup.bitmap else "copy"
            old, exact = backup.bitmap, backup.exact
            backup.pending = (group, old, do, exact, max(
                backup.granule, group.granules[backup.disk.number]))
            backup.bitmap, backup.exact, backup.granule = group.bitmap, True, 0
        self.one_moment(group, self.disks)

    def granule_of(self, disk, name):
        for bitmap in self.qmp.ok("x-q2-query-bitmaps", device=disk.name):
            if bitmap["name"] == name:
                return bitmap["granularity"]
        return 0

    # ---- All of it

    def history(self):
        crashed = False
        for _ in range(self.rng.randrange(2, 4)):
            self.last_mode = self.mode
            self.start(crashed)
            self.live(self.rng.randrange(3))
            crashed = self.rng.random() < 0.75
            if crashed:
                self.crash()
            else:
                self.end()
            self.ask_qemu()
        self.last_mode = self.mode
        self.start(crashed)
        self.live(1)
        self.end()
        self.ask_qemu()
        for disk in self.disks:
            run(self.args.qcow2ctl, "check", "-q", "-r", "leaks", disk.path)
        self.by_qemu_img("clean", 1)
        self.ask_qemu()

    def ask_qemu(self):
        """Of all snapshots that it finds, one."""
        found = [(g, d) for g in self.groups.values() for d in self.disks
                 if d.number in g.digests]
        self.rng.shuffle(found)
        for group, disk in found:
            if group.snapshot in disk.snapshots_by_qemu():
                self.figures["by qemu"] += 1
                self.same(group, disk, disk.by_qemu(
                    group.snapshot, f"{self.folder}/qemu"), "from QEMU")
                return


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=8, help="disks")
    parser.add_argument("--qcow2ctl", default="qcow2ctl")
    parser.add_argument("--apply", default="nbd-apply-extents")
    parser.add_argument("--luks", action="store_true")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else \
        random.SystemRandom().randrange(10 ** 9)
    total, begun, done = {}, time.monotonic(), 0
    for n in range(args.rounds):
        this = None
        try:
            this = Round(args, seed + n)
            this.history()
        except BaseException:
            print(f"seed {seed + n}: {this}", file=sys.stderr)
            if this:
                this.give_up()
            raise
        this.server = None
        gc.collect()            # writers, and what they wrote
        done += 1
        for name, value in this.figures.items():
            total[name] = total.get(name, 0) + value
    shutil.rmtree(f"{args.folder}/round", ignore_errors=True)
    print(f"seeds {seed} to {seed + done - 1}: {done} rounds in "
          f"{time.monotonic() - begun:.0f} s, " +
          ", ".join(f"{value} {name}" for name, value in total.items()))


if __name__ == "__main__":
    main()
