# SPDX-License-Identifier: BSD-3-Clause
"""control_beside_qemu.py OURS THEIRS: the same commands to two control
sockets, ours and that of qemu-storage-daemon, which serve copies of one image,
a disk of 8 MiB with a bitmap b.

Compared is the shape of what comes back: for errors the class, for anything
else which members of which types there are, and ids.  Where the two are meant
to differ DIFFERENT says why, and both answers; a line in there that is not
true any more fails the test, too.
"""

import json
import sys

from qmp_client import QMP

MIB = 1 << 20
ADD, TAKE = "block-dirty-bitmap-add", "blockdev-snapshot-internal-sync"
CLEAR, MERGE = "block-dirty-bitmap-clear", "block-dirty-bitmap-merge"
ENABLE, DISABLE = "block-dirty-bitmap-enable", "block-dirty-bitmap-disable"
REMOVE = "block-dirty-bitmap-remove"
DELETE = "blockdev-snapshot-delete-internal-sync"
OK = "{}"

# Label: ours, theirs, why.
DIFFERENT = {
    "greeting": (
        '{"QMP": {"capabilities": [], "version": VERSION}}',
        '{"QMP": {"capabilities": ["str"], "version": VERSION}}',
        "commands out of band are for a main loop that is stuck; here each "
        "connection has a thread"),
    "enable oob": ("GenericError", OK, "the same"),
    "bitmap in memory": (
        "GenericError", OK, "bitmaps that are not stored would be lost "
        "without a word"),
    **{label: (OK, "GenericError", "a plugin that serves one image does so "
               "under any name") for label in (
                   "add: no such node", "take: no such node",
                   "merge of no such node", "size of no device",
                   "size of none")},
    "smaller": ("GenericError", OK, "the end of the disk would be lost: "
                "x-q2-shrink says that it may"),
}


