#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What packages say agrees with the sources: versions, the licence, and the
# files, each of which is in a package.

# shellcheck source=tests/packaging/lib.sh
. "$(dirname "$0")/lib.sh"
requires make awk

spec=packaging/rpm/nbdkit-qcow2-filter.spec

# ---- Versions --------------------------------------------------------------

check_versions ()
{
    local want bad=0 which has

    want=$(sed -n 's/^AC_INIT(\[[^]]*\], \[\([^]]*\)\],.*/\1/p' \
               "$1/configure.ac")
    [ -n "$want" ] || { echo "configure.ac has no version"; return 1; }
    while read -r which has; do
        [ "$has" = "$want" ] || {
            echo "$which has version $has, configure.ac $want"
            bad=1
        }
    done <<END
packaging/debian/changelog $(debian_version "$1")
$spec $(awk '$1 == "Version:" { print $2 }' "$1/$spec")
%changelog $(sed -n '/^%changelog/{ n; s/.* \(.*\)-[^-]*$/\1/p; q; }' "$1/$spec")
docs/nbdkit-qcow2-filter.pod $(sed -n \
    's/^C<nbdkit-qcow2-filter> \([0-9.]*[0-9]\)\..*/\1/p' \
    "$1/docs/nbdkit-qcow2-filter.pod")
NEWS $(grep -m 1 -E '^[0-9]+(\.[0-9]+)+$' "$1/NEWS")
END
    return $bad
}

# Until 1.0, NEWS says of the newest version what that still needs.
check_before ()
{
    awk '/^[0-9]+(\.[0-9]+)+$/ { if (version) exit; version = $0; next }
         /^Before 1\.0$/ { on = 1; next }
         ! NF { on = 0 }
         on && /^\* / { ++points }
         END {
             if ((version ~ /^0\./) != (points > 0)) {
                 print "NEWS: version " version ", " points + 0 \
                     " points before 1.0"
                 exit 1
             }
         }' "$1/NEWS"
}

# The newest entries have the same day.
check_days ()
{
    local deb rpm

    deb=$(date -u +%F -d "$(sed -n '/^ -- /{ s/.*>  //p; q; }' \
                                "$1/packaging/debian/changelog")")
    rpm=$(date -u +%F -d "$(sed -n '/^%changelog/{ n
        s/^\* [A-Z][a-z]* \([A-Z][a-z]*\) *\([0-9]*\) \([0-9]*\) .*/\2 \1 \3/p
        q; }' "$1/$spec")")
    [ "$deb" = "$rpm" ] || { echo "Debian's changelog is of $deb, %changelog of $rpm"; return 1; }
}

# Build dependencies stay the same as what configure wants.
check_minimums ()
{
    local want bad=0

    want=$(sed -n 's/.*\[nbdkit >= \([0-9.]*\)\].*/\1/p' "$1/configure.ac")
    grep -qF "nbdkit-plugin-dev (>= $want)" "$1/packaging/debian/control" ||
        { echo "debian/control does not want nbdkit $want"; bad=1; }
    grep -qE "^BuildRequires: +nbdkit-devel >= $want\$" "$1/$spec" ||
        { echo "the spec does not want nbdkit $want"; bad=1; }
    return $bad
}

# Debian's copyright file has the text of LICENSE.
check_licence ()
{
    diff <(sed -n '3,$p' "$1/LICENSE") \
         <(sed -n '/^License: BSD-3-Clause$/h; /^ /{ s/^ //; s/^\.$//; p; }' \
               "$1/packaging/debian/copyright") ||
        { echo "packaging/debian/copyright differs from LICENSE"; return 1; }
}

for check in check_versions check_before check_days check_minimums check_licence; do
    clean "$check" "$top_srcdir"
done

