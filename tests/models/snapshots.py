#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A snapshot that is taken in pieces while guests write.

The disk has one L2 table, T, with an entry for cluster X.  There are memory
(the L1 entry, tables and refcounts, as writers see them) and the file.  Each
place of the file has a current value; a crash leaves that one, or any other
that was there since the last flush.  These run in every interleaving:

  writer       writes 1, then 2, to a guest cluster that holds 0
  snapshotter  takes a snapshot, or gives it up
  flusher      commits whenever there is something to commit
  releaser     lowers the refcounts of what commits have let go

The writer writes in place if the L1 entry and the L2 entry are COPIED.  If the
L1 entry is not, it copies the table first.  If that table was captured, and is
not shared yet, it shares it before: it raises the refcounts of the table and
of what the table names.  If the L2 entry is not COPIED it takes a new cluster.
It may fail to share a table.  Then the snapshot is not taken, and the disk has
the table back, with the COPIED flag.

The snapshotter captures the L1 entry while nobody is inside the gate, in
memory only, and takes the COPIED flag from it.  Then guests go on.  It commits
("settle"): from now on the file has the captured table, which nobody changes
any more.  It shares the table unless the writer has.  It reads the table from
the file, and writes it back without COPIED flags.  It commits again, and names
the snapshot in the header.  To give up, it lowers what was raised for a table
that is shared; one that is not the disk has back.

Steps are joined if what others do between them cannot make it worse: a cluster
is taken in the moment in which it is filled, and the gate closes (gate.py) in
the moment of the capture.

Properties of each state that a crash may leave:

SNAP-1  if the header names the snapshot, it reads as the disk when it was
        captured; an older one, which has the same table, reads as before
SNAP-2  no refcount of the file is lower than the references
SNAP-3  nothing that two trees use is COPIED, nor, if the header names the
        snapshot, anything that has a refcount above 1
SNAP-4  the disk reads as what was durable, or as what was written later

and of each state:

FREE    nothing that is free in memory is named: not by any state that a crash
        may leave, not by the disk in memory, not by what is captured
LIVE    the disk reads as what was written last
COUNT   while nobody is in the middle of it, refcounts in memory equal the
        references, together with those that are let go and not lowered yet
STUCK   nobody waits for ever

Variants are planted bugs; each must violate what VARIANTS says:

