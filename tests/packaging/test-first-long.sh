#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# README's first command, in Debian 12, 13 and sid with nothing but apt and
# sudo: a user with a fresh copy of the sources runs scripts/serve with an
# image, and nbdinfo and qemu-img read it.  Packages come by sudo.  Then root
# does the same with a copy of its own, for which nothing has to be installed.
#
# Prints how long each takes, downloads included, and how much of that time a
# processor was busy for it; docs/TESTING.md has figures.
# Suites are chosen with QCOW2_COMPAT_SUITES; see roots.sh.

# shellcheck source=tests/packaging/roots.sh
. "$(dirname "$0")/roots.sh"
requires qemu-img

# The program for the root.  It runs in the folder with sources and image.
make_program ()
{
    cat > "$root/usr/local/bin/first" <<'END'
#!/bin/bash
set -e
said=$(mktemp)
begin=$(date +%s%N)
./scripts/serve disk.qcow2 > "$said" 2>&1 &
serve=$!
until grep -q 'until ^C:$' "$said"; do
    kill -0 "$serve" 2>/dev/null || { cat "$said"; exit 1; }
    sleep 0.1
done
end=$(date +%s%N)
uri=$(sed -n 's/^  \(nbd+unix:.*\)/\1/p' "$said")
nbdinfo "$uri"
nbdinfo --size "$uri" | grep -x 1073741824
qemu-img info "$uri" | grep '^virtual size: 1 GiB (1073741824 bytes)'
kill "$serve"
wait "$serve"
[ ! -e "${uri#*socket=}" ]
sed -n 's/^setup: Need to get \(.*\) of archives.*/downloads: \1/p
        s/^setup: *Download size: \(.*\)/downloads: \1/p' "$said"
awk -v ns="$((end - begin))" \
    'BEGIN { printf "seconds until it is served: %.1f\n", ns / 1e9 }'
# Not of a shell in a pipe; the second line is that of the children.
times > "$said"
awk -F '[ms ]+' 'NR == 2 {
    printf "of the processor: %.1f\n", 60 * ($1 + $3) + $2 + $4 }' "$said"
END
    chmod 755 "$root/usr/local/bin/first"
}

# first USER FOLDER: that user's first minutes, with the paths of Debian.
first ()
{
    local path=/usr/local/bin:/usr/bin:/bin

    [ "$1" != root ] || path=/usr/local/sbin:/usr/sbin:/sbin:$path
    quiet copy_source "$root$2"
    quiet qemu-img create -q -f qcow2 "$root$2/disk.qcow2" 1G
    quiet in_root chown -R "$1:" "$2"
    quiet in_root runuser -u "$1" -- env HOME="${2%/*}" PATH="$path" \
        sh -c "cd '$2' && exec first"
    echo "$suite: $1:" "$(tail -n 3 "$tmp/log" |
                              grep -E '^(downloads|seconds|of)' |
                              paste -sd, | sed 's/,/, /g')"
}

try ()
{
    new_root "$1" "first-$1" --minimal || return $?
    make_program
    quiet in_root apt-get update -q
    quiet in_root apt-get install -q -y --no-install-recommends sudo
    quiet in_root useradd --create-home --shell /bin/bash newcomer
    echo 'newcomer ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/newcomer"
    first newcomer /home/newcomer/nbdkit-qcow2-filter
    first root /root/nbdkit-qcow2-filter
    clean_root "first-$1"
}

each_suite try
