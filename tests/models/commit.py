#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A commit that needs one flush, as core/write/commit.c and
core/alloc/ahead.c make it.

The file has two entries, the refcounts of three clusters, the bytes of these
clusters, its size, and a dirty bit.  What is written there is durable after the
next flush; until then each write may be on the disk or not, whatever became of
the others.  These run in every interleaving:

  two clients  each writes to its cluster of the disk, trims it, or flushes,
               in any order
  commits      take a copy of the entries and refcounts, write the refcounts,
               flush if they must, write the entries, flush, and release what
               the entries have let go; or fail at any step, once

A write takes a cluster that was never used, for which the file may have to
grow, or one that is free again; writes its bytes; and links it.  The entry of
a cluster is "fresh" if it is as good without its bytes: it was never used, in
a file of durable size, and zeros are what the disk had there.  An entry that
is not sets 'data first'.

Refcounts are written as 1 for up to AHEAD clusters that are free.  Once that
is durable these are "covered", and stay so until they are written as they
are.  Raising another one sets 'urgent'.  A commit with neither writes refcounts
and entries with one flush.  If the image is lazy no refcount is urgent as long
as the dirty bit is durable.  An exact commit covers nothing any more.  At the
end of a lazy image the bit is cleared; if that fails it may be gone or not, so
it is "in doubt", and clients go on.  In the kind "exact" nothing is covered.

