#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every interleaving of reading ahead and of changes of the same host range
(core/io/ahead.c and ahead_changes.c).

One host range of two sectors, and one buffer for it.  These run:

  writer   changes the range twice; a change may fail, and have reached the
           first sector all the same
  loader   claims the range twice, reads it a sector at a time, and commits
  reader   reads twice, the buffer, or the host if it is not there

A change counts itself, looks whether anybody reads ahead, and if so takes the
lock, drops the buffer, or spoils one that is loading, and is listed until it
has ended.  A claim first says that somebody reads ahead, then looks for
changes that are counted but not listed, and for listed ones.  These are steps
of their own; what is done with the lock is one step.

AHEAD-1  a read returns what the last acknowledged change wrote, or something
         newer, of each sector;
AHEAD-2  it returns nothing older than what any read has returned that ended
         before it began;
AHEAD-3  a buffer that is used was never read while the range changed: of an
         encrypted sector of which a part changes, the rest must be readable;
AHEAD-4  (in the second machine) a reader who has looked up where a cluster
         is never gets the bytes of the next owner of that place, and a reader
         of the next owner never gets those of the one before, though the
         loader looks nothing up and is in no flight.

Variants are planted bugs; each must violate the properties that are named."""
import sys
from collections import namedtuple

State = namedtuple("State", [
    "host",             # both sectors
    "armed", "count",   # somebody reads ahead; changes that are not listed
    "listed",           # changes that are
    "buf",              # None, ("loading", n), ("spoiled", n), (bytes, torn)
    "load",             # what the loader has, and whether it changed meanwhile
    "outcome",          # of loads 0 and 1, for those who wait
    "lock",             # the loader holds it
    "begun", "acked",   # values
    "seen",             # by reads that have ended, of each sector
    "failed",           # a change has
    "second",           # the writer, and the reader, are about their second
    "again",
    "places",           # where clusters A and B are in the second machine
    "inside",           # readers in flight
    "pc", "reg"])

WRITER, LOADER, READER = 0, 1, 2
VARIANTS = {
    "only_before": {1},
    "only_after": {2, 3},
    "loading_kept": {1, 3},
    "spoiled_used": {3},
    "not_counted": {1},
    "claim_looks_first": {1},
    "change_looks_first": {1},
    "only_if_it_succeeds": {2},
    "reused_early": {4},
    "reused_unnoticed": {4},
}


class Broken(Exception):
    pass


def drop(s, bug):
    """What a change does to the buffer, with the lock."""
    if s.buf is None:
        return s
    if s.buf[0] == "loading":
        if bug == "loading_kept":
            return s
        return s._replace(buf=("spoiled", s.buf[1]))
    if s.buf[0] == "spoiled":
        return s
    return s._replace(buf=None)


def step(s, who, label, reg=None, **new):
    pc = list(s.pc)
    pc[who] = label
    if reg is not None:
        regs = list(s.reg)
        regs[who] = reg
        new["reg"] = tuple(regs)
    return s._replace(pc=tuple(pc), **new)


# ---- Changes --------------------------------------------------------------

def change(s, bug, value, after, failed):
    """Steps of a change to 'value'; then the label 'after', or 'failed'."""
    who = WRITER
    pc = s.pc[who]
    sector = {"sector0": 0, "sector1": 1}.get(pc)
    if bug == "reused_unnoticed" and pc in ("count", "look", "list"):
        return [step(s, who, "sector0", reg="nothing")]
    if pc == "count":
        if bug == "change_looks_first":
            return [step(s, who, "look", reg=s.armed)]
        return [step(s, who, "look", count=s.count + 1)]
    if pc == "look":
        if bug == "change_looks_first":
            return [step(s, who, "list") if s.reg[who] else
                    step(s, who, "sector0", reg="counted", count=s.count + 1)]
        if s.armed:
            return [step(s, who, "list", count=s.count - 1)]
        return [step(s, who, "sector0", reg="counted")]
    if pc == "list":
        if s.lock:
            return []
        t = s if bug in ("only_after", "only_if_it_succeeds") else \
            drop(s, bug)
        if bug in ("only_before", "only_after", "only_if_it_succeeds"):
            return [step(t, who, "sector0", reg="listed")]
        return [step(t, who, "sector0", reg="listed", listed=s.listed + 1)]
    if sector is not None:
        host = tuple(value if i == sector else v for i, v in enumerate(s.host))
        begun = max(s.begun, value)
        load = s.load and (s.load[0], True)
        steps = [step(s, who, "sector1" if sector == 0 else "ended",
                      host=host, begun=begun, load=load)]
        if sector == 1 and failed and not s.failed:
            steps.append(step(s, who, "ended", begun=begun, failed=True))
        return steps
    if pc == "ended":
        ok = s.host == (value, value)
        t = s
        if s.reg[who] == "counted":
            t = s._replace(count=s.count - 1)
        elif s.reg[who] == "listed":
            if s.lock:
                return []
            if bug == "only_after" or (bug == "only_if_it_succeeds" and ok):
                t = drop(s, bug)
            elif s.listed:
                t = s._replace(listed=s.listed - 1)
        if ok:
            t = t._replace(acked=value)
        return [step(t, who, after)]
    return None


def write_twice(s, bug):
    value = 2 if s.second else 1
    if s.pc[WRITER] == "start":
        return [step(s, WRITER, "count")]
    if s.pc[WRITER] == "acked":
        return [step(s, WRITER, "done" if s.second else "count", second=True)]
    return change(s, bug, value, "acked", True) or []


# ---- The loader -------------------------------------------------------------

def load(s, bug, rounds):
    who = LOADER
    pc = s.pc[who]
    n = s.reg[who]

    def end(t, label):
        last = n + 1 == rounds
        return step(t, who, "done" if last else label,
                    reg=n + 1, lock=False)

    if pc == "start":
        if bug == "claim_looks_first":
            return [step(s, who, "arm", lock=True)
                    if s.count == 0 else end(s, "start")]
        return [step(s, who, "look", lock=True, armed=True)]
    if pc == "arm":
        return [step(s, who, "claim", armed=True)]
    if pc == "look":
        if s.count and bug != "not_counted":
            return [end(s, "start")]
        return [step(s, who, "claim")]
    if pc == "claim":
        if s.listed or s.buf is not None:
            return [end(s, "start")]
        return [step(s, who, "read0", lock=False, buf=("loading", n),
                     load=((), False))]
    if pc in ("read0", "read1"):
        got = s.load[0] + (s.host[int(pc[-1])],)
        return [step(s, who, "read1" if pc == "read0" else "commit",
                     load=(got, s.load[1]))]
    if pc == "commit":
        outcome = list(s.outcome)
        good = s.buf[0] == "loading" or bug == "spoiled_used"
        outcome[n] = s.load if good else "failed"
        kept = s.load if s.buf[0] == "loading" else None
        return [end(s._replace(buf=kept, load=None, outcome=tuple(outcome)),
                    "start")]
    return []


# ---- Readers ----------------------------------------------------------------

def read(s, who, wants):
    """Steps from "find" on; wants (s, bytes) checks and returns the end."""
    pc = s.pc[who]
    low = s.reg[who]
    if pc == "find":
        if s.lock:
            return []
        if s.buf is None or s.buf[0] == "spoiled":
            return [step(s, who, "host0")]
        if s.buf[0] == "loading":
            return [step(s, who, "wait" + str(s.buf[1]))]
        return [wants(s, s.buf)]
    if pc.startswith("wait"):
        outcome = s.outcome[int(pc[-1])]
        if outcome is None:
            return []
        if outcome == "failed":
            return [step(s, who, "host0")]
        return [wants(s, outcome)]
    if pc == "host0":
        return [step(s, who, "host1", reg=(low, s.host[0]))]
    if pc == "host1":
        return [wants(s._replace(reg=tuple(
            low[0] if i == who else r for i, r in enumerate(s.reg))),
            ((low[1], s.host[1]), False))]
    return None


def read_twice(s, who):
    pc = s.pc[who]

    def wants(t, got):
        found, changed = got
        acked, seen = t.reg[who]
        for i in 0, 1:
            if found[i] < acked:
                raise Broken(1)
            if found[i] < seen[i]:
                raise Broken(2)
        if changed:
            raise Broken(3)
        return step(t, who, "done" if t.again else "start", again=True,
                    seen=tuple(map(max, t.seen, found)))

    if pc == "start":
        return [step(s, who, "find", reg=(s.acked, s.seen))]
    return read(s, who, wants) or []


# ---- Two machines ----------------------------------------------------------

def in_place(s, bug):
    return write_twice(s, bug) + load(s, bug, 2) + read_twice(s, READER)


def reuse(s, bug):
    """A was at the range, with ones.  The writer lets go of it, waits for
    those in flight, and gives the range to B, with twos."""
    pc = s.pc[WRITER]
    steps = []
    if pc == "start":           # the entry of A changes
        steps.append(step(s, WRITER, "release", places=(None, s.places[1]),
                          reg=s.inside))
    elif pc == "release":
        if bug == "reused_early" or not (s.reg[WRITER] & s.inside):
            steps.append(step(s, WRITER, "count", reg=None))
    elif pc == "acked":
        steps.append(step(s, WRITER, "done", places=(s.places[0], True)))
    else:
        steps += change(s, bug, 2, "acked", False) or []
    steps += load(s, bug, 2)
    for who, cluster, right in (READER, 0, 1), (READER + 1, 1, 2):
        def wants(t, got, who=who, right=right):
            if got[0] != (right, right):
                raise Broken(4)
            return step(t, who, "done", inside=t.inside - {who})

        pc = s.pc[who]
        if pc == "start":
            steps.append(step(s, who, "lookup", inside=s.inside | {who}))
        elif pc == "lookup":
            if s.places[cluster]:
                steps.append(step(s, who, "find"))
            else:
                steps.append(step(s, who, "done", inside=s.inside - {who}))
        else:
            steps += read(s, who, wants) or []
    return steps


def explore(machine, start, bug):
    """Until the bug is found, if there is one."""
    seen, todo, broken = {start}, [start], set()
    while todo and not (bug in VARIANTS and VARIANTS[bug] <= broken):
        s = todo.pop()
        try:
            following = machine(s, bug)
        except Broken as b:
            broken.add(b.args[0])
            continue
        if not following and any(pc != "done" for pc in s.pc):
            broken.add("stuck")
        for t in following:
            if t not in seen:
                seen.add(t)
                todo.append(t)
    return len(seen), broken


def run(bug):
    common = dict(armed=False, count=0, listed=0, buf=None, load=None,
                  outcome=(None, None), lock=False, acked=0, failed=False,
                  second=False, again=False, inside=frozenset())
    place = State(host=(0, 0), begun=0, seen=(0, 0), places=(),
                  pc=("start",) * 3, reg=(None, 0, None),
                  **common)
    again = State(host=(1, 1), begun=1, seen=(0, 0), places=(True, None),
                  pc=("start",) * 4, reg=(None, 0, None, None),
                  **common)
    n, broken = explore(in_place, place, bug)
    m, more = explore(reuse, again, bug)
    return n + m, broken | more


def main():
    states, broken = run("ok")
    print(f"ok: {states} states, violated: {sorted(broken) or 'nothing'}")
    bad = bool(broken)
    for bug, props in VARIANTS.items():
        states, broken = run(bug)
        print(f"{bug}: {states} states, violated: "
              f"{', '.join(f'AHEAD-{p}' for p in sorted(map(str, broken)))}")
        bad |= not props <= broken
    return bad


if __name__ == "__main__":
    sys.exit(main())
