#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every interleaving of changes that pass a gate and of a thread that closes
it (core/base/gate.[ch]).

Each step is one atomic operation, as sequentially consistent memory orders
them; a wait on the condition is a step that is possible after a signal.
Properties:

GATE-1  while the gate is closed nobody is inside;
GATE-2  no thread waits for ever: in every state in which no step is possible
        all threads are done.

Variants are planted bugs; each must violate a property:

look_first   a change looks at the flag before it counts itself
no_look      it does not look at all
no_tell      one that leaves does not tell the thread that waits
tell_early   it looks whether to tell before it has counted itself out
no_reopen    opening does not tell those that wait
"""
import sys

CHANGES = 2
ROUNDS = 2
# begun, ended, closed, told (threads that wait and were told), pcs, rounds,
# inside
VARIANTS = {"look_first": 1, "no_look": 1, "no_tell": 2, "tell_early": 2,
            "no_reopen": 2}


def change_steps(state, i, variant):
    begun, ended, closed, told, pcs, rounds, seen = state

    def at(pc, **new):
        s = dict(begun=begun, ended=ended, closed=closed, told=told,
                 rounds=rounds, seen=seen)
        s.update(new)
        p = list(pcs)
        p[i] = pc
        return (s["begun"], s["ended"], s["closed"], s["told"], tuple(p),
                s["rounds"], s["seen"])

    def replaced(values, value):
        v = list(values)
        v[i] = value
        return tuple(v)

    closer = CHANGES
    pc = pcs[i]
    if pc == "start":
        if rounds[i] == ROUNDS:
            return [at("done")]
        if variant == "look_first":
            return [at("look")]
        return [at("look", begun=begun + 1)]
    if pc == "look":
        if variant == "look_first":
            return [at("count") if not closed else at("wait")]
        if variant == "no_look":
            return [at("inside")]
        return [at("out") if closed else at("inside")]
    if pc == "count":
        return [at("inside", begun=begun + 1)]
    if pc == "inside":
        return [at("leave")]
    if pc in ("leave", "out"):
        after = "start" if pc == "leave" else "wait"
        r = rounds if pc == "out" else replaced(rounds, rounds[i] + 1)
        if variant == "tell_early":
            return [at(pc + "2", seen=replaced(seen, closed))]
        return [at("tell-" + after, ended=ended + 1, rounds=r)]
    if pc in ("leave2", "out2"):
        after = "start" if pc == "leave2" else "wait"
        r = rounds if pc == "out2" else replaced(rounds, rounds[i] + 1)
        return [at("told-" + after if seen[i] else after, ended=ended + 1,
                   rounds=r)]
    if pc.startswith("tell-"):
        after = pc[5:]
        if variant == "no_tell" or not closed:
            return [at(after)]
        return [at("told-" + after)]
    if pc.startswith("told-"):
        return [at(pc[5:], told=told | 1 << closer | (1 << CHANGES) - 1)]
    if pc == "wait":            # under the lock: look, else sleep
        return [at("sleep", told=told & ~(1 << i)) if closed else at("start")]
    if pc == "sleep":
        return [at("wait")] if told >> i & 1 else []
    return []


def closer_steps(state, variant):
    begun, ended, closed, told, pcs, rounds, seen = state
    i = CHANGES

    def at(pc, **new):
        s = dict(closed=closed, told=told, rounds=rounds)
        s.update(new)
        p = list(pcs)
        p[i] = pc
        return (begun, ended, s["closed"], s["told"], tuple(p), s["rounds"],
                s["seen"] if "seen" in s else seen)

    pc = pcs[i]
    if pc == "start":
        if rounds[i] == ROUNDS:
            return [at("done")]
        return [at("look", closed=True, told=told & ~(1 << i))]
    if pc == "look":
        return [at("closed") if begun == ended else at("sleep")]
    if pc == "sleep":
        return [at("look", told=told & ~(1 << i))] if told >> i & 1 else []
    if pc == "closed":
        return [at("open")]
    if pc == "open":
        r = list(rounds)
        r[i] += 1
        return [at("tell", closed=False, rounds=tuple(r))]
    if pc == "tell":
        if variant == "no_reopen":
            return [at("start")]
        return [at("start", told=told | (1 << CHANGES) - 1)]
    return []


def normal(state):
    """Only the difference of the counts matters."""
    begun, ended, *rest = state
    return (begun - ended, 0, *rest)


def run(variant):
    start = (0, 0, False, 0, ("start",) * (CHANGES + 1), (0,) * (CHANGES + 1),
             (False,) * CHANGES)
    seen = {start}
    todo = [start]
    broken = set()
    while todo:
        state = todo.pop()
        pcs = state[4]
        if pcs[CHANGES] in ("closed", "open") and \
                any(p in ("inside", "leave") for p in pcs[:CHANGES]):
            broken.add(1)
        following = closer_steps(state, variant)
        for i in range(CHANGES):
            following += change_steps(state, i, variant)
        if not following and any(p != "done" for p in pcs):
            broken.add(2)
        for s in map(normal, following):
            if s not in seen:
                seen.add(s)
                todo.append(s)
    return len(seen), broken


def main():
    states, broken = run("ok")
    print(f"ok: {states} states, violated: {sorted(broken) or 'nothing'}")
    failed = bool(broken)
    for variant, prop in VARIANTS.items():
        states, broken = run(variant)
        print(f"{variant}: {states} states, violated: "
              f"{', '.join(f'GATE-{p}' for p in sorted(broken)) or 'nothing'}")
        failed |= prop not in broken
    return failed


if __name__ == "__main__":
    sys.exit(main())
