#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A bitmap that is true in the file while its disk is written to, as
core/track/track.c and zones.c keep it.

Of one zone with two granules there are two words in memory, 'exact' and
'durable', and one in the file.  These run in every interleaving:

  first    a request that changes granule 1
  second   another one, which changes granule 2
  again    a third one, which changes granule 1, too
  retire   gives the zone its exact bits

A request sets its bit, and looks whether it is durable; if not, it takes the
lock, looks again, writes a word of ones and flushes it.  A write may fail, and
land all the same; then the bitmap is marked as in use, and that is flushed,
before anything goes on.  What was not flushed may be on the disk or not.

Holds: whatever a crash leaves, if data of a granule may be on the disk, its
bit is set, or the bitmap is in use."""
import sys
from collections import namedtuple

ALL = 3
FIRST, SECOND, AGAIN, RETIRE = range(4)
BIT = {FIRST: 1, SECOND: 2, AGAIN: 1}

State = namedtuple("State", [
    "exact", "durable",         # in memory
    "word", "words",            # in the file: flushed, and sent since then
    "in_use", "in_uses",
    "sent",                     # granules of which data may be on the disk
    "lost",                     # nobody keeps the bitmap up any more
    "failing",                  # it is about to be so
    "lock", "pc", "reg"])

BUGS = {
    "data sent before the flush of an activation": "no_flush",
    "retired without clearing 'durable'": "no_clear",
    "retired outside of the lock": "unserialised",
    "bits retired that were not durable": "any_bits",
    "'durable' looked at before the bit is set": "look_first",
    "not looked at again with the lock, and the old word written": "stale",
    "a failed write ignored": "no_in_use",
    "data sent before the mark is flushed": "early_go",
    "not kept up from the failure on, not from the mark on": "early_lost",
}


def flush(s):
    return s._replace(word=s.words[-1] if s.words else s.word, words=(),
                      in_use=s.in_use or s.in_uses, in_uses=False)


class Actor:
    """The next steps of one of them, from one state."""

    def __init__(self, state, who, bug):
        self.s, self.who, self.bug = state, who, bug
        self.pc, self.reg = state.pc[who], state.reg[who]

    def to(self, label, state=None, reg=None, **changes):
        state = state or self.s
        pcs, regs = list(state.pc), list(state.reg)
        pcs[self.who] = label
        if reg is not None:
            regs[self.who] = reg
        return state._replace(pc=tuple(pcs), reg=tuple(regs), **changes)

    def store(self, label, word, failed):
        """Write the word: it lands later, or fails, and may land then."""
        words = self.s.words + (word,)
        if self.bug == "no_in_use":
            return [self.to(label, words=words), self.to(label)]
        lost = {"lost": True} if self.bug == "early_lost" else {}
        return [self.to(label, words=words),
                self.to(failed, failing=True, **lost),
                self.to(failed, words=words, failing=True, **lost)]

    def give_up(self):
        """What is done when a word could not be written, with the lock."""
        if self.pc == "mark":
            return [self.to("mark flush", in_uses=True)]
        if self.pc == "mark flush":
            if self.bug == "early_go":
                return [self.to("marked")]
            return [self.to("marked", flush(self.s))]
        if self.pc == "marked":
            return [self.to("unlock", lost=True)]
        return None

    def request(self):
        s, bit = self.s, BIT[self.who]
        known = s.lost or s.durable & bit
        if self.pc == "begin":
            if self.bug == "look_first":
                return [self.to("late set", reg=known)]
            return [self.to("look", exact=s.exact | bit)]
        if self.pc == "late set":
            return [self.to("send" if self.reg else "lock",
                            exact=s.exact | bit)]
        if self.pc == "look":
            return [self.to("send" if known else "lock")]
        if self.pc == "lock":
            return [self.to("locked", lock=self.who)] if s.lock is None else []
        if self.pc == "locked":
            if known and self.bug != "stale":
                return [self.to("unlock")]
            return [self.to("word")]
        if self.pc == "word":
            word = bit | s.word if self.bug == "stale" else ALL
            return self.store("flush", word, "mark")
        if self.pc == "flush":
            return [self.to("active", s if self.bug == "no_flush"
                            else flush(s))]
        if self.pc == "active":
            return [self.to("unlock", durable=ALL)]
        if self.pc == "unlock":
            return [self.to("send", lock=None)]
        if self.pc == "send":
            return [self.to("end", sent=s.sent | bit)]
        return []

    def retire(self):
        s = self.s
        if self.pc == "begin":
            if self.bug == "unserialised":
                return [self.to("locked")]
            return [self.to("locked", lock=self.who)] if s.lock is None else []
        if self.pc == "locked":
            if s.lost or s.failing:
                return [self.to("unlock")]
            return [self.to("read", reg=s.durable, durable=s.durable
                            if self.bug == "no_clear" else 0)]
        if self.pc == "read":
            old = ALL if self.bug == "any_bits" else self.reg
            return [self.to("promise", reg=s.exact & old)]
        if self.pc == "promise":
            return [self.to("store", durable=self.reg)]
        if self.pc == "store":
            return self.store("unlock", self.reg, "mark")
        if self.pc == "unlock":
            return [self.to("end", lock=None)]
        return []

    def steps(self):
        steps = self.give_up()
        if steps is None:
            steps = self.retire() if self.who == RETIRE else self.request()
        return steps


def is_broken(s):
    if s.in_use:
        return False
    return any(s.sent & ~w for w in (s.word,) + s.words)


def starts():
    for exact, durable, word in ((0, ALL, ALL), (0, 0, 0), (1, ALL, ALL),
                                 (2, 2, 2), (1, 1, 1)):
        yield State(exact, durable, word, (), False, False, 0, False, False,
                    None, ("begin",) * 4, (0,) * 4)


def explore(bug):
    seen, todo = set(), list(starts())
    while todo:
        s = todo.pop()
        if s in seen:
            continue
        seen.add(s)
        if is_broken(s):
            return len(seen), s
        following = [n for who in range(4) for n in Actor(s, who, bug).steps()]
        if not following and set(s.pc) != {"end"}:
            sys.exit("stuck in %s" % (s,))
        todo += following
    return len(seen), None


def main():
    states, broken = explore(None)
    if broken:
        sys.exit("violated: %s" % (broken,))
    print("holds in %d states" % states)
    for text, bug in BUGS.items():
        states, broken = explore(bug)
        if not broken:
            sys.exit("not caught in %d states: %s" % (states, text))
        print("caught after %d states: %s" % (states, text))


main()