copy_packaging ()
{
    rm -rf "$tmp/tree"
    mkdir -p "$tmp/tree/docs"
    cp -R "$top_srcdir/packaging" "$tmp/tree/"
    cp "$top_srcdir/docs/nbdkit-qcow2-filter.pod" "$tmp/tree/docs/"
    cp "$top_srcdir"/{configure.ac,NEWS,LICENSE} "$tmp/tree/"
    chmod -R u+w "$tmp/tree"
}
copy_packaging
sed -i '1s/-[^-]*)/.1-1)/' "$tmp/tree/packaging/debian/changelog"
planted "another version" "packaging/debian/changelog has version" \
    check_versions "$tmp/tree"
copy_packaging
sed -i 's/^Version: .*/Version: 0.1.9/' "$tmp/tree/$spec"
planted "another version" "spec has version 0.1.9" check_versions "$tmp/tree"
copy_packaging
sed -i '0,/^Before 1\.0$/s//Since/' "$tmp/tree/NEWS"
planted "nothing before 1.0" "0 points before 1.0" check_before "$tmp/tree"
copy_packaging
sed -i '/^%changelog/{ n; s/ 20[0-9]* / 2001 /; }' "$tmp/tree/$spec"
planted "another day" "%changelog of 2001" check_days "$tmp/tree"
copy_packaging
sed -i 's/nbdkit >= 1/nbdkit >= 2/' "$tmp/tree/configure.ac"
planted "another nbdkit" "does not want nbdkit 2" check_minimums "$tmp/tree"
copy_packaging
sed -i 's/MERCHANTABILITY/MARKET/' "$tmp/tree/packaging/debian/copyright"
planted "another licence" "differs from LICENSE" check_licence "$tmp/tree"

# ---- Files -----------------------------------------------------------------

# The filter's folder depends on the distribution, suffixes of man pages on
# their compression.
plain_names ()
{
    sed -e 's|^/||' -e 's|.*/nbdkit-qcow2-filter\.so$|nbdkit-qcow2-filter.so|' \
        -e 's|\(/man1/.*\.1\)\*$|\1|' | sort
}

debian_files ()
{
    cat "$1/packaging/debian/"*.{install,dirs} | plain_names
}

rpm_files ()
{
    sed -n '/^%files/,/^%changelog/p' "$1/$spec" |
        grep -vE '^(%files|%changelog|%doc|%license|$)' |
        sed -e 's|^%dir ||' -e 's|^%config(noreplace) ||' \
            -e 's|%{_libdir}|/usr/lib64|' \
            -e 's|%{_mandir}|/usr/share/man|' -e 's|%{_bindir}|/usr/bin|' \
            -e 's|%{_datadir}|/usr/share|' -e 's|%{_sysconfdir}|/etc|' \
            -e 's|%{_unitdir}|/usr/lib/systemd/system|' \
            -e 's|%{_sysusersdir}|/usr/lib/sysusers.d|' \
            -e 's|%{_tmpfilesdir}|/usr/lib/tmpfiles.d|' | plain_names
}

# check_files KIND TREE: what is installed is in one package each, and what is
# in a package is installed.
check_files ()
{
    local found bad=0

    "$1"_files "$2" > "$tmp/packaged"
    if [ "$1" = rpm ]; then
        # Fedora has SELinux, and no AppArmor.
        grep -v '^etc/apparmor\.d/' "$tmp/installed" > "$tmp/wanted"
    else
        cp "$tmp/installed" "$tmp/wanted"
    fi
    found=$(comm -23 "$tmp/wanted" "$tmp/packaged" |
                sed 's/^/in no package: /'
            comm -13 "$tmp/wanted" "$tmp/packaged" |
                sed 's/^/not installed: /'
            uniq -d "$tmp/packaged" | sed 's/^/in two packages: /')
    [ -z "$found" ] || { echo "$1: $found"; bad=1; }
    return $bad
}

# Files of the source that packages take as documentation; some are copied to
# another name before.
debian_documents ()
{
    cat "$1/packaging/debian/"*.{docs,examples}
    sed -n 's/^\tcp -p \(.*\.md\) \\$/\1/p' "$1/packaging/debian/rules"
}