no_share          the writer copies a captured table, and does not share it
late_share        it shares the table when the copy has replaced it
no_second_look    it does not look, with the lock, if sharing has ended
keep_flags        it copies the COPIED flags, too
no_settle         the snapshotter does not commit before it reads the table
early_publish     it does not commit before it names the snapshot
keep_l1_flag      it leaves the L1 entry COPIED
keep_entry_flags  it leaves the L2 entry COPIED
no_gate           it captures while the writer is inside
unlocked_share    both look, without a lock, whether the table is shared
unlocked_give_up  it gives up while the writer is sharing the table
ignore_failure    it shares a table that the writer has failed to share
"""
import functools
import gc
import itertools
import sys
from collections import namedtuple

VARIANTS = {
    "no_share": {"FREE"},
    "late_share": {"FREE"},
    "no_second_look": {"COUNT"},
    "keep_flags": {"SNAP-1", "SNAP-3"},
    "no_settle": {"SNAP-1", "SNAP-3"},
    "early_publish": {"SNAP-2", "SNAP-3"},
    "keep_l1_flag": {"SNAP-1", "SNAP-3"},
    "keep_entry_flags": {"SNAP-3"},
    "no_gate": {"SNAP-1"},
    "unlocked_share": {"COUNT"},
    "unlocked_give_up": {"COUNT"},
    "ignore_failure": {"SNAP-1"},
}
# In the others nobody gives up or fails: what is planted there is to be found
# without that.
MAY_FAIL = ("ok", "no_second_look", "unlocked_give_up", "ignore_failure")

# Of a table; and which of them each write changes.  It holds, too, with two
# entries, for writes to both or to one, and for three writes: in a minute.
ENTRIES = 1
WRITES = (0, 0)

# Clusters have numbers: T, a copy of it for each write, those that T names,
# and new ones, for each write.  None is used again: FREE says if it could do
# harm.  An entry is a cluster and whether it is COPIED.
T, X = 0, 1 + len(WRITES)
CLUSTERS = X + ENTRIES + len(WRITES)
NOTHING = -1                    # neither a cluster nor data

NO, YES, FAILED = range(3)      # whether the captured table is shared

# Places in the file.  Those of the data of cluster c: DATA + c.
HEADER, L1, TABLES = 0, 1, 2
COUNTS = TABLES + X * ENTRIES
DATA = COUNTS + CLUSTERS - X

State = namedtuple("State", [
    "l1", "tables", "dirty", "counts",  # in memory
    "file",
    "unlinked", "pending",      # let go: not committed yet, and committed
    "commit",                   # the one that is running
    "inside",                   # the writer is inside the gate
    "sharing",                  # a snapshot is being taken
    "lock", "shared",           # NO, YES or FAILED
    "captured",                 # table, entries, values, whether COPIED
    "older",                    # there is an older snapshot of T
    "written", "durable",       # values, by entry
    "writer", "nr", "place",    # where it is; number of its write
    "snap", "piece"])           # where the snapshotter is

Commit = namedtuple("Commit", [
    "owner", "pc", "l1", "tables", "unlinked", "counts", "written"])

SHARING = {"share"} | {f"raise{i}" for i in range(ENTRIES + 1)}

# Where refcounts are as they should be.
SETTLED = {"begin", "share", "copy", "take", "place", "end", "settle", "read",
           "clear", "commit", "publish", "flush", "gave up"}


def replaced(values, i, value):
    return values[:i] + (value,) + values[i + 1:]


def plus(counts, cluster, n):
    return replaced(counts, cluster, counts[cluster] + n)


# ---- The file ------------------------------------------------------------

def places_of(table):
    return range(TABLES + table * ENTRIES, TABLES + (table + 1) * ENTRIES)


class File:
    """What each place may hold, the current value first.  What is equal is
    the same object, so that states are compared fast."""

    known = {}

    def __init__(self, places):
        self.places = places

    @classmethod
    def of(cls, places):
        return cls.known.setdefault(places, cls(places))

    @functools.lru_cache(None)
    def put(self, *changes):
        places = list(self.places)
        for place, value in changes:
            others = {*places[place]} - {value}
            places[place] = (value, *sorted(others))
        return self.of(tuple(places))

    def put_table(self, table, entries):
        return self.put(*zip(places_of(table), entries))

    @functools.lru_cache(None)
    def flush(self):
        return self.of(tuple(p[:1] for p in self.places))

    @functools.lru_cache(None)
    def has(self, *values):
        """These are current, and everything is flushed."""
        return all(len(p) == 1 for p in self.places) and \
            all(self.places[p] == (v,) for p, v in values)


# ---- Properties ----------------------------------------------------------

def crashes(places, captured, older):
    """What may be left: whether the header names the snapshot, the L1 entry,
    and the tables in use."""
    for header, l1 in itertools.product(places[HEADER], places[L1]):
        used = {l1[0], T if older else l1[0], captured[0] if header else l1[0]}
        for tables in itertools.product(*(
                itertools.product(*(places[p] for p in places_of(t)))
                for t in used)):
            yield header, l1, dict(zip(used, tables))


@functools.lru_cache(None)
def after_crash(file, captured, older, durable, free):
    places = file.places
    broken = set()
    for header, l1, tables in crashes(places, captured, older):
        refs = [0] * CLUSTERS
        disks = [(l1[0], None)]
        if older:
            disks.append((T, (0,) * ENTRIES))
        if header:
            disks.append((captured[0], captured[2]))
        for table, values in disks:
            refs[table] += 1
            for e, (c, _) in enumerate(tables[table]):
                if c == NOTHING:
                    broken.add("SNAP-1" if values else "SNAP-4")
                    continue
                refs[c] += 1
                if values and places[DATA + c] != (values[e],):
                    broken.add("SNAP-1")
                if not values and min(places[DATA + c]) < durable[e]:
                    broken.add("SNAP-4")
        for c in range(CLUSTERS):
            if min(places[COUNTS + c]) < refs[c]:
                broken.add("SNAP-2")
            if refs[c] and free >> c & 1:
                broken.add("FREE")
        for c, copied in itertools.chain([l1], *tables.values()):
            if copied and (refs[c] > 1 or
                           header and max(places[COUNTS + c]) > 1):
                broken.add("SNAP-3")
    return broken


def references(s):
    """In memory, together with those that are let go and not lowered yet."""
    refs = [0] * CLUSTERS
    tables = [s.l1[0]]
    if s.older:
        tables.append(T)
    if s.shared == YES and (s.sharing or s.snap == "end"):
        tables.append(s.captured[0])
    for t in tables:
        refs[t] += 1
        for c, _ in s.tables[t]:
            refs[c] += 1
    for c in s.unlinked + s.pending + (s.commit.unlinked if s.commit else ()):
        refs[c] += 1
    return tuple(refs)


def in_memory(s, free):
    named = [s.l1, *s.tables[s.l1[0]]]
    if s.sharing and s.shared != FAILED or s.snap == "end":
        named += [s.captured, *s.captured[1]]
    if free and any(free >> entry[0] & 1 for entry in named):
        yield "FREE"
    for e, (c, _) in enumerate(s.tables[s.l1[0]]):
        value = s.file.places[DATA + c][0]
        if value != s.written[e]:
            yield "LIVE"
    if s.writer in SETTLED and s.snap in SETTLED and references(s) != s.counts:
        yield "COUNT"


def violated(s, last):
    free = sum(1 << c for c, n in enumerate(s.counts) if n <= 0)
    broken = {*after_crash(s.file, s.captured, s.older, s.durable, free),
              *in_memory(s, free)}
    if last and (s.writer != "end" or s.snap not in ("end", "gave up")):
        broken.add("STUCK")
    return broken


# ---- Commits -------------------------------------------------------------

def commit(s, owner, **afterwards):
    """The next step of the commit of one of them, as in core/write/commit.c;
    'afterwards' is what changes at its end."""
    c = s.commit
    if c is None:               # step 1: entries first, then refcounts
        tables = tuple((t, s.tables[t]) for t in range(X) if s.dirty >> t & 1)
        return s._replace(dirty=0, unlinked=(), commit=Commit(
            owner, "counts", s.l1, tables, s.unlinked, None, s.written))
    if c.owner != owner:
        return None
    if c.pc == "counts":
        return s._replace(commit=c._replace(pc="2a", counts=s.counts))
    if c.pc == "2a":
        return s._replace(file=s.file.put(*enumerate(c.counts, COUNTS)),
                          commit=c._replace(pc="flush", counts=None))
    if c.pc == "flush":
        return s._replace(file=s.file.flush(), commit=c._replace(pc="3"))
    if c.pc == "3":
        entries = [e for t in c.tables for e in zip(places_of(t[0]), t[1])]
        file = s.file.put(*entries, (L1, c.l1))
        if file is not s.file:
            return s._replace(file=file, commit=c._replace(
                pc="flush 3", l1=None, tables=None))
    return s._replace(file=s.file if c.pc == "3" else s.file.flush(),
                      commit=None,
                      durable=tuple(map(max, s.durable, c.written)),
                      pending=tuple(sorted(s.pending + c.unlinked)),
                      **afterwards)


def flusher(s, _):
    if s.commit is None and not s.dirty and not s.unlinked and \
            s.file.has((L1, s.l1), *enumerate(s.counts, COUNTS)):
        return None
    return commit(s, "flusher")


def releaser(s, _):
    if not s.pending:
        return None
    return s._replace(pending=s.pending[1:],
                      counts=plus(s.counts, s.pending[0], -1))


# ---- Sharing -------------------------------------------------------------

def share(s, pc, variant):
    """What the next step is ("": this was the last one), and what changes."""
    if pc == "share":
        if s.lock:
            return None
        if s.shared == YES or s.shared == FAILED and \
                variant != "ignore_failure" or \
                not s.sharing and variant != "no_second_look":
            return "", {}
        return "raise0", {"lock": variant != "unlocked_share"}
    i = int(pc[5:])
    if i < ENTRIES:
        return f"raise{i + 1}", {
            "counts": plus(s.counts, s.captured[1][i][0], 1)}
    return "", {"counts": plus(s.counts, s.captured[0], 1), "shared": YES,
                "lock": False}


def regain(s):
    """The L1 entry, if the disk has the table back that is not shared."""
    table, _, _, copied = s.captured
    if s.shared != YES and s.l1[0] == table:
        return table, copied
    return s.l1


def fail(s, variant):
    """What the writer may do instead of sharing the table."""
    if s.writer != "share" or s.lock or s.shared or not s.sharing or \
            variant not in MAY_FAIL:
        return None
    s = s._replace(shared=FAILED, l1=regain(s))
    return look(s) if s.l1[1] else s._replace(writer="copy")


# ---- The writer ----------------------------------------------------------

def enter(s, variant):
    s = s._replace(inside=True)
    table, copied = s.l1
    if copied:
        return look(s)
    if s.sharing and table == s.captured[0] and \
            variant not in ("no_share", "late_share"):
        return s._replace(writer="share")
    return s._replace(writer="copy")


def look(s):
    """The table is the disk's own."""
    c, copied = s.tables[s.l1[0]][WRITES[s.nr]]
    return s._replace(writer="place", place=c) if copied \
        else s._replace(writer="take")


