# SPDX-License-Identifier: BSD-3-Clause
"""Backups of disks that are in use, as docs/BACKUP.md says: how one is made,
and how they go on after a crash.  For restore_drill.py."""

import hashlib

import nbd
from drill_disks import bitmap_flags, extents, run, show, snapshot_names
from drill_writers import SECTOR, Wrong

ADD = "block-dirty-bitmap-add"
DISABLE = "block-dirty-bitmap-disable"
MERGE = "block-dirty-bitmap-merge"
REMOVE = "block-dirty-bitmap-remove"
TAKE = "blockdev-snapshot-internal-sync"
DELETE = "blockdev-snapshot-delete-internal-sync"


class Backup:
    """The backup of one disk, and what its next one needs."""

    def __init__(self, disk, folder):
        self.disk = disk
        self.path = f"{folder}/copy{disk.number}"
        self.have = False
        self.bitmap = None      # that is enabled
        self.exact = True       # it has not met a crash
        self.granule = 0        # the largest of those that went into it
        self.touched = []       # since the last backup
        self.pending = None     # (group, the bitmap that ended, what to do)

    def begin(self):
        """From now on a full backup is needed."""
        self.have, self.bitmap = False, None


class Group:
    """A checkpoint of all disks."""

    def __init__(self, number):
        self.number, self.snapshot = number, f"s{number}"
        self.bitmap = f"b{number}"
        self.bounds = {}        # writer -> (first, last)
        self.digests = {}       # disk -> of its snapshot
        self.ended = {}         # disk -> the bitmap that ended
        self.granules = {}      # disk -> of that bitmap


