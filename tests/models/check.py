#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A check, or a repair of leaks, of an image while guests write and while it
is edited (core/edit/live_check.c; LIVE-1 and LIVE-2 in docs/ORDERING.md).

The disk has one L2 table with two entries.  Two more ways lead to clusters:
snapshots, bitmaps.  There are memory and the file.  A refcount may be too
high, or too low, from the beginning.  These run in every interleaving:

  guest     inside the gate, and in flight: takes a free cluster, links it or
            gives it back, leaves.  Or it writes in place, if the entry is
            COPIED; or drops what an entry has.  It copies the table first if
            that is not the disk's own
  flusher   commits whenever there is something to commit, or somebody waits
            for that.  Then what was let go is a batch
  releaser  has a batch in hand if all have left that were in flight when it
            was made, and lowers the refcounts
  editor    takes a snapshot beside changes: it raises refcounts, one by one,
            ahead of the references.  Or, with the gate closed, it moves a
            reference from one way to another
  checker   some rounds: watch, drain, count, judge; in a repair it sets the
            COPIED flag of an entry that is alone then

The first walk is left out: all clusters are suspects.  What a walk finds by
itself is only which clusters are judged, and each is judged for itself.

Steps are joined if what others do between them cannot make it worse.  The gate
closes in one moment (gate.py).  A guest finds its entry and takes a cluster in
one; linking has two, under link_lock: the entry changes, then that is told.
A snapshot is captured when its edit begins; the table is shared by whoever
comes to it (snapshots.py), without a lock.

Properties of each state:

LEAK     a leak is found only if a refcount is more than the references, with
         those that are let go, or taken, and still count
LOW      a refcount is found to be too low only if it is
REF      no refcount in memory is lower than the references, with those
CRASH    nor is one that a crash may leave lower than those that it may leave
FREE     nothing that is free in memory is named by what a crash may leave
FLAG     unless the image has the dirty bit, what a crash may leave has COPIED
         entries where the refcount is 1, and nowhere else
ONCE     nothing is found twice

and at the end:

FOUND    each refcount that is wrong was found, or is lowered, unless somebody
         has touched it in the last round
STUCK    nobody waits for ever

Variants are planted bugs; each must violate what VARIANTS says:

forget_touch        nobody tells of what he changes
forget_link         who links does not, who changes a refcount does
forget_pending      what was let go before is not waited for
join_running        ... but for the commit that is running
no_settle           ... but not for those who keep it from being released
no_release_lock     ... but not for the batch that somebody has in hand
no_link_lock        it judges without link_lock
no_space_lock       it looks whether a suspect was touched, then at its
                    refcount
watch_without_gate  it begins to watch while a guest is inside
no_editing          it begins while an edit beside changes goes on
keep_editing        an edit beside changes that ends does not say so
no_edit_check       it judges although there was an edit
judge_outside_gate  it is not inside the gate while it judges
judge_touched       it judges what was touched
judge_again         it judges once more what it has judged, if it was touched
                    afterwards
stop_touched        what was touched is no suspect of the next round
own_unmarked        it sets flags without the dirty bit
own_unforeseen      it looks at the L1 entry once for the dirty bit, and later
                    for lowering: a guest may have copied the table meanwhile
own_never           it lowers to 1 what cannot get the flag
own_unheld          it does not hold the entry from looking at it until it has
                    the flag