def copy_table(s, variant):
    old, new = s.l1[0], 1 + s.nr
    if s.writer == "copy":
        entries = tuple((c, copied and variant == "keep_flags")
                        for c, copied in s.tables[old])
        return s._replace(writer="own", counts=plus(s.counts, new, 1),
                          file=s.file.put_table(new, entries),
                          tables=replaced(s.tables, new, entries))
    s = s._replace(l1=(new, True), unlinked=s.unlinked + (old,))
    if variant == "late_share" and s.sharing and old == s.captured[0]:
        return s._replace(writer="share")
    return look(s)


def write_new(s):
    table, new = s.l1[0], X + ENTRIES + s.nr
    if s.writer == "take":
        return s._replace(writer="link", counts=plus(s.counts, new, 1),
                          file=s.file.put((DATA + new, s.nr + 1)))
    entry = WRITES[s.nr]
    old = s.tables[table][entry][0]
    entries = replaced(s.tables[table], entry, (new, True))
    return leave(s._replace(tables=replaced(s.tables, table, entries),
                            dirty=s.dirty | 1 << table,
                            unlinked=s.unlinked + (old,)))


def leave(s):
    nr = s.nr + 1
    return s._replace(inside=False, place=None, nr=nr,
                      writer="begin" if nr < len(WRITES) else "end",
                      written=replaced(s.written, WRITES[s.nr], nr))