class Backups:
    """What a Round does about the backups of its disks."""

    def one_moment(self, group, disks):
        """The snapshots of a group are the disks at one moment."""
        data = {}
        for disk in disks:
            data[disk.number] = self.read(
                f"{disk.name}/snapshot/{group.snapshot}")
            group.digests[disk.number] = hashlib.sha256(
                data[disk.number]).digest()
        for writer, (first, last) in group.bounds.items():
            if any(number in data for number in writer.disks):
                writer.prefix(data, first, last)

    def same(self, group, disk, data, who):
        if hashlib.sha256(data).digest() != group.digests[disk.number]:
            raise Wrong(f"{disk}: {group.snapshot} is another one, {who}")

    def command(self, verb, **arguments):
        self.note(f"{verb} {show(arguments)}")
        reply = self.qmp.command(verb, **arguments)
        if "error" in reply:
            raise Wrong(f"{verb} {arguments}: {reply}")

    def settle(self, backup):
        """Whatever the last checkpoint has left to be done; again, if the
        server was killed meanwhile."""
        if backup.pending is None:
            return
        group, old, do, exact, granule = backup.pending
        disk = backup.disk
        if do == "copy":
            self.copy(backup, group, old, exact, granule)
            backup.touched = [t for w in self.writers
                              for t in w.touched(disk.number, w.mark,
                                                 len(w.ops))]
            backup.pending = None
            if old and self.rng.random() < 0.8:
                self.command(REMOVE, node=disk.name, name=old)
        else:
            if group.snapshot in snapshot_names(self.qmp, disk):
                self.command(DELETE, device=disk.name, name=group.snapshot)
            if old in bitmap_flags(self.qmp, disk):
                self.command(MERGE, node=disk.name, target=backup.bitmap,
                             bitmaps=[old])
                self.command(REMOVE, node=disk.name, name=old)
            backup.exact = backup.exact and exact
            backup.granule = max(backup.granule, granule)
        backup.pending = None

    def copy(self, backup, group, old, exact, granule):
        disk = backup.disk
        self.note(f"copy {group.snapshot} of {disk.name}, {old}, {exact}")
        name = f"{disk.name}/snapshot/{group.snapshot}"
        data = self.read(name)
        self.same(group, disk, data, "from the server")
        if old is None or not backup.have:
            with open(backup.path, "wb") as file:
                file.write(data)
            backup.have = True
            self.figures["full"] += 1
        else:
            self.apply(backup, f"{disk.name}/bitmap/{old}@{group.snapshot}",
                       exact, granule)
        with open(backup.path, "rb") as file:
            copied = file.read()
        if copied != data:
            at = next(i for i in range(0, disk.size, SECTOR)
                      if copied[i:i + SECTOR] != data[i:i + SECTOR])
            raise Wrong(f"{disk}: the copy of {group.snapshot} with {old} "
                        f"differs at {at}")
        if self.rng.random() < 0.15:
            self.figures["by qemu"] += 1
            self.same(group, disk, disk.by_qemu(
                group.snapshot, f"{self.folder}/qemu", True), "from QEMU")

    def apply(self, backup, export, exact, granule):
        handle = self.server.connect(export)
        shown = [e for e in extents(handle) if not e[2] & nbd.STATE_HOLE]
        if exact:
            self.no_more(backup, shown, granule)
        if self.rng.random() < 0.1:
            uri = f"nbd+unix:///{export.replace('/', '%2F')}?socket=" + \
                self.server.sock
            run(self.args.apply, "--quiet", uri, backup.path)
        else:
            with open(backup.path, "r+b") as file:
                for offset, length, flags in shown:
                    file.seek(offset)
                    file.write(bytes(length) if flags & nbd.STATE_ZERO
                               else handle.pread(length, offset))
        handle.shutdown()
        self.figures["incremental"] += 1
        self.figures["copied"] += sum(length for _at, length, _f in shown)

    def no_more(self, backup, shown, granule):
        touched = set()
        for offset, count in backup.touched:
            touched.update(range(offset // granule,
                                 (offset + count - 1) // granule + 1))
        for offset, length, _flags in shown:
            for at in range(offset // granule,
                            (offset + length - 1) // granule + 1):
                if at not in touched:
                    raise Wrong(f"{backup.disk}: granule {at} of {granule} "
                                "is shown, and nobody wrote there")

    # ---- After a crash

    def recover(self):
        group, self.unsure = self.unsure, None
        have = {d.number: snapshot_names(self.qmp, d) for d in self.disks}
        flags = {d.number: bitmap_flags(self.qmp, d) for d in self.disks}
        for known in self.groups.values():
            if len(known.digests) < len(self.disks):
                self.one_moment(known, self.disks)
        if group:
            self.complete(group, have, flags)
        for backup in self.backups:
            flags = bitmap_flags(self.qmp, backup.disk)
            names = [backup.bitmap] if backup.bitmap else []
            if backup.pending and backup.pending[2] == "copy" and \
                    backup.pending[1]:
                names.append(backup.pending[1])
            for name in names:
                if name not in flags:
                    raise Wrong(f"{backup.disk} has lost {name}: {flags}")
            self.in_use(backup, flags)

    def in_use(self, backup, flags):
        """With lazy bitmaps a crash costs those that were enabled."""
        name = backup.bitmap
        if name is None or "in-use" not in flags[name]:
            return
        if self.last_mode != "lazy":
            raise Wrong(f"{backup.disk}: {name} is in use: {flags}")
        self.command(REMOVE, node=backup.disk.name, name=name)
        backup.begin()
        if backup.pending and backup.pending[2] == "merge":
            self.command(REMOVE, node=backup.disk.name,
                         name=backup.pending[1])
            backup.pending = None

    def complete(self, group, have, flags):
        """A checkpoint without an answer: which disks have it?"""
        there = []
        for disk in self.disks:
            n, old = disk.number, group.ended[disk.number]
            has = group.snapshot in have[n]
            if has != (group.bitmap in flags[n]) or \
                    (old and has == ("auto" in flags[n][old])):
                raise Wrong(f"{disk}: half of {group.snapshot}: {have[n]}, "
                            f"{flags[n]}")
            if has:
                there.append(disk)
        group.bounds = {w: (first, len(w.ops))
                        for w, (first, _last) in group.bounds.items()}
        if len(there) == len(self.disks):
            self.taken(group)
            for backup in self.backups:
                backup.exact = False
            return
        if there:
            self.figures["incomplete"] += 1
            self.one_moment(group, there)
        for disk in there:
            self.undo(self.backups[disk.number], group)

    def undo(self, backup, group):
        """As docs/BACKUP.md says."""
        node, old = backup.disk.name, backup.bitmap
        self.command(DELETE, device=node, name=group.snapshot)
        if old is None:         # there was no backup yet
            self.command(REMOVE, node=node, name=group.bitmap)
            return
        if "in-use" not in bitmap_flags(self.qmp, backup.disk)[group.bitmap]:
            self.command(MERGE, node=node, target=group.bitmap, bitmaps=[old])
        self.command(REMOVE, node=node, name=old)
        backup.bitmap = group.bitmap

    # ---- Old ones

    def tidy(self):
        for group in list(self.groups.values())[:-1]:
            if self.rng.random() < 0.7:
                self.drop(group)
        for group in list(self.groups.values())[:-3]:
            self.drop(group)
        if self.rng.random() < 0.2 and self.groups:
            self.drop(list(self.groups.values())[-1])

    def drop(self, group):
        for disk in self.disks:
            if group.snapshot in snapshot_names(self.qmp, disk):
                self.command(DELETE, device=disk.name, name=group.snapshot)
            needed = [b.bitmap for b in self.backups]
            for name in bitmap_flags(self.qmp, disk):
                if name not in needed and self.rng.random() < 0.5:
                    self.command(REMOVE, node=disk.name, name=name)
        del self.groups[group.number]
