#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""An entry of a bitmap table gets a cluster before the first change of the
disk, as core/write/bitmaps.c gives it one.

The entry says that all bits are alike, without a cluster.  The cluster is
written with the same bits and gets a refcount; a commit makes both durable;
then the entry is written where it is, and flushed.  After that requests change
two granules: a word of ones is written to the cluster and flushed before one
does.  Writing the entry may fail, and land all the same; then the bitmap is
marked as in use, durably, and requests go on without it.  What was not
flushed may be on the disk or not.

Holds, whatever a crash leaves:
FILL-1  each granule that may have changed has its bit, or the bitmap is in
        use;
FILL-2  an entry that may be there names a cluster with a refcount, that is
        nothing else."""
import sys
from collections import namedtuple

ALL = 3
State = namedtuple("State", [
    "old",                      # what the entry says without a cluster
    "entry", "entries",         # it has one: flushed, sent
    "word", "words",            # None: garbage
    "count", "counts",
    "mark", "marks",
    "changed", "reused", "pc"])

BUGS = {
    "an entry before its bits are durable": "early_entry",
    "no commit between the refcount and the entry": "no_count",
    "requests before the entry is durable": "no_flush",
    "the cluster given back after the entry has failed": "undo",
    "requests before the mark is durable": "no_mark",
}


def flush(s):
    def last(value, values):
        return values[-1] if values else value
    return s._replace(entry=last(s.entry, s.entries), entries=(),
                      word=last(s.word, s.words), words=(),
                      count=last(s.count, s.counts), counts=(),
                      mark=last(s.mark, s.marks), marks=())


def steps(s, bug):
    if s.pc == "bits":
        return [s._replace(words=s.words + (s.old,), pc="count")]
    if s.pc == "count":
        n = s._replace(counts=(1,))
        if bug == "early_entry":
            return [s._replace(count=1, pc="entry")]
        if bug == "no_count":
            return [flush(s)._replace(counts=(1,), pc="entry")]
        return [n._replace(pc="commit")]
    if s.pc == "commit":
        return [flush(s)._replace(pc="entry")]
    if s.pc == "entry":
        n = s._replace(entries=(True,), pc="flush")
        return [n, n._replace(pc="failed"),
                s._replace(pc="failed")]
    if s.pc == "failed":
        n = s._replace(marks=(True,), reused=bug == "undo")
        if bug == "no_mark":
            return [n._replace(pc="lost")]
        return [flush(n)._replace(entries=n.entries, pc="lost"),
                flush(n)._replace(pc="lost")]
    if s.pc == "lost":
        return [s._replace(changed=s.changed | bit)
                for bit in (1, 2) if not s.changed & bit]
    if s.pc == "flush":
        return [(s if bug == "no_flush" else flush(s))._replace(pc="ready")]
    if s.pc == "ready":
        return [s._replace(words=s.words + (ALL,), pc="wait")]
    if s.pc == "wait":
        # As far as bits are concerned: the entry was flushed before.
        n = flush(s)
        if bug == "no_flush":
            n = n._replace(entry=s.entry, entries=s.entries)
        return [n._replace(pc="change")]
    if s.pc == "change":
        return [s._replace(changed=s.changed | bit)
                for bit in (1, 2) if not s.changed & bit]
    return []


def violated(s):
    for entry in {s.entry} | set(s.entries):
        if not entry:
            if not s.mark and s.changed & ~s.old:
                return "FILL-1"
            continue
        if s.reused or not s.count:
            return "FILL-2"
        for word in (s.word,) + s.words:
            if not s.mark and (word is None or
                               (s.changed | s.old) & ~word):
                return "FILL-1"
    return None


def explore(bug):
    seen = set()
    todo = [State(old, False, (), None, (), 0, (), False, (), 0, False,
                  "bits") for old in (0, ALL)]
    while todo:
        s = todo.pop()
        if s in seen:
            continue
        seen.add(s)
        why = violated(s)
        if why:
            return len(seen), why
        todo += steps(s, bug)
    return len(seen), None


def main():
    states, why = explore(None)
    if why:
        sys.exit("violated: %s" % why)
    print("holds in %d states" % states)
    for text, bug in BUGS.items():
        states, why = explore(bug)
        if not why:
            sys.exit("not caught in %d states: %s" % (states, text))
        print("%s caught after %d states: %s" % (why, states, text))


main()
