#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# README's two commands, taken from README.md, in Debian 12, 13 and sid with
# nothing but apt and sudo.  A user with a fresh copy of the sources serves an
# image with the first one, and nbdinfo and qemu-img read it.  Packages come by
# sudo.  Then root does the same with a copy of its own, for which nothing has
# to be installed.  Of the second command, which runs all tests, the user has
# what comes before them: packages, the build, and the programs of the tests.
#
#     WHOLE=yes QCOW2_COMPAT_SUITES=trixie tests/packaging/test-readme-long.sh
#
# runs all of it, about half an hour; WHOLE=no leaves the second command out.
#
# Prints how long each takes, downloads included, and how much of that time a
# processor was busy for it; docs/TESTING.md has figures.
# Suites are chosen with QCOW2_COMPAT_SUITES; see roots.sh.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"
requires qemu-img

# ---- What README says ------------------------------------------------------

readme=$top_srcdir/README.md
# The first line that is typed in it.
serve=$(sed -n '/^\$ /{ s/^\$ //p; q; }' "$readme")
# The item of the list that runs all tests.
# shellcheck disable=SC2016         # Backticks of Markdown.
tests=$(sed -n 's/^\* `\([^`]*\)` runs all tests.*/\1/p' "$readme")
[ "$serve" = "${serve% disk.qcow2} disk.qcow2" ] && [ -n "$tests" ] ||
    fail "README does not serve disk.qcow2 ($serve), or run tests ($tests)"
grep -q "^\* \`${serve%% *} " "$readme" ||
    fail "README does not explain ${serve%% *}"
# What it says when it is ready.
said=$(sed -n 's/^serve: disk.qcow2, \(.*\), until ^C:$/\1/p' "$readme")
[ -n "$said" ] || fail "README does not show what the first command says"
echo "README: $serve: $said"
echo "README: $tests"

# ---- The user --------------------------------------------------------------

# The programs for the root.  They run in the folder with sources and image.
make_programs ()
{
    cat > "$root/usr/local/bin/figures" <<'END'
# Prints the downloads of the log 'said', the seconds since 'begin', and those
# of a processor.
figures ()
{
    end=$(date +%s%N)
    sed -n 's/^setup: Need to get \(.*\) of archives.*/downloads: \1/p
            s/^setup: *Download size: \(.*\)/downloads: \1/p' "$said"
    awk -v ns="$((end - begin))" 'BEGIN { printf "seconds: %.0f\n", ns / 1e9 }'
    # Not of a shell in a pipe; the second line is that of the children.
    times > "$said"
    awk -F '[ms ]+' 'NR == 2 {
        printf "of a processor: %.0f\n", 60 * ($1 + $3) + $2 + $4 }' "$said"
}
END
    cat > "$root/usr/local/bin/first" <<END
#!/bin/bash
set -e
. /usr/local/bin/figures
command='$serve'
wanted='$said'
END
    cat >> "$root/usr/local/bin/first" <<'END'
said=$(mktemp)
begin=$(date +%s%N)
$command > "$said" 2>&1 &
serve=$!
until grep -q 'until ^C:$' "$said"; do
    kill -0 "$serve" 2>/dev/null || { cat "$said"; exit 1; }
    sleep 0.1
done
served=$(date +%s%N)
uri=$(sed -n 's/^  \(nbd+unix:.*\)/\1/p' "$said")
grep -x "serve: .*disk.qcow2, $wanted, until ^C:" "$said"
nbdinfo "$uri"
nbdinfo --size "$uri" | grep -x 1073741824
qemu-img info "$uri" | grep '^virtual size: 1 GiB (1073741824 bytes)'
kill "$serve"
wait "$serve"
[ ! -e "${uri#*socket=}" ]
begin=$((begin + $(date +%s%N) - served))
figures
END
    cat > "$root/usr/local/bin/second" <<END
#!/bin/bash
set -e
. /usr/local/bin/figures
command='$tests'
whole='${WHOLE-}'
END
    cat >> "$root/usr/local/bin/second" <<'END'
said=$(mktemp)
begin=$(date +%s%N)
if [ -n "$whole" ]; then
    status=0
    $command > "$said" 2>&1 || status=$?
    # What has failed comes last: of a long log only its end is shown.
    [ "$status" -eq 0 ] || tail -n 300 "$said"
    grep -E '^(==== |skipped: )' "$said" || :
    tail -n 1 "$said"
else
    # Its own first step, then the programs of the tests alone.
    grep -q 'scripts/setup" --tests$' "$command"
    { ./scripts/setup --tests; make -C tests -j"$(nproc)" check TESTS=; } \
        > "$said" 2>&1 || { tail -n 60 "$said"; exit 1; }
    status=0
fi
figures
exit "$status"
END
    chmod 755 "$root/usr/local/bin/first" "$root/usr/local/bin/second"
}

# as USER FOLDER PROGRAM: with the paths of Debian.
as ()
{
    local path=/usr/local/bin:/usr/bin:/bin

    [ "$1" != root ] || path=/usr/local/sbin:/usr/sbin:/sbin:$path
    quiet in_root runuser -u "$1" -- env HOME="${2%/*}" PATH="$path" \
        sh -c "cd '$2' && exec $3"
    ! grep -E '^(==== |skipped: |[0-9]+ passed)' "$tmp/log" ||
        [ -n "${WHOLE-}" ] || fail "it has run tests"
    echo "$suite: $3 command, $1:" "$(tail -n 3 "$tmp/log" |
        grep -E '^(downloads|seconds|of)' | paste -sd, | sed 's/,/, /g')"
}

copy_for ()
{
    quiet copy_source "$root$2"
    quiet qemu-img create -q -f qcow2 "$root$2/disk.qcow2" 1G
    quiet in_root chown -R "$1:" "$2"
}

try ()
{
    new_root "$1" "readme-$1" --minimal || return $?
    make_programs
    quiet in_root apt-get update -q
    quiet in_root apt-get install -q -y --no-install-recommends sudo
    quiet in_root useradd --create-home --shell /bin/bash newcomer
    echo 'newcomer ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/newcomer"
    copy_for newcomer /home/newcomer/nbdkit-qcow2-filter
    as newcomer /home/newcomer/nbdkit-qcow2-filter first
    copy_for root /root/nbdkit-qcow2-filter
    as root /root/nbdkit-qcow2-filter first
    [ "${WHOLE-}" = no ] ||
        as newcomer /home/newcomer/nbdkit-qcow2-filter second
    clean_root "readme-$1"
}

echo "at a load of $(cut -d ' ' -f 1 /proc/loadavg), $(nproc) processors"
each_suite try
echo "at a load of $(cut -d ' ' -f 1 /proc/loadavg)"
