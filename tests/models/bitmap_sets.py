#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A new set of bitmaps, made and published while the disk is written to, as
core/edit/transact_live.c and core/track/following.c do it.

The old set has bitmap A, which is enabled.  In the new one A is disabled, or
cleared, or gone, and B was added.  'old' below are A's words of the old set;
'new' those of a bitmap that is enabled in the new set, and 'end' those of A,
disabled.  There are two granules.  These run in every interleaving:

  first, second   requests that change granule 1 and 2
  transaction     closes the gate for the moment, and once more to let the
                  tracker follow the new set, without I/O; all else is done
                  while requests run; any step of it may fail before the header
                  is written

A request sets its bit in memory in each set, and looks whether it is durable
in each; else it writes it there, with the lock, and flushes.  If that fails
the bitmap is marked as in use, in the directory of each set that there is.
What was not flushed may be on the disk or not: words, marks and the header.

Holds, whatever a crash leaves:
SET-A   the header names the old set: A has each granule whose data may be on
        the disk, or is in use;
SET-B   it names the new one: B has each granule that was changed after the
        moment, or is in use; A has each one that was changed before;
SET-C   nothing is written to bits that were released;
SET-D   nobody waits for ever, and the gate is closed without I/O."""
import sys
from collections import namedtuple

ALL = 3
BITS = (1, 2)
T = len(BITS)

State = namedtuple("State", [
    "since", "old", "new",      # in memory: exact bits; None: not followed
    "dur_old", "dur_new",       # of them, those that are durable
    "old_word", "old_words",    # in the file: flushed, and sent since then
    "new_word", "new_words",
    "end_word", "end_words",
    "header", "headers",        # which set it names: flushed, sent
    "marks", "marks_sent",      # of sets: 1 the old one, 2 the new one
    "lost",                     # sets whose bitmap is not kept up any more
    "next",                     # the new directory is there to be marked
    "released",                 # sets whose words are something else
    "changed_all", "changed_new", "changed_end",        # on the disk, perhaps
    "moment", "inside", "closed", "lock", "fails", "broken",
    "pc", "reg"])

BUGS = {
    "durable": {
        "what changed between the two moments is forgotten": "no_since",
        "it is added in memory, and not in the file": "no_catching_up",
        "it ends before the new set is followed": "gap",
        "the old set is not kept up until the switch": "old_early",
        "the switch before the new bits are durable": "no_commit",
        "the old set dropped before the header is durable": "drop_early",
        "old bits released while they are kept up": "release_early",
        "new bits released while they are kept up": "undo_early",
        "a bitmap that cannot be kept up marked in one directory": "one_mark",
        "the new directory not marked for what was lost before": "no_remark",
        "a bit that is durable in one set only is enough": "one_set",
    },
    "lazy": {
        "the new directory without marks": "no_remark",
        "marked after the switch": "late_mark",
        "the bits that A ends with taken before the moment": "early_end",
    },
}


def flush(s):
    def last(word, words):
        return words[-1] if words else word
    return s._replace(
        old_word=last(s.old_word, s.old_words), old_words=(),
        new_word=last(s.new_word, s.new_words), new_words=(),
        end_word=last(s.end_word, s.end_words), end_words=(),
        header=last(s.header, s.headers), headers=(),
        marks=s.marks | s.marks_sent, marks_sent=0)


class Actor:
    def __init__(self, state, who, mode, bug):
        self.s, self.who, self.mode, self.bug = state, who, mode, bug
        self.pc, self.reg = state.pc[who], state.reg[who]

    def to(self, label, state=None, reg=None, **changes):
        state = state or self.s
        pcs, regs = list(state.pc), list(state.reg)
        pcs[self.who] = label
        if reg is not None:
            regs[self.who] = reg
        return state._replace(pc=tuple(pcs), reg=tuple(regs), **changes)

    def put(self, s, which, word):
        """A word of a set is written, and lands later."""
        if s.released & which:
            s = s._replace(broken="SET-C")
        name = "old_words" if which == 1 else "new_words"
        words = getattr(s, name)
        if (words or (getattr(s, name[:-1]),))[-1] == word:
            return s
        return s._replace(**{name: words + (word,)})

    def kept(self, which):
        s = self.s
        exact = s.old if which == 1 else s.new
        return exact is not None and not s.lost & which

    def take_lock(self, label):
        return [self.to(label, lock=self.who)] if self.s.lock is None else []

    # ---- A request ----

    def known(self, which, bit):
        if not self.kept(which):
            return True
        return bool((self.s.dur_old if which == 1 else self.s.dur_new) & bit)

    def set_bit(self, bit):
        s, new = self.s, {}
        if s.since is not None and self.bug != "no_since":
            new["since"] = s.since | bit
        if self.kept(1):
            new["old"] = s.old | bit
        if self.kept(2):
            new["new"] = s.new | bit
        return new

    def missing(self, bit):
        if self.mode == "lazy":
            return 0
        wanted = [w for w in (1, 2) if not self.known(w, bit)]
        if self.bug == "one_set" and self.s.new is not None and \
                len(wanted) == 1:
            return 0
        return sum(wanted)

    def request(self):
        s, bit = self.s, BITS[self.who]
        if self.pc == "begin":
            if s.closed:
                return []
            return [self.to("set", inside=s.inside + 1, reg=s.moment)]
        if self.pc == "set":
            return [self.to("look", **self.set_bit(bit))]
        if self.pc == "look":
            return [self.to("lock" if self.missing(bit) else "send")]
        if self.pc == "lock":
            return self.take_lock("word")
        if self.pc == "word":
            wanted = self.missing(bit)
            if not wanted:
                return [self.to("unlock")]
            n = s
            for which in (1, 2):
                if wanted & which:
                    n = self.put(n, which, ALL)
            out = [self.to("flush %d" % wanted, n)]
            if s.fails:
                out += [self.to("mark %d" % wanted, s, fails=0),
                        self.to("mark %d" % wanted, n, fails=0)]
            return out
        if self.pc.startswith("flush"):
            n = flush(s)
            wanted = int(self.pc[6:])
            return [self.to("unlock", n,
                            dur_old=ALL if wanted & 1 else n.dur_old,
                            dur_new=ALL if wanted & 2 else n.dur_new)]
        if self.pc.startswith("marked"):
            return [self.to("unlock", lost=s.lost | int(self.pc[7:]))]
        if self.pc.startswith("mark"):
            # By table: an entry of a set whose bitmap is failing.
            lost = int(self.pc[5:])
            named = 1 if s.header == 1 else 2
            there = named | (2 if s.next and self.bug != "one_mark" else 0)
            return [self.to("marked %d" % lost, flush(
                s._replace(marks_sent=s.marks_sent | (lost & there))))]
        if self.pc == "unlock":
            return [self.to("send", lock=None)]
        if self.pc == "send":
            new = {"changed_all": s.changed_all | bit}
            if self.reg:
                new["changed_new"] = s.changed_new | bit
            else:
                new["changed_end"] = s.changed_end | bit
            return [self.to("leave", **new)]
        if self.pc == "leave":
            return [self.to("end", inside=s.inside - 1)]
        return []

    # ---- The transaction ----

    def close(self, label):
        if not self.s.closed:
            return [self.to(self.pc, closed=True)]
        return [self.to(label)] if self.s.inside == 0 else []

    def give_up(self):
        if self.bug == "undo_early":
            return self.to("give new bits back")
        return self.to("stop")

    def steps_of_transaction(self):
        s, pc, bug = self.s, self.pc, self.bug
        lazy = self.mode == "lazy"
        if pc == "begin":
            if bug == "early_end":
                return [self.to("close", reg=s.old + 4)]
            return [self.to("close")]
        if pc == "close":
            return self.close("capture")
        if pc == "capture":
            return [self.to("open", moment=1, since=0)]
        if pc == "open":
            return [self.to("copy", closed=False)]
        if pc == "copy":        # what is exact, beside changes
            end = self.reg - 4 if bug == "early_end" else s.old
            since = None if bug == "gap" else s.since
            # What is lost is in use in the new set, too.
            return [self.to("close again", end_words=(end,), new_words=(0,),
                            since=since, reg=s.lost & 1),
                    self.to("stop")]
        if pc == "close again":
            return self.close("follow")
        if pc == "follow":
            if s.closed and s.inside:
                return []
            since = s.since or 0
            new = {"new": since, "dur_new": 0, "since": None}
            if bug == "old_early":
                new["old"] = None
            return [self.to("open again", **new)]
        if pc == "open again":
            return [self.to("lock", closed=False)]
        if pc == "lock":
            return self.take_lock("remark")
        if pc == "remark":
            n = s._replace(next=True)
            if bug not in ("no_remark", "late_mark"):
                lost = 2 if lazy else s.lost & 2
                n = n._replace(marks_sent=n.marks_sent | lost)
            return [self.to("catch up", n)]
        if pc == "catch up":
            word = s.new | (s.new_words[-1] if s.new_words else s.new_word)
            if lazy or bug == "no_catching_up" or s.lost & 2:
                return [self.to("unlock", dur_new=s.new)]
            n = self.put(s, 2, word)
            out = [self.to("unlock", n, dur_new=s.dur_new | s.new)]
            if s.fails:
                out += [self.to("failed", fails=0),
                        self.to("failed", n, fails=0)]
            return out
        if pc == "failed":
            return [self.to("stop", lock=None)]
        if pc == "unlock":
            return [self.to("commit", lock=None)]
        if pc == "commit":
            n = s if bug == "no_commit" else flush(s)
            return [self.to("header", n), self.give_up()]
        if pc == "header":
            n = s._replace(headers=(2,))
            return [self.to("drop" if bug == "drop_early" else "durable", n)]
        if pc == "durable":
            n = flush(s)
            if bug == "release_early":
                return [self.to("release", n)]
            return [self.to("drop", n)]
        if pc == "drop":        # with the lock
            if s.lock is not None:
                return []
            n = s._replace(old=None, next=False)
            if bug == "late_mark":
                n = n._replace(marks_sent=n.marks_sent | 2)
            if bug == "drop_early":
                return [self.to("durable late", n)]
            if bug == "release_early":
                return [self.to("end", n)]
            return [self.to("release", n)]
        if pc == "durable late":
            return [self.to("end", flush(s))]
        if pc == "release":
            return [self.to("drop" if bug == "release_early" else "end",
                            released=s.released | 1)]
        if pc == "stop":        # with the lock
            if s.lock is not None:
                return []
            return [self.to("give new bits back", new=None, next=False)]
        if pc == "give new bits back":
            n = s._replace(released=s.released | 2)
            if bug == "undo_early":
                return [self.to("stop late", n)]
            return [self.to("end", n)]
        if pc == "stop late":
            if s.lock is not None:
                return []
            return [self.to("end", new=None, next=False)]
        return []

    def steps(self):
        return self.steps_of_transaction() if self.who == T else \
            self.request()


def violated(s, mode):
    if s.broken:
        return s.broken
    headers = {s.header} | set(s.headers)
    if 1 in headers:
        if s.released & 1:
            return "SET-A"
        if not s.marks & 1 and any(s.changed_all & ~w for w in
                                   (s.old_word,) + s.old_words):
            return "SET-A"
    if 2 in headers:
        if s.released & 2:
            return "SET-B"
        if not s.marks & 2 and any(s.changed_new & ~w for w in
                                   (s.new_word,) + s.new_words):
            return "SET-B"
        if not s.reg[T] and any(s.changed_end & ~w for w in
                                (s.end_word,) + s.end_words):
            return "SET-B"
    if s.closed and s.pc[T] not in ("close", "capture", "open", "close again",
                                    "follow", "open again"):
        return "SET-D"
    return None


def starts(mode):
    lazy = mode == "lazy"
    # Words that nobody has written are anything.
    for dur in ((0,) if lazy else (0, ALL)):
        yield State(None, 0, None, dur, 0, dur, (), 0, (), 0, (), 1, (),
                    1 if lazy else 0, 0, 0, False, 0, 0, 0, 0, 0, 0, False,
                    None, 0 if lazy else 1, "", ("begin",) * (T + 1),
                    (0,) * (T + 1))


def explore(mode, bug):
    seen, todo = set(), list(starts(mode))
    while todo:
        s = todo.pop()
        if s in seen:
            continue
        seen.add(s)
        why = violated(s, mode)
        if why:
            return len(seen), why
        following = [n for who in range(T + 1)
                     for n in Actor(s, who, mode, bug).steps()]
        if not following and set(s.pc) != {"end"}:
            sys.exit("stuck in %s" % (s,))
        todo += following
    return len(seen), None


def main():
    for mode, bugs in BUGS.items():
        states, why = explore(mode, None)
        if why:
            sys.exit("%s: violated: %s" % (mode, why))
        print("%s: holds in %d states" % (mode, states))
        for text, bug in bugs.items():
            states, why = explore(mode, bug)
            if not why:
                sys.exit("%s: not caught in %d states: %s" % (mode, states,
                                                              text))
            print("%s: %s caught after %d states: %s" % (mode, why, states,
                                                         text))


main()
