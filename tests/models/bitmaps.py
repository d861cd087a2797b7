#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Keeping a persistent bitmap true on disk while its disk is written to.

Of a bitmap there are two words in memory, 'exact' and 'durable', and one in
the file.  Bit 1 is the granule that is written, bit 2 its neighbour in the
same zone.  These run in every interleaving:

  place   a write in place: sets the bit, and activates the zone unless the
          bit is durable: a word of ones, and a cluster for it if the bitmap
          has none there, before the data is sent
  new     a write to new space: sets the bit, then changes an entry in memory
  commit  copies entries, then the word; writes the word, flushes, and then
          writes the entries
  retire  gives an active zone its exact word again

What was not flushed may be on the disk or not.  A write of the word may fail;
then the bitmap is marked as in use, durably, before anything goes on.

Holds: whatever a crash leaves, once data or entries were sent, either the bit
is set in a cluster that the bitmap has, or the bitmap is in use.  Also if word
and link share one flush: a cluster that is named too early has any bits, but
those that it must have are in it before anything is sent."""
import sys
from collections import namedtuple

ALL = 3
PLACE, NEW, COMMIT, RETIRE = range(4)

State = namedtuple("State", [
    "exact", "durable",         # in memory
    "word", "words",            # in the file: flushed, and sent since then
    "link", "links",            # the table names the cluster of the word
    "in_use", "in_uses",
    "entry", "copied",          # changed in memory; copied by the commit
    "sent",                     # data in place, or an entry, may be on disk
    "gone",                     # nobody keeps the bitmap up any more
    "lock", "pc", "reg"])

BUGS = {
    "data sent before the flush of an activation": "no_flush",
    "words copied before entries": "words_first",
    "entries written before the flush of words": "early_entries",
    "retired without clearing 'durable'": "no_clear",
    "retired outside of the lock": "unserialised",
    "a zone retired that is not active": "any_zone",
    "'durable' looked at before the bit is set": "look_first",
    "the entry changed before the bit is set": "late_bit",
    "data sent before the cluster of its word is named": "no_link_flush",
    "a failed write ignored": "no_in_use",
    "data sent before the mark is flushed": "early_go",
}


def flush(s):
    return s._replace(word=s.words[-1] if s.words else s.word, words=(),
                      link=s.link or s.links, links=False,
                      in_use=s.in_use or s.in_uses, in_uses=False)


def step(s, who, bug):
    """The states that may follow when 'who' does its next step."""
    pc = s.pc[who]

    def to(label, state=s, reg=None, **changes):
        pcs, regs = list(state.pc), list(state.reg)
        pcs[who] = label
        if reg is not None:
            regs[who] = reg
        return state._replace(pc=tuple(pcs), reg=tuple(regs), **changes)

    def lock(label):
        return [to(label, lock=who)] if s.lock is None else []

    def store(label, word, failed):
        """Write the word: it lands later, or fails, and may land in part."""
        words = s.words + (word,)
        if bug == "no_in_use":
            return [to(label, words=words), to(label)]
        return [to(label, words=words), to(failed), to(failed, words=words)]

    # What is done when a word could not be written, with the lock.
    if pc == "mark":
        return [to("mark flush", in_uses=True)]
    if pc == "mark flush":
        if bug == "early_go":
            return [to("marked")]
        return [to("marked", flush(s))]
    if pc == "marked":
        return [to("unlock", gone=True, durable=ALL)]
    if pc == "unlock":
        after = {PLACE: "send", COMMIT: "entries", RETIRE: "end"}[who]
        return [to(after, lock=None)]

    if who == PLACE:
        return step_place(s, pc, bug, to, lock, store)
    if who == NEW:
        if pc == "begin":
            if bug == "late_bit":
                return [to("bit", entry=True)]
            return [to("entry", exact=s.exact | 1)]
        if pc == "bit":
            return [to("end", exact=s.exact | 1)]
        if pc == "entry":
            return [to("end", entry=True)]
    if who == COMMIT:
        return step_commit(s, pc, bug, to, lock, store)
    if who == RETIRE:
        return step_retire(s, pc, bug, to, lock, store)
    return []


def step_place(s, pc, bug, to, lock, store):
    if pc == "begin":
        return [to("fast", reg=s.exact & 1)]
    if pc == "fast":
        if s.reg[PLACE] and s.durable & 1:
            return [to("send")]
        if bug == "look_first":
            return [to("late set", reg=s.durable & 1)]
        return [to("look", exact=s.exact | 1)]
    if pc == "late set":
        return [to("send" if s.reg[PLACE] else "lock", exact=s.exact | 1)]
    if pc == "look":
        return [to("send" if s.durable & 1 else "lock")]
    if pc == "lock":
        return lock("locked")
    if pc == "locked":
        if s.durable & 1:
            return [to("unlock")]
        if bug == "one_flush" and not s.link:
            return [to("word", links=True)]
        return [to("word")]
    if pc == "word":
        return store("flush", ALL, "mark")
    if pc == "flush":
        label = "active" if s.link or s.links else "link"
        return [to(label)] if bug == "no_flush" else [to(label, flush(s))]
    if pc == "link":
        return [to("link flush", links=True)]
    if pc == "link flush":
        if bug == "no_link_flush":
            return [to("active")]
        return [to("active", flush(s))]
    if pc == "active":
        return [to("unlock", durable=ALL)]
    if pc == "send":
        return [to("end", sent=True)]
    return []


def step_commit(s, pc, bug, to, lock, store):
    first, second = "copy entries", "lock"
    if bug == "words_first":
        first, second = "peek", "copy entries"
    if pc == "begin":
        return [to(first)]
    if pc == "peek":
        return [to(second, reg=s.exact)]
    if pc == "copy entries":
        return [to("lock", copied=s.entry)]
    if pc == "lock":
        return lock("copy word")
    if pc == "copy word":
        word = s.reg[COMMIT] if bug == "words_first" else s.exact
        if word & ~s.durable == 0:
            return [to("unlock")]
        return [to("word", reg=word | s.durable)]
    if pc == "word":
        return store("flush", s.reg[COMMIT], "mark")
    if pc == "flush":
        if bug == "early_entries":
            return [to("unlock", durable=s.reg[COMMIT])]
        return [to("kept" if s.link else "link", flush(s))]
    if pc == "link":
        return [to("link flush", links=True)]
    if pc == "link flush":
        return [to("kept", flush(s))]
    if pc == "kept":
        return [to("unlock", durable=s.reg[COMMIT])]
    if pc == "entries":
        return [to("end", sent=s.sent or s.copied)]
    return []


def step_retire(s, pc, bug, to, lock, store):
    if pc == "begin":
        return lock("locked")
    if pc == "locked":
        if s.gone or (s.durable != ALL and bug != "any_zone"):
            return [to("unlock")]
        return [to("read", durable=s.durable if bug == "no_clear" else 0)]
    if pc == "read":
        return [to("promise", reg=s.exact)]
    if pc == "promise":
        if bug == "unserialised":
            return [to("store", durable=s.reg[RETIRE], lock=None)]
        return [to("store", durable=s.reg[RETIRE])]
    if pc == "store":
        if bug == "unserialised":
            return [to("end", words=s.words + (s.reg[RETIRE],))]
        return store("unlock", s.reg[RETIRE], "mark")
    return []


def is_broken(s):
    if s.in_use or not s.sent:
        return False
    return not s.link or any(not w & 1 for w in (s.word,) + s.words)


def starts():
    for exact, durable, word, link in (
            (0, ALL, ALL, True), (0, 0, 0, True), (1, ALL, ALL, True),
            (2, 2, 2, True), (1, 1, 1, True), (0, 0, 0, False)):
        yield State(exact, durable, word, (), link, False, False, False,
                    False, False, False, False, None, ("begin",) * 4,
                    (0,) * 4)


def explore(bug):
    seen, todo = set(), list(starts())
    while todo:
        s = todo.pop()
        if s in seen:
            continue
        seen.add(s)
        if is_broken(s):
            return len(seen), s
        following = [n for who in range(4) for n in step(s, who, bug)]
        if not following and set(s.pc) != {"end"}:
            sys.exit("stuck in %s" % (s,))
        todo += following
    return len(seen), None


def main():
    states, broken = explore(None)
    if broken:
        sys.exit("violated: %s" % (broken,))
    print("holds in %d states" % states)
    states, broken = explore("one_flush")
    if broken:
        sys.exit("violated with one flush: %s" % (broken,))
    print("holds in %d states with one flush for word and link" % states)
    for text, bug in BUGS.items():
        states, broken = explore(bug)
        if not broken:
            sys.exit("not caught in %d states: %s" % (states, text))
        print("caught after %d states: %s" % (states, text))


main()