rpm_documents ()
{
    local f from

    sed -n -e 's/^%doc //p' "$1/$spec" | tr ' ' '\n' |
        while IFS= read -r f; do
            from=$(sed -n "s|^cp -p \(.*\) $f\$|\1|p" "$1/$spec")
            echo "${from:-$f}"
        done
}

check_documents ()
{
    local f bad=0

    debian_documents "$1" | sort > "$tmp/in-deb"
    rpm_documents "$1" | sort > "$tmp/in-rpm"
    diff "$tmp/in-deb" "$tmp/in-rpm" ||
        { echo "packages have other documents"; bad=1; }
    while IFS= read -r f; do
        [ -f "$1/$f" ] || { echo "there is no $f"; bad=1; }
    done < <(cat "$tmp/in-deb" "$tmp/in-rpm"
             sed -n 's/^%license //p' "$1/$spec")
    # What the unit refers to.
    grep -qx packaging/README.md "$tmp/in-deb" ||
        { echo "packages lack packaging/README.md"; bad=1; }
    return $bad
}

clean check_documents "$top_srcdir"
copy_packaging
planted "no documents" "there is no README.md" check_documents "$tmp/tree"
sed -i 's|^cp -p packaging/README.md|cp -p packaging/READ.md|' "$tmp/tree/$spec"
planted "another document" "packages have other documents" \
    check_documents "$tmp/tree"

requires_build
if ! grep -q '^S\["HAVE_POD2MAN_TRUE"\]=""' "$top_builddir/config.status" ||
        ! [ -f "$top_builddir/filter/.libs/nbdkit-qcow2-filter.so" ]; then
    echo "not compared: what is installed, for this build lacks some of it"
    exit 0
fi
{
    make -s -C "$top_builddir" install DESTDIR="$tmp/inst" prefix=/usr \
             sysconfdir=/etc &&
        make -s -C "$top_builddir/packaging" install-systemd install-apparmor \
             DESTDIR="$tmp/inst" prefix=/usr sysconfdir=/etc \
             systemdsystemunitdir=/usr/lib/systemd/system \
             apparmordir=/etc/apparmor.d
} > "$tmp/log" 2>&1 || { tail -n 30 "$tmp/log"; fail "make install"; }
# Empty folders count.
(cd "$tmp/inst" && find . ! -type d -o -empty) | sed 's|^\./||' |
    plain_names > "$tmp/installed"

clean check_files debian "$top_srcdir"
clean check_files rpm "$top_srcdir"
for kind in debian rpm; do
    echo usr/bin/new >> "$tmp/installed"
    sort -o "$tmp/installed" "$tmp/installed"
    planted "a new program" "in no package: usr/bin/new" \
        check_files "$kind" "$top_srcdir"
    sed -i '/usr\/bin\/new/d' "$tmp/installed"
done
copy_packaging
echo usr/bin/qcow2ctl >> "$tmp/tree/packaging/debian/nbdkit-qcow2-filter.install"
planted "a file twice" "in two packages: usr/bin/qcow2ctl" \
    check_files debian "$tmp/tree"
copy_packaging
sed -i 's/^%{_bindir}\/qcow2ctl$/&-old/' "$tmp/tree/$spec"
planted "a file that is gone" "not installed: usr/bin/qcow2ctl-old" \
    check_files rpm "$tmp/tree"

# ---- As distributions see them ---------------------------------------------

check_rpmlint ()
{
    rpmlint -c "$1/packaging/rpm/rpmlint.toml" "$1/$spec" 2>&1 |
        tee "$tmp/said" | grep -E ': [EW]: ' && return 1
    grep -q '1 specfiles checked; 0 errors, 0 warnings' "$tmp/said" ||
        { cat "$tmp/said"; return 1; }
}

if command -v rpmlint > /dev/null; then
    clean check_rpmlint "$top_srcdir"
    copy_packaging
    sed -i 's|%{_libdir}/nbdkit|/usr/lib/nbdkit|' "$tmp/tree/$spec"
    planted "a fixed folder" "hardcoded-library-path" check_rpmlint "$tmp/tree"
else
    echo "not run: rpmlint is not installed"
fi
