#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# README.md is enough: in Debian 12, 13 and sid with nothing else installed,
# scripts/serve serves its sample, the lines of "Build, test, measure" install
# the filter, and the examples print what README shows.  It says how long each
# takes.
#
# Suites are chosen with QCOW2_COMPAT_SUITES; see roots.sh.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"

# serve WHAT: runs scripts/serve until it serves, connects, and stops it with
# ^C as a user would.
serve ()
{
    local begin=$SECONDS

    cat > "$root/serve" <<'END'
set -e
cd /home/src
# In a script, what runs in the background ignores ^C.
env --default-signal=INT ./scripts/serve > /tmp/said 2>&1 &
server=$!
for i in $(seq 6000); do
    uri=$(sed -n 's/^ *\(nbd+unix:.*\)/\1/p' /tmp/said)
    [ -z "$uri" ] || break
    kill -0 "$server" || { cat /tmp/said; exit 1; }
    sleep 0.1
done
nbdinfo --size "$uri" | grep -x 67108864
# Its first words are those of the file system.
nbdcopy "$uri" /tmp/sample.raw
debugfs -R 'cat hello.txt' /tmp/sample.raw | grep 'Hello from inside'
kill -INT "$server"
wait "$server" || [ $? -eq 130 ]
END
    quiet in_root bash /serve
    echo "$suite: $1: $((SECONDS - begin)) s"
}

# The commands of the README, but for those that are for other purposes.
build ()
{
    local begin=$SECONDS commands

    commands=$(sed -n '/^## Build, test, measure/,/^## /s/^\$ //p' \
                   "$top_srcdir/README.md" |
               sed -e 's/ && make check//' -e 's/^sudo //')
    [ "$(wc -l <<< "$commands")" -eq 2 ] || fail "README: $commands"
    quiet in_root bash -ec "cd /home/src; ${commands//$'\n'/; }"
    echo "$suite: built and installed: $((SECONDS - begin)) s"
}

examples ()
{
    local so

    # What only the test needs: it is in Python, and plays a web server.
    quiet in_root apt-get install -q -y --no-install-recommends python3
    so=$(in_root sh -c 'echo /usr/lib/*/nbdkit/filters/nbdkit-qcow2-filter.so')
    quiet in_root python3 /home/src/tests/style/examples.py "$so" \
        /home/src/README.md
    echo "$suite: README's examples are true"
}

try ()
{
    new_root "$1" "new-$1" --minimal || return $?
    quiet copy_source "$root/home/src"
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    serve "from nothing to a served disk"
    serve "the second time"
    build
    examples
    clean_root "new-$1"
}

each_suite try