"""
import functools
import gc
import sys
from collections import namedtuple

VARIANTS = {
    "forget_touch": {"LEAK", "REF"},
    "forget_link": {"LEAK"},
    "forget_pending": {"LEAK", "REF", "FREE"},
    "join_running": {"LEAK", "REF", "CRASH"},
    "no_settle": {"LEAK", "REF"},
    "no_release_lock": {"LEAK", "REF"},
    "no_link_lock": {"LEAK", "REF"},
    "no_space_lock": {"LEAK", "REF"},
    "watch_without_gate": {"LEAK", "REF"},
    "no_editing": {"LEAK", "REF"},
    "keep_editing": {"STUCK"},
    "no_edit_check": {"LEAK", "REF"},
    "judge_outside_gate": {"FLAG"},
    "judge_touched": {"LEAK", "LOW", "REF"},
    "judge_again": {"ONCE"},
    "stop_touched": {"FOUND"},
    "own_unmarked": {"FLAG"},
    "own_unforeseen": {"FLAG"},
    "own_never": {"FLAG"},
    "own_unheld": {"REF"},
}

ENTRIES = 2
MAX_ROUNDS = 2
NOTHING = -1                    # no cluster

State = namedtuple("State", [
    "entries", "owned", "counts",       # in memory; is the table the disk's?
    "ways",                     # clusters that others refer to
    "file", "marked",           # entries and refcounts; the dirty bit
    "unlinked", "commit", "batches", "hand",
    "guest", "ops", "held",     # what counts, and is not linked yet, or not
                                # told to be let go yet
    "edit", "edits", "editing", "closed", "captured", "raised",
    "check", "round", "repair", "suspects", "watched", "touched", "noted",
    "tallies", "due",           # batches that are waited for
    "place",                    # of the next one to be counted, or judged
    "owns", "mine",             # what gets a flag; whether it has marked that
    "found", "left",            # of each cluster: what is wrong; what stays
    "broken"])

Commit = namedtuple("Commit", ["pc", "entries", "counts", "unlinked"])
Tally = namedtuple("Tally", ["count", "plain", "entry"])

NO_TALLY = Tally(0, 0, NOTHING)
# Where the checker is inside the gate.
JUDGING = {"mark", "judge", "look", "own need", "own got", "own", "own link",
           "unmark need", "unmark got", "unmark", "leave"}


def replaced(values, i, value):
    return values[:i] + (value,) + values[i + 1:]


def plus(counts, cluster, n):
    return replaced(counts, cluster, counts[cluster] + n)


# ---- What holds ----------------------------------------------------------

def named(s, cluster):
    """How many refer to it."""
    return sum(c == cluster for c, _ in s.entries) + s.ways.count(cluster)


def counting(s):
    """How many refer to each cluster, with what counts as well."""
    holders = [s.ways, s.held, s.unlinked, s.hand]
    if s.captured:
        holders.append(s.captured[:s.raised])
    if s.commit:
        holders.append(s.commit.unlinked)
    refs = [0] * (len(s.counts) + 1)    # the last one is NOTHING
    for c, _ in s.entries:
        refs[c] += 1
    for clusters in holders:
        for c in clusters:
            refs[c] += 1
    for _, clusters in s.batches:
        for c in clusters:
            refs[c] += 1
    return refs


@functools.lru_cache(None)
def after_crash(file, written, ways, marked, free, low):
    """With what a commit has written, and not flushed: entries, refcounts."""
    both = [{old, new or old} for old, new in zip(file, written)]
    broken = set()
    for e in range(ENTRIES):
        for c, copied in {entries[e] for entries in both[0]}:
            if c != NOTHING and not marked and c not in low and \
                    any(copied != (counts[c] == 1) for counts in both[1]):
                broken.add("FLAG")
    for c in range(len(file[1])):
        refs = ways.count(c) + sum(
            any(entries[e][0] == c for entries in both[0])
            for e in range(ENTRIES))
        if c not in low and min(counts[c] for counts in both[1]) < refs:
            broken.add("CRASH")
        if refs and free >> c & 1:
            broken.add("FREE")
    return broken


def at_end(s, refs, low):
    for c, n in enumerate(s.counts):
        known = s.left[c] if s.repair and c not in low else s.found[c]
        if n != refs[c] and not known and not s.suspects >> c & 1:
            yield "FOUND"
    if s.ops or s.guest != "begin" or s.edit != "end" or s.check != "end" or \
            s.unlinked or s.batches or s.hand:
        yield "STUCK"


def violated(s, last, low):
    free = sum(1 << c for c, n in enumerate(s.counts) if n <= 0)
    written = None, None
    if s.commit:
        written = (s.commit.pc == "entries" and s.commit.entries,
                   s.commit.pc == "counts" and s.commit.counts)
    broken = set(after_crash(s.file, written, s.ways, s.marked, free, low))
    refs = counting(s)
    for c, n in enumerate(s.counts):
        if n < refs[c] and c not in low:
            broken.add("REF")
    if s.broken:
        broken.add(s.broken)
    if last:
        broken.update(at_end(s, refs, low))
    return broken


# ---- Telling -------------------------------------------------------------

def plain(entries):
    return tuple((c, False) for c, _ in entries)


def touch(s, variant, *clusters):
    if not s.watched or variant == "forget_touch":
        return s
    touched = s.touched
    for c in clusters:
        if c != NOTHING:
            touched |= 1 << c
    return s if touched == s.touched else s._replace(touched=touched)


def count(s, variant, cluster, n):
    """Under space.lock."""
    return touch(s._replace(counts=plus(s.counts, cluster, n)), variant,
                 cluster)


def raise_next(s, variant):
    """Of what was captured.  When all is shared, no entry is COPIED."""
    c = s.captured[s.raised]
    s = s._replace(raised=s.raised + 1)
    if c != NOTHING:
        s = count(s, variant, c, 1)
    if s.raised == ENTRIES:
        s = s._replace(entries=plain(s.entries))
    return s


# ---- Commits -------------------------------------------------------------

def wait(s, who, pc, variant):
    """Wait for a commit that begins later."""
    joins = variant == "join_running" and s.commit
    return s._replace(**{who: f"{pc} {'got' if joins else 'need'}"})


def replace_end(s, before, after):
    """For those who wait for a commit."""
    if s.check.endswith(before):
        s = s._replace(check=s.check[:-len(before)] + after)
    if s.edit.endswith(before):
        s = s._replace(edit=s.edit[:-len(before)] + after)
    return s


def flusher(s, _):
    c = s.commit
    if c is None:               # step 1, under link_lock
        if s.guest == "tell" or not (
                s.unlinked or s.file != (s.entries, s.counts) or
                s.check.endswith(" need") or s.edit.endswith(" need")):
            return []
        s = s._replace(unlinked=(),
                       commit=Commit("begun", s.entries, None, s.unlinked))
        return [replace_end(s, " need", " got")]
    if c.pc == "begun":         # 2a: what is gathered later is written
        return [s._replace(commit=c._replace(pc="counts", counts=s.counts))]
    if c.pc == "counts":        # it is flushed, and 3
        return [s._replace(file=(s.file[0], c.counts),
                           commit=c._replace(pc="entries", counts=None))]
    batches = s.batches
    if c.unlinked:
        batches += ((s.guest != "begin", c.unlinked),)
    if s.check == "drain got":
        s = s._replace(due=len(batches))
    return [replace_end(s._replace(file=(c.entries, s.file[1]), commit=None,
                                   batches=batches), " got", "")]


def releaser(s, variant):
    if s.hand:
        return [count(s._replace(hand=s.hand[1:]), variant, s.hand[0], -1)]
    if not s.batches or s.batches[0][0]:
        return []
    return [s._replace(hand=s.batches[0][1], batches=s.batches[1:],
                       due=max(s.due - 1, 0))]


# ---- The guest -----------------------------------------------------------

def change(s, variant):
    """It is inside."""
    (op, e), *_ = s.ops
    if not s.owned:
        if s.captured and s.raised < ENTRIES:
            return [raise_next(s, variant)._replace(guest="look")]
        return [s._replace(owned=True, guest="look", entries=plain(s.entries))]
    if s.check == "own link" and s.owns[0][0] == e and \
            variant != "own_unheld":
        return []
    old, copied = s.entries[e]
    if op == "drop":
        return [s._replace(guest="link")] if old != NOTHING \
            else [s._replace(guest="leave")]
    if copied:
        return [s._replace(guest="leave")]
    return [count(s, variant, c, 1)._replace(guest="link", held=(c,))
            for c, n in enumerate(s.counts) if n == 0]


def link(s):
    """Takes link_lock."""
    e = s.ops[0][1]
    new = (s.held[0], True) if s.held else (NOTHING, False)
    return s._replace(guest="tell", entries=replaced(s.entries, e, new),
                      held=(s.entries[e][0],))


def guest(s, variant):
    if s.guest == "begin":
        if not s.ops or s.closed:
            return []
        return change(s, variant)
    if s.guest == "look":
        return change(s, variant)
    if s.guest == "link" and s.held:
        # Or it fails, and gives that back.
        failed = count(s, variant, s.held[0], -1)
        return [failed._replace(guest="leave", held=()), link(s)]
    if s.guest == "link":
        return [link(s)]
    if s.guest == "tell":
        if variant != "forget_link":
            s = touch(s, variant, s.held[0], s.entries[s.ops[0][1]][0])
        if s.held[0] != NOTHING:
            s = s._replace(unlinked=tuple(sorted(s.unlinked + s.held)))
        return [s._replace(guest="leave", held=())]
    return [s._replace(guest="begin", ops=s.ops[1:],
                       batches=tuple((False, b) for _, b in s.batches))]


# ---- The editor ----------------------------------------------------------

def is_empty(s, variant):
    """The gate closes."""
    return s.guest == "begin" and (s.check not in JUDGING or
                                   variant == "judge_outside_gate")


def editor(s, variant):
    if s.edit == "snapshot":
        if not is_empty(s, variant):
            return []
        return [s._replace(edit="share", edits=s.edits + 1, editing=True,
                           marked=True, owned=False,
                           captured=tuple(c for c, _ in s.entries))]
    if s.edit == "share":
        if s.raised < ENTRIES:
            return [raise_next(s, variant)]
        return [wait(s, "edit", "publish", variant)]
    if s.edit == "publish":
        return [s._replace(edit="ending", ways=s.ways + s.captured,
                           captured=None, raised=0, marked=False)]
    if s.edit == "move":
        if not is_empty(s, variant):
            return []
        return [s._replace(edit="moving", edits=s.edits + 1, closed=True)]
    if s.edit == "moving":
        return [s._replace(edit="ending", ways=s.ways[::-1])]
    if s.edit == "ending":
        return [s._replace(edit="end", closed=False, editing=s.editing and
                           variant == "keep_editing")]
    return []


# ---- The checker ---------------------------------------------------------

def watch(s, variant):
    if s.closed or s.guest != "begin" and variant != "watch_without_gate" or \
            s.editing and variant != "no_editing":
        return []
    s = s._replace(watched=True, touched=0, noted=s.edits, place=0,
                   tallies=(NO_TALLY,) * len(s.counts))
    if variant == "forget_pending":
        return [s._replace(check="count")]
    return [wait(s, "check", "drain", variant)]


def drain(s, variant):
    if s.hand and variant != "no_release_lock":
        return []
    if s.due and not (variant == "no_settle" and s.batches[0][0]):
        return []
    return [s._replace(check="count", due=0)]


def count_way(s, _):
    """One of those to clusters."""
    i = s.place
    if i == ENTRIES + len(s.ways):
        return [s._replace(check="enter", place=0)]
    c, copied = s.entries[i] if i < ENTRIES else (s.ways[i - ENTRIES], None)
    s = s._replace(place=i + 1)
    if c == NOTHING:
        return [s]
    t = s.tallies[c]
    t = Tally(t.count + 1, t.plain + (copied is False),
              t.entry if copied is None else i)
    return [s._replace(tallies=replaced(s.tallies, c, t))]


def enter(s, variant):
    if s.closed:
        return []
    if s.edits != s.noted and variant != "no_edit_check":
        return [s._replace(check="watch", watched=False, touched=0, place=0,
                           tallies=())]
    return [s._replace(check="mark", owns=())]


def mark(s, variant):
    """Inside the gate, if an entry may become alone."""
    alone = s.repair and s.owned and not s.marked and any(
        t.count == 1 and t.plain and s.suspects >> c & 1 and
        not s.touched >> c & 1 for c, t in enumerate(s.tallies))
    if alone and variant != "own_unmarked":
        s = s._replace(marked=True, mine=True)
    return [s._replace(check="judge")]


def lower(s, c, variant):
    t = s.tallies[c]
    own = t.count == 1 and t.plain > 0
    may = not own or variant == "own_never" or \
        s.owned and (s.marked or variant in ("own_unmarked", "own_unforeseen"))
    if not may:
        return s._replace(left=replaced(s.left, c, True))
    if own:
        s = s._replace(owns=s.owns + ((t.entry, c),))
    return touch(s._replace(counts=replaced(s.counts, c, t.count)), variant, c)


def judge(s, variant):
    """The next suspect, under both locks."""
    c = s.place
    if c == len(s.counts):
        if s.owns:
            return [wait(s, "check", "own", variant)]
        return [wait(s, "check", "unmark", variant) if s.mine
                else s._replace(check="leave")]
    if s.check == "judge":
        if not s.suspects >> c & 1:
            return [s._replace(place=c + 1)]
        if s.guest == "tell" and variant != "no_link_lock":
            return []
        if s.touched >> c & 1 and variant != "judge_touched":
            return [s._replace(place=c + 1)]
        if variant == "no_space_lock":
            return [s._replace(check="look")]
    n, t = s.counts[c], s.tallies[c].count
    s = s._replace(check="judge", place=c + 1)
    if variant != "judge_again":
        s = s._replace(suspects=s.suspects & ~(1 << c))
    if n == t:
        return [s]
    if n < t and n >= named(s, c):
        s = s._replace(broken="LOW")
    elif n > t and n <= counting(s)[c]:
        s = s._replace(broken="LEAK")
    elif s.found[c]:
        s = s._replace(broken="ONCE")
    s = s._replace(found=replaced(s.found, c, True))
    return [lower(s, c, variant) if s.repair and n > t else s]


def own(s, variant):
    """An entry, held as by who writes there."""
    if not s.owns:
        return [wait(s, "check", "unmark", variant) if s.mine
                else s._replace(check="leave")]
    e, found = s.owns[0]
    c, copied = s.entries[e]
    if s.check == "own":
        if s.guest in ("link", "tell") and s.ops[0][1] == e:
            return []
        if s.owned and c != NOTHING and not copied and s.counts[c] == 1:
            return [s._replace(check="own link",
                               owns=((e, c), *s.owns[1:]))]
        return [s._replace(owns=s.owns[1:])]
    if s.guest == "tell":
        return []
    return [touch(s._replace(check="own", owns=s.owns[1:],
                             entries=replaced(s.entries, e, (found, True))),
                  variant, c, found)]


def leave(s, variant):
    """What was touched before it was judged is a suspect once more."""
    suspects = s.suspects & s.touched
    if variant == "stop_touched":
        suspects = 0
    more = suspects and s.round < MAX_ROUNDS
    return [s._replace(check="watch" if more else "end", watched=False,
                       round=s.round + 1, suspects=suspects, touched=0,
                       tallies=(), place=0)]


def checker(s, variant):
    step = {"watch": watch, "drain": drain, "count": count_way,
            "enter": enter, "mark": mark, "judge": judge, "look": judge,
            "own": own, "own link": own, "leave": leave}.get(s.check)
    if s.check == "unmark":
        return [s._replace(check="leave", marked=False, mine=False)]
    return step(s, variant) if step else []


# ---- The walk ------------------------------------------------------------

def start(entries, owned, counts, ops=(), edit="end", ways=(), repair=True):
    return State(
        entries=entries, owned=owned, counts=counts, ways=ways,
        file=(entries, counts), marked=False, unlinked=(), commit=None,
        batches=(), hand=(), guest="begin", ops=ops, held=(), edit=edit,
        edits=0, editing=False, closed=False, captured=None, raised=0,
        check="watch", round=1, repair=repair, suspects=(1 << len(counts)) - 1,
        watched=False, touched=0, noted=0, tallies=(), due=0, place=0,
        owns=(), mine=False, found=(False,) * len(counts),
        left=(False,) * len(counts), broken=None)


def starts():
    """And the clusters whose refcounts are too low.  It holds, too, with three
    clusters and two writes beside a snapshot: in half a minute, and 1 GB."""
    none, alone, shared = (NOTHING, False), (0, True), (0, False)
    w0, w1, d0 = ("write", 0), ("write", 1), ("drop", 0)
    # Nothing is wrong.
    yield start((alone, none), True, (1, 0), (d0, w1)), ()
    yield start((alone, none), True, (1, 0), (w0,), "snapshot"), ()
    yield start((alone, none), True, (1, 1, 0), (w1,), "move",
                (NOTHING, 1)), ()
    for repair in (False, True):
        # There is one that nobody refers to.
        yield start((alone, none), True, (1, 1), (d0, w1), repair=repair), ()
        # One is counted once too often.
        yield start((shared, none), True, (2,), repair=repair), ()
        for owned in (True, False):
            yield start((shared, none), owned, (2, 0), (w0,),
                        repair=repair), ()
            yield start((shared, none), owned, (2, 0), (w1, d0),
                        repair=repair), ()
        yield start((shared, none), True, (2, 0), (w0,), "snapshot",
                    repair=repair), ()
        # Too low; guests leave it alone.
        yield start((shared, none), True, (1, 0), (w1,), "move",
                    (NOTHING, 0), repair), (0,)
        yield start((shared, none), True, (1,), (), "snapshot", (0,),
                    repair), (0,)


def run(variant, enough):
    """Walk until that is violated.  Returns the number of states, what was
    violated, and the states that lead to it."""
    lows = dict(starts())
    before = dict.fromkeys(lows)
    todo = [(s, low) for s, low in lows.items()]
    broken, at = set(), None
    for s, low in todo:
        following = [n for thread in (guest, flusher, releaser, editor,
                                      checker) for n in thread(s, variant)]
        found = violated(s, not following, low)
        if found - broken:
            broken |= found
            at = at or s
            if enough <= broken:
                break
        if found:
            continue            # what follows is no wonder
        for n in following:
            if n not in before:
                before[n] = s
                todo.append((n, low))
    return len(before), broken, at, before


def tell(s, before):
    """How it came to that state: what each step has changed."""
    if before[s] is None:
        print(f"  {s}")
        return
    tell(before[s], before)
    print("  " + ", ".join(
        f"{name} = {value}" for name, value, was in
        zip(State._fields, s, before[s]) if value != was))


def main():
    gc.disable()                # there are no cycles
    states, broken, at, before = run("ok", {"anything"})
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
