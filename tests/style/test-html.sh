#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# "make html": all links within the site lead somewhere, and tables are whole.
# With LONG=1 in a browser, too: no page is wider than a phone.

# shellcheck source=tests/style/lib.sh
. "$(dirname "$0")/lib.sh"

python=${PYTHON:-/usr/bin/python3}

# A row of a table is one line.
check_tables ()
{
    local found

    found=$(cd "$1" &&
                grep -rnE --include='*.md' '^\|' ./*.md docs packaging |
                grep -vE '\|$' || :)
    [ -z "$found" ] || { echo "$found"; return 1; }
}

clean check_tables "$top_srcdir"
for place in . docs packaging/container; do
    rm -rf "$tmp/tree"
    mkdir -p "$tmp/tree/docs" "$tmp/tree/packaging/container"
    echo '|a|' | tee "$tmp/tree/docs/Y.md" > "$tmp/tree/Y.md"
    printf '|a|\n|-|\n| b,\nc |\n' > "$tmp/tree/$place/X.md"
    planted "a row of two lines" "$place/X.md:3:| b," check_tables "$tmp/tree"
done

requires cmark-gfm perl
perl -MPod::Simple::XHTML -e 1 2> /dev/null || skip "needs Pod::Simple::XHTML"

make_site ()
{
    "$python" "$top_srcdir/docs/make-html.py" "$1" "$tmp/html" 1.0
}

check_links ()
{
    make_site "$1" &&
        "$python" "$top_srcdir/tests/style/html_check.py" links "$tmp/html"
}

clean check_links "$top_srcdir"
grep -q '<a href="LAYERS.html">' "$tmp/html/REMOTE.html" ||
    fail "a link between two pages is lost"
grep -q '<a href="nbdkit-qcow2-filter.html#OTHER-FILES">' \
     "$tmp/html/qcow2ctl.html" || fail "a link to a section is lost"
grep -q '<a href="packaging.html">' "$tmp/html/index.html" ||
    fail "a link to a folder's page is lost"
grep -q '<a href="SECURITY.html">' "$tmp/html/container.html" ||
    fail "a link from a folder's page is lost"
grep -q '<details><summary>Contents' "$tmp/html/qcow2ctl.html" ||
    fail "a table of contents fills the first screen"
grep -q '<code class="word">--destination-is-zero' "$tmp/html/PIPELINES.html" ||
    fail "lines may end within an option"

mkdir "$tmp/copy"
cp -R "$top_srcdir"/*.md "$top_srcdir/docs" "$top_srcdir/packaging" "$tmp/copy/"
chmod -R u+w "$tmp/copy"
echo '[x](LAYERS.md#gone)' >> "$tmp/copy/docs/REMOTE.md"
echo '[x](../README.md#gone)' >> "$tmp/copy/packaging/container/README.md"
sed -i 's,L<nbdkit-qcow2-filter(1)/OTHER FILES>,L<nbdkit-qcow2-filter(1)/X>,' \
    "$tmp/copy/docs/qcow2ctl.pod"
sed -i 's,L</EXPORTS>,L</IMPORTS>,' "$tmp/copy/docs/nbdkit-qcow2-filter.pod"
planted "a section that is not there" "no id for LAYERS.html#gone" \
        check_links "$tmp/copy"
check_made ()
{
    "$python" "$top_srcdir/tests/style/html_check.py" links "$tmp/html"
}
planted "a section of a folder's page" "no id for packaging.html#gone" \
        check_made
planted "a section of a man page" "no id for nbdkit-qcow2-filter.html#X" \
        check_made
planted "a section of the same man page" "no id for #IMPORTS" check_made

# A picture is copied, and must be there.
echo '<svg xmlns="http://www.w3.org/2000/svg"/>' > "$tmp/copy/docs/x.svg"
echo '![what it shows](x.svg)' > "$tmp/copy/docs/REMOTE.md"
make_site "$tmp/copy" || fail "no site with a picture"
cmp "$tmp/copy/docs/x.svg" "$tmp/html/x.svg" || fail "a picture is not copied"
grep -q '<img src="x.svg" alt="what it shows"' "$tmp/html/REMOTE.html" ||
    fail "a picture is not shown"
echo '![another](docs/y.svg)' >> "$tmp/copy/README.md"
planted "a picture that is not there" "README.md: there is no picture docs/y" \
        make_site "$tmp/copy"

# The error says what is missing.
mkdir "$tmp/bin"
ln -s "$(command -v perl)" "$tmp/bin/"
planted "a missing program" "needs cmark-gfm" \
        env PATH="$tmp/bin" "$(command -v "$python")" \
        "$top_srcdir/docs/make-html.py" "$top_srcdir" "$tmp/html2"

if [ -n "${LONG:-}" ]; then
    for browser in chromium-headless-shell chromium chromium-browser ''; do
        [ -z "$browser" ] || ! command -v "$browser" > /dev/null || break
    done
    [ -n "$browser" ] || skip "needs chromium, or chromium-headless-shell"
    check_width ()
    {
        "$python" "$top_srcdir/tests/style/html_check.py" width "$1" 400 \
            "$browser"
    }
    make_site "$top_srcdir"
    clean check_width "$tmp/html"
    sed -i 's/div.table { overflow-x: auto; }//; s/overflow-x: auto;//' \
        "$tmp/html/style.css"
    planted "lines that do not scroll" "it is too wide" check_width "$tmp/html"
fi
