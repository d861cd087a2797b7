#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# scripts/setup installs the right packages and says so; services that come
# with packages are neither started nor enabled; options of an earlier
# configure are kept; a user can use root's build.  With each awk.
#
# The package manager is a fake that records its calls, in folders that stand
# for those of the system, and the project is a small one, with its own
# autoconf.

# shellcheck source=tests/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
requires autoreconf make pkg-config gawk mawk busybox
unset MAKEFLAGS MFLAGS MAKELEVEL

# ---- A machine, and a project ---------------------------------------------

# The names of its programs come before those of the real one.
make_machine ()
{
    rm -rf "${tmp:?}/bin" "$tmp/sys"
    mkdir -p "$tmp/bin" "$tmp/sys/units" "$tmp/sys/init.d" "$tmp/sys/sbin"
    touch "$tmp/sys/units/old.service" "$tmp/sys/init.d/old"
    printf '%s\n' gcc make perl > "$tmp/sys/packages"
    cat > "$tmp/bin/dpkg-query" <<END
#!/bin/bash
sed 's/^/installed /' "$tmp/sys/packages"
echo "config-files libtool"
exit 1
END
    cat > "$tmp/bin/apt-get" <<END
#!/bin/bash
echo "apt-get \$*" >> "$tmp/sys/calls"
case " \$* " in
*" --assume-no "*)
    echo "0 upgraded, 3 newly installed, 0 to remove and 0 not upgraded."
    echo "Need to get 12.3 MB of archives."
    echo "After this operation, 45.6 MB of additional disk space will be used."
    exit 1 ;;
*" install "*)
    [ -x "$tmp/sys/sbin/policy-rc.d" ] && "$tmp/sys/sbin/policy-rc.d"
    echo "policy \$?" >> "$tmp/sys/calls"
    echo "dlstatus:1:33.5:Retrieving" >&5
    echo "pmstatus:gcc:78.1:Unpacking" >&5
    touch "$tmp/sys/units/new.service" "$tmp/sys/init.d/new"
    for word; do echo "\$word"; done >> "$tmp/sys/packages"
    echo "Setting up things" ;;
esac
END
    # It has no rpmlint.
    cat > "$tmp/bin/apt-cache" <<'END'