Holds: whatever a crash leaves, each entry that names a cluster names one that
is in the file, that is counted (or the dirty bit is set), that no other entry
names if it is not counted twice, and whose bytes are what a client wrote there
since its last flush, or what that flush found."""
import itertools
import sys
from collections import namedtuple

ENTRIES, CLUSTERS, AHEAD, REQUESTS = 2, 2, 1, 3
BEGUN = 2                       # of a client that waits: its commit has
EMPTY, HIDDEN = "empty", "hidden"       # what is below shows; zeros do
ZEROS, BELOW, NOISE = "zeros", "below", "noise"

BUGS = {
    "an entry over a layer below is fresh": ("below", "any_entry"),
    "a cluster that was in use is fresh": ("", "any_cluster"),
    "an encrypted cluster is fresh": ("cipher", "any_cipher"),
    "the file's growth need not be durable": ("lazy", "any_size"),
    "no refcount is urgent": ("", "never_urgent"),
    "covered before it is durable": ("", "cover_early"),
    "a covered cluster that is free is written so": ("", "uncover"),
    "covered after an exact commit": ("", "keep_cover"),
    "a commit that fails forgets 'urgent'": ("", "lose_urgent"),
    "a commit that fails forgets 'data first'": ("below", "lose_data"),
    "a cluster is released before its entry is durable": ("", "early_free"),
    "lazy, and the dirty bit cleared with a commit": ("lazy", "clear_early"),
    "lazy without the dirty bit": ("lazy", "no_dirty"),
    "lazy, and the dirty bit may be gone": ("lazy", "trust_mark"),
    "nothing is covered, and no refcount is urgent":
        ("exact", "never_urgent"),
}

# Of the file: for each item what is durable, and what was written since.
# 'link': what a client is about to link; 'allowed': what it may find.
State = namedtuple("State", [
    "disk", "entries", "counts", "unlinked", "used", "durable_size",
    "covered", "urgent", "later", "data_first", "link", "waits", "allowed",
    "requests", "commit", "may_fail", "clean", "doubt"])
Commit = namedtuple("Commit", [
    "step", "entries", "counts", "unlinked", "covered", "urgent",
    "data_first", "one", "exact"])


def put(disk, item, value):
    durable, sent = disk[item]
    if value == durable and not sent or sent[-1:] == (value,):
        return disk
    disk = list(disk)
    disk[item] = (durable, tuple(v for v in sent if v != value) + (value,))
    return tuple(disk)


def flushed(disk):
    return tuple((sent[-1] if sent else durable, ())
                 for durable, sent in disk)


def values(disk, item):
    durable, sent = disk[item]
    return {durable, *sent}


def count_at(cluster):
    return ENTRIES + cluster


def bytes_at(cluster):
    return ENTRIES + CLUSTERS + cluster


SIZE = ENTRIES + 2 * CLUSTERS
DIRTY = SIZE + 1


def replaced(values_, i, value):
    new = list(values_)
    new[i] = value
    return tuple(new)


class Model:
    def __init__(self, kind, bug):
        self.kind, self.bug = kind, bug
        self.old = BELOW if kind == "below" else ZEROS

    def start(self):
        dirty = self.kind == "lazy" and self.bug != "no_dirty"
        disk = ((EMPTY, ()),) * ENTRIES + ((0, ()),) * CLUSTERS + \
            ((ZEROS, ()),) * CLUSTERS + ((0, ()), (dirty, ()))
        return State(disk, (EMPTY,) * ENTRIES, (0,) * CLUSTERS, (), 0, 0,
                     frozenset(), False, False, False, (None,) * ENTRIES,
                     (0,) * ENTRIES, (frozenset([self.old]),) * ENTRIES,
                     (0,) * ENTRIES, None, True, False, False)

    # ---- What a crash leaves

    def shown(self, entry, data):
        if entry == EMPTY:
            return self.old
        if entry == HIDDEN:
            return ZEROS
        return NOISE if data == ZEROS and self.kind == "cipher" else data

    def is_broken(self, s):
        clean = False in values(s.disk, DIRTY)
        for entries in itertools.product(*(values(s.disk, i)
                                           for i in range(ENTRIES))):
            for i, e in enumerate(entries):
                if e in (EMPTY, HIDDEN):
                    if self.shown(e, None) not in s.allowed[i]:
                        return True
                    continue
                if e >= min(values(s.disk, SIZE)):
                    return True
                if clean and entries.count(e) > min(values(s.disk,
                                                           count_at(e))):
                    return True
                if any(self.shown(e, d) not in s.allowed[i]
                       for d in values(s.disk, bytes_at(e))):
                    return True
        return False

    # ---- Clients

    def is_fresh(self, s, entry, cluster, used_before):
        return (self.kind != "cipher" or self.bug == "any_cipher") and \
            (not used_before or self.bug == "any_cluster") and \
            (cluster < s.durable_size or self.bug == "any_size") and \
            (entry == HIDDEN or self.kind != "below" or
             self.bug == "any_entry")

    def take(self, s, who, cluster, new):
        tag = (who, s.requests[who])
        disk = s.disk
        if new and cluster >= max(values(disk, SIZE)):
            disk = put(disk, SIZE, cluster + 2)
        # Of a free cluster the host may have anything.
        disk = put(disk, bytes_at(cluster), tag)
        pending = s.commit.covered if s.commit else frozenset()
        covered = cluster in s.covered or (
            self.bug == "cover_early" and cluster in pending)
        later = not covered and cluster in pending
        urgent = not covered and not later
        return s._replace(
            disk=disk, counts=replaced(s.counts, cluster, 1),
            used=s.used + new, urgent=s.urgent or urgent,
            later=s.later or later,
            link=replaced(s.link, who, (cluster, not new, tag)),
            allowed=replaced(s.allowed, who, s.allowed[who] | {tag}),
            requests=replaced(s.requests, who, s.requests[who] + 1))

    def linked(self, s, who):
        cluster, used_before, _ = s.link[who]
        old = s.entries[who]
        fresh = self.is_fresh(s, old, cluster, used_before) and \
            old in (EMPTY, HIDDEN)
        unlinked = s.unlinked if old in (EMPTY, HIDDEN) \
            else s.unlinked + (old,)
        return s._replace(entries=replaced(s.entries, who, cluster),
                          link=replaced(s.link, who, None),
                          unlinked=unlinked,
                          data_first=s.data_first or not fresh)

    def trimmed(self, s, who):
        old = s.entries[who]
        unlinked = s.unlinked if old in (EMPTY, HIDDEN) \
            else s.unlinked + (old,)
        return s._replace(
            entries=replaced(s.entries, who, HIDDEN), unlinked=unlinked,
            allowed=replaced(s.allowed, who, s.allowed[who] | {ZEROS}),
            requests=replaced(s.requests, who, s.requests[who] + 1))

    def clients(self, s):
        for who in range(ENTRIES):
            if s.waits[who]:
                continue
            if s.link[who] is not None:
                yield self.linked(s, who)
                continue
            if s.requests[who] == REQUESTS or s.clean:
                continue
            if s.used < CLUSTERS:
                yield self.take(s, who, s.used, True)
            for cluster in range(s.used):
                if s.counts[cluster] == 0:
                    yield self.take(s, who, cluster, False)
            if s.entries[who] not in (EMPTY, HIDDEN):
                yield self.trimmed(s, who)
            if s.allowed[who] != {self.old}:
                yield s._replace(
                    waits=replaced(s.waits, who, 1),
                    requests=replaced(s.requests, who, s.requests[who] + 1))

    # ---- Commits

    def gather(self, s, exact):
        used = [c for c in range(CLUSTERS) if s.counts[c] == 0]
        ahead = frozenset() if exact or self.kind in ("lazy", "exact") \
            else frozenset(used[:AHEAD]) | (s.covered & {
                c for c in range(CLUSTERS) if s.counts[c] > 0})
        written = tuple(
            1 if c in ahead and s.counts[c] == 0 and self.bug != "uncover"
            else s.counts[c] for c in range(CLUSTERS))
        dirty = not s.doubt or self.bug == "trust_mark"
        lazy = self.kind == "lazy" and dirty
        one = not s.data_first and (
            not s.urgent or lazy or self.bug == "never_urgent")
        covered = s.covered if self.bug == "keep_cover" \
            else s.covered & ahead
        return s._replace(
            commit=Commit("refcounts", s.entries, written, s.unlinked, ahead,
                          s.urgent, s.data_first, one, exact),
            covered=covered, urgent=False, data_first=False, unlinked=(),
            waits=tuple(BEGUN if w else 0 for w in s.waits))

    def failed(self, s):
        c = s.commit
        return s._replace(
            commit=None, may_fail=False, unlinked=c.unlinked + s.unlinked,
            later=False, waits=tuple(1 if w else 0 for w in s.waits),
            urgent=s.urgent or s.later or
            (c.urgent and self.bug != "lose_urgent"),
            data_first=s.data_first or
            (c.data_first and self.bug != "lose_data"))

    def durable(self, s):
        return s._replace(disk=flushed(s.disk),
                          durable_size=flushed(s.disk)[SIZE][0])

    def ended(self, s):
        """Its flush has been answered: only what it found is allowed."""
        waits, allowed = list(s.waits), list(s.allowed)
        for who in range(ENTRIES):
            if waits[who] == BEGUN:
                entry = s.entries[who]
                data = None if entry in (EMPTY, HIDDEN) \
                    else s.disk[bytes_at(entry)][0]
                waits[who], allowed[who] = 0, frozenset(
                    [self.shown(entry, data)])
        return s._replace(waits=tuple(waits), allowed=tuple(allowed))

    def free(self, s, clusters):
        counts = list(s.counts)
        for c in clusters:
            counts[c] = 0
        return s._replace(counts=tuple(counts))

    def written(self, s, first, values_):
        disk = s.disk
        for i, v in enumerate(values_):
            disk = put(disk, first + i, v)
        return s._replace(disk=disk)

    def cover(self, s):
        return s._replace(covered=s.covered | s.commit.covered, later=False)

    def commit(self, s):
        c = s.commit
        if c is None:
            for exact in (False, True):
                if any(s.waits) or exact:
                    yield self.gather(s, exact)
            return
        if s.may_fail:
            yield self.failed(s)
        if c.step == "refcounts":
            after = self.written(s, ENTRIES, c.counts)
            if self.bug == "early_free":
                after = self.free(after, c.unlinked)
            if self.bug == "clear_early" and c.exact:
                after = after._replace(disk=put(after.disk, DIRTY, False))
            yield after._replace(commit=c._replace(
                step="entries" if c.one else "flush refcounts"))
        elif c.step == "flush refcounts":
            yield self.cover(self.durable(s))._replace(
                commit=c._replace(step="entries"))
        elif c.step == "entries":
            yield self.written(s, 0, c.entries)._replace(
                commit=c._replace(step="flush"))
        elif c.step == "flush":
            after = self.free(self.cover(self.durable(s)), c.unlinked)
            yield self.ended(after)._replace(commit=None)

    def close(self, s):
        """The end of a lazy image, when all is durable."""
        if self.kind == "lazy" and s.commit is None and not s.urgent and \
                not s.unlinked and s.disk == flushed(s.disk) and \
                s.link == (None,) * ENTRIES and \
                s.entries == tuple(s.disk[i][0] for i in range(ENTRIES)):
            cleared = s._replace(disk=put(s.disk, DIRTY, False))
            yield cleared._replace(clean=True)
            if s.may_fail:
                yield cleared._replace(may_fail=False, doubt=True)

    def steps(self, s):
        yield from self.clients(s)
        yield from self.commit(s)
        yield from self.close(s)

    def explore(self):
        start = self.start()
        seen, todo = {start}, [start]
        while todo:
            s = todo.pop()
            if self.is_broken(s):
                return len(seen), s
            for n in self.steps(s):
                if n not in seen:
                    seen.add(n)
                    todo.append(n)
        return len(seen), None


def main():
    for kind in ("", "exact", "below", "cipher", "lazy"):
        states, broken = Model(kind, None).explore()
        if broken:
            sys.exit("%s: violated: %s" % (kind, broken))
        print("%s: holds in %d states" % (kind or "ahead", states))
    for text, (kind, bug) in BUGS.items():
        states, broken = Model(kind, bug).explore()
        if not broken:
            sys.exit("not caught in %d states: %s" % (states, text))
        print("caught after %d states: %s" % (states, text))


main()
