#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# scripts/package says how it is used, what it does not understand, and what is
# missing; the file names of what it leaves behind are the right ones.
#
# Nothing is built here but the archive, of a small project.
# test-deb-long.sh and test-rpm-long.sh make the real ones.

# shellcheck source=tests/packaging/lib.sh
. "$(dirname "$0")/lib.sh"
requires autoreconf automake make tar xz dpkg-query

tree=$tmp/project
mkdir -p "$tree/scripts" "$tree/packaging/debian" "$tmp/bin"
cp "$top_srcdir/scripts/package" "$top_srcdir/scripts/apt.sh" "$tree/scripts/"
cp "$top_srcdir/packaging/debian"/{control,changelog} "$tree/packaging/debian/"
cat > "$tree/configure.ac" <<'END'
AC_INIT([nbdkit-qcow2-filter], [9.8.7], [nobody])
AM_INIT_AUTOMAKE([foreign no-dist-gzip dist-xz])
AC_CONFIG_FILES([Makefile])
AC_OUTPUT
END
echo 'EXTRA_DIST = a' > "$tree/Makefile.am"
echo 'text' > "$tree/a"
# All packages are there but those that $MISSING names.
cat > "$tmp/bin/dpkg-query" <<'END'
#!/bin/bash
while [ "${1#-}" != "$1" ]; do shift; done
for p; do
    case " $MISSING " in *" $p "*) ;; *) echo "installed $p" ;; esac
done
END
chmod +x "$tmp/bin/dpkg-query"

# run STATUS TEXT ARGUMENT...: it must end with the status, and say the text.
run ()
{
    local status=0 want=$1 text=$2

    shift 2
    MISSING=${MISSING-} PATH=$tmp/bin:$PATH "$tree/scripts/package" "$@" \
        > "$tmp/said" 2>&1 || status=$?
    [ "$status" -eq "$want" ] ||
        { cat "$tmp/said"; fail "package $*: status $status, not $want"; }
    grep -qF -- "$text" "$tmp/said" ||
        { cat "$tmp/said"; fail "package $*: does not say '$text'"; }
    echo "ok: package $*: $text"
}

run 0 "usage: scripts/package" --help
run 2 "unknown: zip" zip
run 2 "--output needs a folder" tar --output
run 2 "--output needs a folder" tar --output=
: > "$tmp/file"
run 2 "cannot make the folder" tar --output "$tmp/file/x"
MISSING="debhelper libnbd-dev" run 1 \
    "packages are missing: apt-get install debhelper libnbd-dev" \
    deb --no-install --output "$tmp/out"
# These are not needed for the archive alone.
MISSING="debhelper libnbd-dev" run 0 "packing" \
    tar --no-install --output "$tmp/out"
names=$(cd "$tmp/out" && printf '%s ' *)
[ "$names" = "SHA256SUMS nbdkit-qcow2-filter-9.8.7.tar.xz " ] ||
    fail "it leaves $names"
(cd "$tmp/out" && sha256sum --quiet -c SHA256SUMS) || fail "wrong sums"
left=$(find "$tree" -newer "$tmp/bin/dpkg-query" -type f)
[ -z "$left" ] || fail "it changes the sources: $left"
echo "ok: what it leaves"

# Here all but the wanted programs are gone.
mkdir "$tmp/few"
for program in bash sh cat dirname mktemp rm mkdir realpath sed date {awk,env}; do
    ln -s "$(command -v "$program")" "$tmp/few/"
done
status=0
PATH=$tmp/few "$tree/scripts/package" rpm --output "$tmp/out" \
    > "$tmp/said" 2>&1 || status=$?
[ "$status" -eq 1 ] || fail "status $status without programs"
grep -q 'not found: autoreconf .*rpmbuild.*dnf install' "$tmp/said" ||
    { cat "$tmp/said"; fail "it does not say what is missing"; }
echo "ok: where there is no package manager"