#!/bin/bash
case $2 in
rpmlint) echo "  Candidate: (none)" ;;
virt-v2v) ;;
*) echo "  Candidate: 1.2-3" ;;
esac
END
    for name in deb-systemd-helper update-rc.d; do
        printf '#!/bin/bash\necho "%s $*" >> %q\n' "$name" "$tmp/sys/calls" \
            > "$tmp/bin/$name"
    done
    # As the real one does.
    # shellcheck disable=SC2016     # It is for that program.
    sed -i '1a [ -n "${DPKG_MAINTSCRIPT_PACKAGE-}" ] || exit 1' \
        "$tmp/bin/deb-systemd-helper"
    printf '#!/bin/bash\nexec "$@"\n' > "$tmp/bin/sudo"
    chmod +x "$tmp/bin"/*
}

make_project ()
{
    tree=$tmp/project
    rm -rf "$tree"
    mkdir -p "$tree/scripts" "$tree/core" "$tree/host" "$tree/filter"
    cp "$top_srcdir/scripts/setup" "$tree/scripts/"
    sed -e "s|/usr/sbin/policy-rc.d|$tmp/sys/sbin/policy-rc.d|" \
        -e "s|/lib/systemd/system|$tmp/sys/units|" \
        -e "s|/etc/init.d|$tmp/sys/init.d|" \
        "$top_srcdir/scripts/apt.sh" > "$tree/scripts/apt.sh"
    cat > "$tree/configure.ac" <<'END'
AC_INIT([small], [1])
AC_ARG_WITH([thing], [], [], [with_thing=none])
AC_SUBST([with_thing])
AC_SUBST([NBDKIT_VERSION], [`pkg-config --modversion nbdkit`])
AC_CONFIG_FILES([Makefile core/Makefile host/Makefile filter/Makefile])
AC_OUTPUT
END
    cat > "$tree/Makefile.in" <<'END'
all:
	$(MAKE) -C core libqcow2core.la
	$(MAKE) -C host libqcow2host.la
	$(MAKE) -C filter nbdkit-qcow2-filter.la
	@echo 'thing @with_thing@'
END
    printf 'libqcow2core.la: a.c\n\tcp a.c $@\n' > "$tree/core/Makefile.in"
    echo "one" > "$tree/core/a.c"
    printf 'libqcow2host.la: b.c\n\tcp b.c $@\n' > "$tree/host/Makefile.in"
    echo "two" > "$tree/host/b.c"
    printf '%s: ../core/libqcow2core.la\n\tmkdir -p .libs\n\t%s\n\t%s\n' \
        nbdkit-qcow2-filter.la \
        "cp ../core/libqcow2core.la .libs/nbdkit-qcow2-filter.so" \
        'touch $@' > "$tree/filter/Makefile.in"
}

setup ()
{
    PATH=$tmp/bin:$PATH "$tree/scripts/setup" "$@" > "$tmp/said" 2>&1 || {
        cat "$tmp/said"
        return 1
    }
}

said ()
{
    grep -qF -- "$1" "$tmp/said" ||
        { cat "$tmp/said"; fail "it does not say '$1'"; }
}

called ()
{
    grep -qxF -- "$1" "$tmp/sys/calls" ||
        { cat "$tmp/sys/calls"; fail "no '$1' is called"; }
}

# ---- Installing -----------------------------------------------------------

for awk in gawk mawk "busybox awk"; do
    make_machine
    printf '#!/bin/sh\nexec %s "$@"\n' "$awk" > "$tmp/bin/awk"
    chmod +x "$tmp/bin/awk"
    make_project
    setup || fail "setup, where awk is $awk"
    said "installing libc6-dev autoconf automake libtool pkgconf nbdkit "
    said "3 newly installed"
    said "Need to get 12.3 MB"
    said "After this operation, 45.6 MB"
    said "downloading: 30%"
    said "installing: 70%"
    called "policy 101"
    called "deb-systemd-helper disable new.service"
    called "update-rc.d new disable"
    ! grep -q 'old' "$tmp/sys/calls" || fail "it disables what was there"
    [ ! -e "$tmp/sys/sbin/policy-rc.d" ] || fail "policy-rc.d is left"
    rm "$tmp/sys/calls"
    setup || fail "setup again"
    [ ! -e "$tmp/sys/calls" ] || fail "it installs though nothing is missing"
    echo "ok: packages, where awk is $awk"
done

# ---- The long tests -------------------------------------------------------

printf '#!/bin/sh\necho /s3rver\n' > "$tree/scripts/get-s3rver"
chmod +x "$tree/scripts/get-s3rver"
setup --long || fail "setup --long"
said "installing python3 "
said "this release has no rpmlint"
said "this release has no virt-v2v"
grep -E '^apt-get install -q' "$tmp/sys/calls" > "$tmp/calls"
grep -q ' lvm2 ' "$tmp/calls" || fail "lvm2 is not installed"
grep -q ' fio ' "$tmp/calls" || fail "it lacks what --tests installs"
! grep -qE 'rpmlint|virt-v2v' "$tmp/calls" ||
    fail "it asks for packages that there are not"
rm "$tmp/sys/calls"
setup --long || fail "setup --long again"
! grep -q 'apt-get install -q' "$tmp/sys/calls" ||
    fail "it installs though there is nothing more"
setup --help || fail "setup --help"
said "--long    also"
! setup --short > "$tmp/output" || fail "it takes any option"
echo "ok: packages of the long tests"

# ---- Options of configure -------------------------------------------------

(cd "$tree" && ./configure --quiet --with-thing='two  words') 2> "$tmp/said"
sed -i 's/^S\["NBDKIT_VERSION"\]=.*/S["NBDKIT_VERSION"]="0.1"/' \
    "$tree/config.status"
setup || fail "setup after another nbdkit"
said "configuring"
grep -qF 'thing two  words' "$tree/Makefile" || fail "the options are lost"
echo "ok: options of configure are kept"

# ---- The build of another user --------------------------------------------

if [ "$(id -u)" -eq 0 ]; then
    chmod 755 "$tmp"
    as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    PATH=$tmp/bin:$PATH "${as_user[@]}" "$tree/scripts/setup" \
        > "$tmp/said" 2>&1 || { cat "$tmp/said"; fail "a user cannot use it"; }
    said "setup: ready"
    touch -d '+1 minute' "$tree/core/a.c"
    if PATH=$tmp/bin:$PATH "${as_user[@]}" "$tree/scripts/setup" \
           > "$tmp/said" 2>&1; then
        fail "a user gets an old build"
    fi
    said "is out of date"
    said "sudo chown"
    echo "ok: a user can use what root has built"
fi

# ---- The real configure ---------------------------------------------------

# Autoconf removes a file "core", and our folder of that name must not make it
# complain each time.
if [ -x "$top_srcdir/configure" ]; then
    mkdir -p "$tmp/real/core"
    # shellcheck disable=SC2016     # It is for the shell that runs it.
    sed -n '/^rm ()$/,/^}$/p' "$top_srcdir/configure" > "$tmp/real/rm"
    [ -s "$tmp/real/rm" ] || fail "configure has no rm of its own"
    echo 'touch "a b" conftest.x
          rm -f core *.core conftest.* "a b"
          test -d core && test ! -e conftest.x && test ! -e "a b"' \
        >> "$tmp/real/rm"
    (cd "$tmp/real" && sh ./rm) > "$tmp/said" 2>&1 ||
        { cat "$tmp/said"; fail "configure removes other things"; }
    [ ! -s "$tmp/said" ] || { cat "$tmp/said"; fail "configure complains"; }
    if [ -f "$top_builddir/config.log" ]; then
        ! grep "cannot remove.*core" "$top_builddir/config.log" ||
            fail "configure complained"
    fi
    echo "ok: configure leaves core/ alone, and says nothing about it"
fi