def writer(s, variant):
    if s.writer == "begin":
        return enter(s, variant)
    if s.writer in SHARING:
        following = share(s, s.writer, variant)
        if following is None:
            return None
        pc, changes = following
        s = s._replace(writer=pc or "copy", **changes)
        return look(s) if not pc and s.l1[1] else s
    if s.writer in ("copy", "own"):
        return copy_table(s, variant)
    if s.writer in ("take", "link"):
        return write_new(s)
    if s.writer == "place":
        return leave(s._replace(file=s.file.put((DATA + s.place, s.nr + 1))))
    return None


# ---- The snapshotter -----------------------------------------------------

def capture(s, variant):
    if s.inside and variant != "no_gate":
        return None
    table, copied = s.l1
    entries = s.tables[table]
    values = tuple(s.file.places[DATA + c][0] for c, _ in entries)
    return s._replace(snap="share" if variant == "no_settle" else "settle",
                      sharing=True, captured=(table, entries, values, copied),
                      l1=(table, copied and variant == "keep_l1_flag"))


def clear_flags(s, variant):
    table = s.captured[0]
    if s.snap == "read":
        piece = tuple((s.file.places[p][0][0], False)
                      for p in places_of(table))
        return s._replace(snap="commit") if variant == "keep_entry_flags" \
            else s._replace(snap="clear", piece=piece)
    return s._replace(
        snap="publish" if variant == "early_publish" else "commit",
        file=s.file.put_table(table, s.piece), piece=None)


