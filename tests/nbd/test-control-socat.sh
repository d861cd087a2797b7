#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The control socket as people and other programs talk to QEMU's: socat, with
# commands as QEMU's documents write them (docs/interop/qmp-spec and bitmaps),
# and jq to read the replies.  Nothing of our own clients is used.
#
# QEMU's Python library, qemu.qmp, and its qmp-shell are no packages of Debian
# 12, so they are not tried.
# shellcheck source=functions.sh source-path=SCRIPTDIR
source "$(dirname "$0")/functions.sh"
requires_program socat jq qemu-img qemu-io
requires_plugin file

control=$tmp/qmp-sock
image=$tmp/disk.qcow2
qemu-img create -q -f qcow2 "$image" 64M
touch "$tmp/tiny"
run_nbdkit -U - --filter="$filter" null qcow2-check-at-start=off \
    qcow2-control="$control" --run true >"$tmp/tiny" 2>&1 || true
if grep -q 'built without the library' "$tmp/tiny"; then
    skip "the filter was built without jansson"
fi
start_nbdkit --filter="$filter" file "$image" qcow2-control="$control"

# ---- A conversation, one command after the other ---------------------------

coproc socat { exec socat - "UNIX-CONNECT:$control"; }
# shellcheck disable=SC2154         # Of the coprocess.
socat_pid=$socat_PID
exec {from}<&"${socat[0]}" {to}>&"${socat[1]}"

# heard: the next line, in $line.
heard ()
{
    read -r -t "$patience" line <&"$from" || fail "no line, or no end of one"
    jq -e . >/dev/null 2>&1 <<<"$line" || fail "no JSON: $line"
}

# say TEXT: send it as it is; the reply is $line.  Events are put into $events.
say ()
{
    printf '%s\n' "$1" >&"$to"
    while :; do
        heard
        ! jq -e 'has ("event")' >/dev/null <<<"$line" || {
            events+=$line
            continue
        }
        break
    done
}

# gets JQ-FILTER: it is true of the reply.
gets ()
{
    jq -e "$1" >/dev/null <<<"$line" || fail "not '$1': $line"
}
events=

echo "the greeting"
heard
gets '.QMP.version.qemu | [.major, .minor, .micro] | all (type == "number")'
gets '.QMP.version.package | type == "string"'
gets '.QMP.capabilities == []'

echo "before the negotiation there are no commands"
say '{ "execute": "query-version" }'
gets '.error.class == "CommandNotFound"'

echo "the negotiation"
say '{ "execute": "qmp_capabilities" }'
gets '. == {"return": {}}'
say '{ "execute": "qmp_capabilities" }'
gets '.error.class == "CommandNotFound"'

echo "what the specification has"
say '{ "execute": "query-version", "id": "example" }'
gets '.id == "example" and .return.qemu.major >= 0'
say '{ "execute": "query-commands", "id": {"a": [1, null, "x"]} }'
gets '.id == {"a": [1, null, "x"]}'
for name in qmp_capabilities query-commands query-version transaction \
        block-dirty-bitmap-add block-dirty-bitmap-remove \
        block-dirty-bitmap-clear block-dirty-bitmap-enable \
        block-dirty-bitmap-disable block-dirty-bitmap-merge \
        blockdev-snapshot-internal-sync block_resize \
        blockdev-snapshot-delete-internal-sync query-jobs; do
    gets "[.return[].name] | index (\"$name\") != null"
done
say '{ "execute": "no-such-command" }'
gets '.error.class == "CommandNotFound" and (.error.desc | type == "string")'
say '{ "execute": }'
gets '.error.class == "GenericError"'
say '[1, 2]'
gets '.error.class == "GenericError"'
say '{ "execute": "query-version", "arguments": { "what": 1 } }'
gets '.error.class == "GenericError"'

echo "bitmaps, as QEMU's document adds one"
say '{ "execute": "block-dirty-bitmap-add",
  "arguments": {
    "node": "",
    "name": "bitmap0"
  }
}'
# A bitmap that is not kept is refused.
gets '.error.desc | test ("persistent")'
say '{ "execute": "block-dirty-bitmap-add",
  "arguments": {
    "node": "",
    "name": "bitmap0",
    "granularity": 131072,
    "persistent": true
  }
}'
gets '. == {"return": {}}'
say '{ "execute": "block-dirty-bitmap-disable",
       "arguments": { "node": "", "name": "bitmap0" } }'
gets '. == {"return": {}}'
say '{ "execute": "block-dirty-bitmap-enable",
       "arguments": { "node": "", "name": "bitmap0" } }'
gets '. == {"return": {}}'