def shape(value):
    """Of lists only the first item: all have the same.  QMP lets servers add
    members; ours are named so that nobody else has them."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())
                if not key.startswith(("x-q2-", "nbdkit-qcow2"))}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def describe(reply):
    """One line."""
    if "error" in reply:
        error = reply["error"]
        extra = [k for k in error if k not in ("class", "desc") and
                 not k.startswith("x-q2-")]
        assert isinstance(error["desc"], str) and error["desc"] and \
            not extra, reply
        text = error["class"]
    else:
        text = json.dumps(shape(reply.get("return", reply)))
        version = {"qemu": {"major": "int", "micro": "int", "minor": "int"},
                   "package": "str"}
        text = text.replace(json.dumps(dict(sorted(version.items()))),
                            "VERSION")
    if "id" in reply:
        text += f" id {json.dumps(reply['id'])}"
    more = set(reply) - {"return", "error", "id", "QMP"}
    return text + (f" and {sorted(more)}" if more else "")


def answer(peer, text):
    """The first one, or what becomes of the connection."""
    said = []
    peer.send(text if isinstance(text, bytes) else text.encode())
    peer.send(b'{"execute": "query-jobs", "id": "after"}')
    try:
        while not said or said[-1].get("id") != "after":
            said.append(peer.read())
    except EOFError:
        said.append({"closed": True})
    except OSError:
        said.append({"silent": True})
    return said[0] if said[-1].get("id") == "after" else said[-1]


class Both:
    def __init__(self, ours, theirs):
        self.paths = ours, theirs
        self.nodes = "", "q"
        self.peers = []
        self.used, self.wrong, self.count = set(), [], 0
        self.said = ()

    def connect(self, negotiate=True):
        for peer in self.peers:
            peer.close()
        self.peers = [QMP(p, negotiate=negotiate, timeout=20)
                      for p in self.paths]

    def judge(self, label, ours, theirs):
        self.count += 1
        self.said = ours, theirs
        found = describe(ours), describe(theirs)
        wanted = DIFFERENT.get(label)
        if wanted:
            self.used.add(label)
            if found != wanted[:2]:
                self.wrong.append(f"{label}: {found}, not {wanted[:2]}")
        elif found[0] != found[1]:
            self.wrong.append(f"{label}: ours {found[0]}, theirs {found[1]}: "
                              f"{ours}, {theirs}")

    def raw(self, label, text):
        """Over connections of their own, which must be good for more."""
        self.connect()
        self.judge(label, *[answer(peer, text) for peer in self.peers])
        self.connect()

    def message(self, label, message):
        """NODE is what each calls the disk."""
        replies = []
        for peer, node in zip(self.peers, self.nodes):
            text = json.dumps(message).replace('"NODE"', json.dumps(node))
            peer.send(text.encode())
            replies.append(peer.read())
        self.judge(label, *replies)

    def command(self, label, name, /, **arguments):
        self.message(label, {"execute": name, "arguments": arguments})


def negotiation(both):
    both.connect(negotiate=False)
    both.judge("greeting", *[p.greeting for p in both.peers])
    both.message("too early", {"execute": "query-version", "id": 1})
    both.message("none, too early", {"execute": "nonsense"})
    both.command("enable nonsense", "qmp_capabilities", enable=["nonsense"])
    both.command("enable a number", "qmp_capabilities", enable=5)
    both.command("enable what", "qmp_capabilities", other=[])
    both.command("enable nothing", "qmp_capabilities", enable=[])
    both.message("again", {"execute": "qmp_capabilities"})
    both.connect(negotiate=False)
    both.command("enable oob", "qmp_capabilities", enable=["oob"])
    both.connect(negotiate=False)
    both.message("without arguments", {"execute": "qmp_capabilities",
                                       "id": [1, {"a": None}]})


def messages(both):
    both.connect()
    for n, value in enumerate((0, -1, 1.5, "text", "", None, True, [], {},
                               [1, [2]], {"a": {"b": 3}}, "\u00e4\n")):
        both.message(f"id {n}", {"execute": "query-jobs", "id": value})
        both.message(f"id {n}, error", {"execute": "nonsense", "id": value})
    for text in ('{"execute": }', '[]', '"text"', '5', 'null', '{}',
                 '{"id":1}', '{"execute": 5}', '{"execute": null}', '{"execute": ""}',
                 '{"execute": "query-jobs", "arguments": []}',
                 '{"execute": "query-jobs", "arguments": null}',
                 '{"execute": "query-jobs", "other": 1}',
                 '{"execute": "query-jobs", "arguments": {}, "id": 7}',
                 '{"execute": "query-jobs", "execute": "query-jobs"}',
                 '{"exec-oob": "query-jobs"}', '{"execute": "Query-Jobs"}',
                 '{"execute": "query-jobs" "id": 1}', '{"execute"}', '}', ']',
                 '{"execute": "query-jobs", "id": 01}', '\x00', '\x7f',
                 '{"execute": "query-jobs", "id": nan}',
                 '{"execute": "query-\x01jobs"}', '{"id": "\\q"}',
                 '{"execute": "query-jobs", "id": "\\ud800"}',
                 '{"execute": "query-jobs", "arguments": {"a": 1}, "id": 2}',
                 ):
        both.raw(f"message {text!r}", text + "\r\n")
    both.raw("no UTF-8", b'{"execute": "\xff\xfe"}\r\n')


def looks(both):
    both.connect()
    both.message("version", {"execute": "query-version"})
    both.command("version, more", "query-version", more=1)
    both.message("commands", {"execute": "query-commands"})
    ours, theirs = [{c["name"] for c in r["return"]} for r in both.said]
    both.command("commands, more", "query-commands", more=1)
    both.message("jobs", {"execute": "query-jobs"})
    both.command("jobs, more", "query-jobs", more=1)
    for name in ("job-cancel", "job-dismiss"):
        both.command(f"{name}: no such job", name, id="none")
        both.command(f"{name}: no id", name)
        both.command(f"{name}: a number", name, id=5)
        both.command(f"{name}: empty", name, id="")
        both.command(f"{name}: more", name, id="none", force=True)
    alone = {c for c in ours - theirs if not c.startswith("x-q2-")}
    if alone:
        both.wrong.append(f"names that are not QEMU's: {alone}")


def bitmaps(both):
    both.connect()
    good = {"node": "NODE", "name": "b1", "persistent": True}
    both.command("add", ADD, **good)
    both.command("add, twice", ADD, **good)
    both.command("bitmap in memory", ADD, node="NODE", name="m")
    for label, more in (
            ("granularity 65536", {"granularity": 65536}),
            ("granularity 100", {"granularity": 100}),
            ("granularity 256", {"granularity": 256}),
            ("granularity 0", {"granularity": 0}),
            ("granularity -512", {"granularity": -512}),
            ("granularity 2^31", {"granularity": 1 << 31}),
            ("granularity 2^32", {"granularity": 1 << 32}),
            ("granularity 1.5", {"granularity": 1.5}),
            ("granularity text", {"granularity": "64k"}),
            ("disabled", {"disabled": True}), ("disabled 1", {"disabled": 1}),
            ("persistent text", {"persistent": "on"}),
            ("no name", {"name": ""}), ("a long name", {"name": "x" * 1023}),
            ("too long a name", {"name": "x" * 1024}),
            ("a number for a name", {"name": 5}),
            ("no such node", {"node": "none"}),
            ("a number for a node", {"node": 1}), ("more", {"more": 1})):
        both.command(f"add: {label}", ADD, **{
            **good, "name": f"n {label}", **more})
    both.command("add: only a node", ADD, node="NODE", persistent=True)
    both.command("add: only a name", ADD, name="c", persistent=True)
    for name in (CLEAR, DISABLE, ENABLE, REMOVE):
        both.command(f"{name}: none", name, node="NODE", name="none")
        both.command(f"{name}: no such node", name, node="none", name="none")
        both.command(f"{name}: no name", name, node="NODE")
        both.command(f"{name}: empty", name, node="NODE", name="")
        both.command(f"{name}: no node", name, name="b1")
        both.command(f"{name}: more", name, node="NODE", name="b1", more=1)
        both.command(f"{name}: a number", name, node="NODE", name=1)
        if name != REMOVE:
            both.command(name, name, node="NODE", name="b1")
            both.command(f"{name}, twice", name, node="NODE", name="b1")
    into = {"node": "NODE", "target": "b1"}
    both.command("merge", MERGE, **into, bitmaps=["b"])
    both.command("merge of another node", MERGE, **into,
                 bitmaps=[{"node": "NODE", "name": "b"}])
    # A merge of nothing ends QEMU 7.2 with a segmentation fault.
    both.command("merge of none", MERGE, **into, bitmaps=["none"])
    both.command("merge of it", MERGE, **into, bitmaps=["b1"])
    both.command("merge of two", MERGE, **into, bitmaps=["b", "b"])
    both.command("merge of a number", MERGE, **into, bitmaps=[1])
    both.command("merge of text", MERGE, **into, bitmaps="b")
    both.command("merge of half", MERGE, **into, bitmaps=[{"name": "b"}])
    both.command("merge of more", MERGE, **into,
                 bitmaps=[{"node": "NODE", "name": "b", "more": 1}])
    both.command("merge of no such node", MERGE, **into,
                 bitmaps=[{"node": "none", "name": "b"}])
    both.command("merge into none", MERGE, node="NODE", target="none",
                 bitmaps=["b"])
    both.command("merge of what", MERGE, **into)
    both.command("merge: more", MERGE, **into, bitmaps=["b"], more=1)
    # Another granularity.
    both.command("add 4096", ADD, node="NODE", name="g", persistent=True,
                 granularity=4096)
    both.command("merge 4096", MERGE, **into, bitmaps=["g"])
    both.command("remove", REMOVE, node="NODE", name="b1")
    both.command("remove, twice", REMOVE, node="NODE", name="b1")


def action(kind, **data):
    return {"type": kind, "data": data}


def transactions(both):
    both.connect()
    b, t1 = {"node": "NODE", "name": "b"}, {"node": "NODE", "name": "t1"}
    add = action(ADD, **t1, persistent=True)
    for label, actions in (
            ("nothing", []), ("a number", [5]), ("text", "text"),
            ("empty", [{}]), ("no data", [{"type": ADD}]),
            ("no type", [{"data": b}]),
            ("no such type", [action("nonsense", **b)]),
            ("more", [{**action(CLEAR, **b), "more": 1}]),
            ("inside more", [action(CLEAR, **b, more=1)]),
            ("inside less", [action(CLEAR, node="NODE")]),
            ("the second fails", [add, action(CLEAR, node="NODE",
                                              name="none")]),
            # It is not there, or that would fail.
            ("two", [add, action(DISABLE, **b)]),
            ("the same twice", [action(ADD, node="NODE", name="t2",
                                       persistent=True)] * 2),
            ("of what is new", [
                action(ADD, node="NODE", name="t3", persistent=True),
                action(CLEAR, node="NODE", name="t3")]),
            ("a snapshot", [action(TAKE, device="NODE", name="t"),
                            action(ENABLE, **b)]),
            ("abort", [action("abort")])):
        both.command(f"transaction: {label}", "transaction", actions=actions)
    both.command("transaction: no actions", "transaction")
    both.command("transaction: and more", "transaction", actions=[], more=1)


def snapshots(both):
    both.connect()
    both.command("take", TAKE, device="NODE", name="s1")
    both.command("take, twice", TAKE, device="NODE", name="s1")
    both.command("take: no name", TAKE, device="NODE", name="")
    both.command("take: a name", TAKE, device="NODE")
    both.command("take: of what", TAKE, name="s2")
    both.command("take: no such node", TAKE, device="none", name="s2")
    both.command("take: a number", TAKE, device="NODE", name=2)
    both.command("take: more", TAKE, device="NODE", name="s2", more=1)
    both.command("delete", DELETE, device="NODE", name="s1")
    both.command("delete, twice", DELETE, device="NODE", name="s1")
    both.command("take again", TAKE, device="NODE", name="s1")
    both.command("delete: both wrong", DELETE, device="NODE", name="s1",
                 id="77")
    both.command("delete: no such id", DELETE, device="NODE", id="77")
    both.command("delete: neither", DELETE, device="NODE")
    both.command("delete: empty", DELETE, device="NODE", name="", id="")
    both.command("delete: no such node", DELETE, device="none", name="s9")
    both.command("delete: a number", DELETE, device="NODE", id=1)
    both.command("delete: more", DELETE, device="NODE", name="s1", more=1)


def sizes(both):
    both.connect()
    node = {"node-name": "NODE"}
    both.command("larger", "block_resize", **node, size=9 * MIB)
    both.command("the same", "block_resize", **node, size=9 * MIB)
    both.command("smaller", "block_resize", **node, size=8 * MIB)
    for label, size in (("negative", -1), ("text", "9M"), ("1.5", 1.5),
                        ("huge", (1 << 63) - 1), ("too large", 1 << 63),
                        ("a list", []), ("null", None)):
        both.command(f"size {label}", "block_resize", **node, size=size)
    both.command("no size", "block_resize", **node)
    both.command("size of what", "block_resize", size=9 * MIB)
    both.command("size of none", "block_resize", **{"node-name": "none"},
                 size=9 * MIB)
    both.command("size of no device", "block_resize", device="none",
                 size=9 * MIB)
    both.command("size: more", "block_resize", **node, size=9 * MIB, more=1)


def main():
    both = Both(*sys.argv[1:3])
    for test in (negotiation, messages, looks, bitmaps, transactions,
                 snapshots, sizes):
        test(both)
    for label in set(DIFFERENT) - both.used:
        both.wrong.append(f"{label}: never asked")
    print(f"{both.count} answers compared, {len(both.used)} differ as meant")
    if both.wrong:
        sys.exit("\n".join(both.wrong))


if __name__ == "__main__":
    main()