def snapshotter(s, variant):
    if s.snap == "begin":
        return capture(s, variant)
    if s.snap == "settle":
        return commit(s, "snapshotter", snap="share")
    if s.snap in SHARING:
        if s.shared == FAILED and variant != "ignore_failure":
            return s._replace(snap="gave up", sharing=False)
        following = share(s, s.snap, variant)
        return following and s._replace(snap=following[0] or "read",
                                        **following[1])
    if s.snap in ("read", "clear"):
        return clear_flags(s, variant)
    if s.snap == "commit":
        return commit(s, "snapshotter", snap="publish")
    if s.snap == "publish":
        return s._replace(snap="flush", file=s.file.put((HEADER, True)))
    if s.snap == "flush":
        return s._replace(snap="end", file=s.file.flush(), sharing=False)
    return None


def give_up(s, variant):
    """What the snapshotter may do instead."""
    if s.snap in ("settle", "read", "publish"):
        if variant not in MAY_FAIL or \
                s.commit and s.commit.owner == "snapshotter" or \
                s.lock and variant != "unlocked_give_up":
            return None
        return s._replace(snap="lower0" if s.shared == YES else "gave up",
                          sharing=False, l1=regain(s))
    if s.snap[:5] != "lower":
        return None
    i = int(s.snap[5:])
    if i < ENTRIES:
        return s._replace(snap=f"lower{i + 1}",
                          counts=plus(s.counts, s.captured[1][i][0], -1))
    return s._replace(snap="gave up", shared=NO,
                      counts=plus(s.counts, s.captured[0], -1))


# ---- The walk ------------------------------------------------------------

def start(older, owned, copied):
    used = (T, *range(X, X + ENTRIES))
    zeros = (0,) * ENTRIES
    tables = (tuple((c, copied) for c in used[1:]),) + \
        (((NOTHING, False),) * ENTRIES,) * len(WRITES)
    counts = tuple((1 + older) * (c in used) for c in range(CLUSTERS))
    places = (False, (T, owned), *itertools.chain(*tables), *counts, *zeros,
              *(NOTHING for _ in WRITES))
    return State(l1=(T, owned), tables=tables, dirty=0, counts=counts,
                 file=File.of(tuple((value,) for value in places)),
                 unlinked=(), pending=(), commit=None, inside=False,
                 sharing=False, lock=False, shared=NO, captured=None,
                 older=older, written=zeros, durable=zeros, writer="begin",
                 nr=0, place=None, snap="begin", piece=None)


# Also with flags that a crash has left.
STARTS = [start(False, owned, copied) for owned in (True, False)
          for copied in (True, False)] + [start(True, False, False)]


def run(variant, enough):
    """Walk until that is violated.  Returns the number of states, what was
    violated, and the states that lead to it."""
    before = dict.fromkeys(STARTS)
    todo = list(STARTS)
    broken = set()
    for s in todo:
        following = [thread(s, variant) for thread in (
            writer, fail, snapshotter, give_up, flusher, releaser)]
        following = [n for n in following if n is not None]
        found = violated(s, not following)
        if found:
            broken |= found
            if enough <= broken:
                return len(before), broken, s, before
        for n in following:
            if n not in before:
                before[n] = s
                todo.append(n)
    return len(before), broken, None, before


def tell(s, before):
    """How it came to that state: what each step has changed."""
    if before[s] is None:
        print(f"  {s}, {s.file.places}")
        return
    tell(before[s], before)
    old = before[s]
    print("  " + ", ".join(
        f"{name} = {value.places if name == 'file' else value}"
        for name, value, was in zip(State._fields, s, old) if value != was))


def main():
    gc.disable()                # there are no cycles
    states, broken, at, before = run("ok", set())
    print(f"ok: {states} states, violated: "
          f"{', '.join(sorted(broken)) or 'nothing'}")
    failed = bool(broken)
    if failed:
        tell(at, before)
    for variant, wanted in VARIANTS.items():
        states, broken, _, _ = run(variant, wanted)
        print(f"{variant}: {states} states, violated: "
              f"{', '.join(sorted(broken)) or 'nothing'}")
        failed |= not wanted <= broken
    return failed


if __name__ == "__main__":
    sys.exit(main())