echo "a transaction"
say '{ "execute": "transaction",
  "arguments": {
    "actions": [
      { "type": "block-dirty-bitmap-disable",
        "data": { "node": "", "name": "bitmap0" } },
      { "type": "block-dirty-bitmap-add",
        "data": { "node": "", "name": "bitmap1", "persistent": true } },
      { "type": "blockdev-snapshot-internal-sync",
        "data": { "device": "", "name": "snap0" } }
    ]
  }
}'
gets '. == {"return": {}}'
say '{ "execute": "transaction", "arguments": { "actions": [
    { "type": "block-dirty-bitmap-add",
      "data": { "node": "", "name": "bitmap2", "persistent": true } },
    { "type": "block-dirty-bitmap-clear",
      "data": { "node": "", "name": "no-such-bitmap" } } ] } }'
gets '.error.class == "GenericError"'

echo "snapshots"
say '{ "execute": "blockdev-snapshot-internal-sync",
       "arguments": { "device": "", "name": "snapshot0" } }'
gets '. == {"return": {}}'
say '{ "execute": "blockdev-snapshot-internal-sync",
       "arguments": { "device": "", "name": "snapshot0" } }'
gets '.error.class == "GenericError"'
say '{ "execute": "blockdev-snapshot-delete-internal-sync",
       "arguments": { "device": "", "name": "snap0" } }'
gets '.return.name == "snap0" and (.return.id | type == "string")'
gets '.return | has ("vm-state-size") and has ("date-sec") and
    has ("date-nsec") and has ("vm-clock-sec") and has ("vm-clock-nsec")'

echo "events came between, with a time"
jq -se 'map (select (.event)) | length >= 4 and
    all (.timestamp.seconds > 1000000000 and
         (.timestamp.microseconds | . >= 0 and . < 1000000))' \
    >/dev/null <<<"$events" || fail "$events"
exec {to}>&- {from}<&-
kill "$socat_pid" 2>/dev/null || true
wait "$socat_pid" 2>/dev/null || true

# ---- All at once -----------------------------------------------------------

# The manual's way: nobody waits for a reply.
echo "several commands at once"
(echo '{"execute": "qmp_capabilities"}
    {"execute": "query-version", "id": 1}{"execute":"block_resize","id":2,
     "arguments": {"device": "", "size": 134217728}}'
 sleep 1) | socat -t "$patience" - "UNIX-CONNECT:$control" >"$tmp/said" ||
    fail "socat ended with status $?"
jq -se 'map (select (.id)) | map (.id) == [1, 2] and
    all (has ("return"))' "$tmp/said" >/dev/null || fail "$(cat "$tmp/said")"
jq -se 'map (select (.QMP)) | length == 1' "$tmp/said" >/dev/null ||
    fail "$(cat "$tmp/said")"

echo "and input that ends behind the last of them, as with nc -N"
printf '%s' '{"execute":"qmp_capabilities"}{"execute":"query-jobs","id":3}' |
    socat -t "$patience" - "UNIX-CONNECT:$control" >"$tmp/said" ||
    fail "socat ended with status $?"
jq -se 'map (select (.id == 3).return) == [[]]' "$tmp/said" >/dev/null ||
    fail "$(cat "$tmp/said")"

# negotiates TEXT: with this, in a connection of its own, commands work.
negotiates ()
{
    printf '%s\n{"execute":"query-jobs","id":"then"}' "$1" |
        socat -t "$patience" - "UNIX-CONNECT:$control" >"$tmp/said" ||
        fail "socat ended with status $?"
    jq -se 'map (select (.return)) | length == 2 and .[0].return == {} and
        .[1].id == "then"' "$tmp/said" >/dev/null ||
        fail "$1: $(cat "$tmp/said")"
}

echo "negotiations, as QEMU's library and libvirt write them"
negotiates '{"execute": "qmp_capabilities", "arguments": {}}'
negotiates '{"execute": "qmp_capabilities", "arguments": {"enable": []}}'
negotiates '{"execute":"qmp_capabilities","id":"libvirt-1"}'

stop_nbdkit

echo "and QEMU finds what was asked for"
qemu-img check -q "$image" || fail "qemu-img check: $?"
qemu-img info --output=json "$image" >"$tmp/info"
jq -e '."virtual-size" == 134217728 and
    [.snapshots[].name] == ["snapshot0"] and
    (."format-specific".data.bitmaps | sort_by (.name) |
     map ([.name, .granularity, .flags]) ==
     [["bitmap0", 131072, []], ["bitmap1", 65536, ["auto"]]])' "$tmp/info" \
    >/dev/null || fail "$(cat "$tmp/info")"
