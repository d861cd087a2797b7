#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qcow2-follow: names in headers, in all forms, lead to files beneath one
# folder.
# shellcheck source=layers.sh source-path=SCRIPTDIR
source "$(dirname "$0")/layers.sh"

cd "$images"
mkdir -p bases/old overlays
make_base bases/base.raw 3000321
make_base bases/old/base.raw 3000321 2
overlay bases/mid.qcow2 base.raw raw 3M
overlay overlays/top.qcow2 ../bases/mid.qcow2 qcow2 4M
overlay near.qcow2 bases/mid.qcow2 qcow2 4M

echo "relative to the folder of the image, if that is beneath the one to follow in"
truth overlays/top.qcow2
serves file overlays/top.qcow2 qcow2-follow=.
serves -r file overlays/top.qcow2 qcow2-follow="$images/"
(cd overlays && serves file top.qcow2 qcow2-follow=..)
truth near.qcow2
serves file near.qcow2 qcow2-follow=.

echo "else to the one to follow in"
mkdir elsewhere
mv bases overlays elsewhere
cp near.qcow2 far.qcow2
serves file far.qcow2 qcow2-follow=elsewhere
start_nbdkit -P plain file far.qcow2
if "$NBDKIT" --dump-plugin nbd >/dev/null; then
    serves nbd "$uri" qcow2-follow=elsewhere
fi
stop_nbdkit plain
says "'bases/mid\.qcow2', which does not lead to a file beneath" \
    file far.qcow2 qcow2-follow=.
mv elsewhere/* .

echo "absolute names, also through the folder's other names"
ln -s images "$tmp/alias"
for dir in "$images" "$tmp/alias"; do
    for follow in "$images" "$tmp/alias"; do
        [ "$dir" = "$images" ] || [ "$follow" != "$images" ] || continue
        set_names near.qcow2 --backing "$dir/bases/mid.qcow2"
        serves file near.qcow2 qcow2-follow="$follow"
    done
done
set_names near.qcow2 --backing "$tmp/alias/bases/mid.qcow2"
says "leads out of the folder" file near.qcow2 qcow2-follow="$images"
set_names near.qcow2 --backing "$images//./bases/../bases/mid.qcow2"
serves file near.qcow2 qcow2-follow=/

echo "file: stands for a file"
set_names near.qcow2 --backing file:bases/mid.qcow2
serves file near.qcow2 qcow2-follow=.
set_names near.qcow2 --backing "file:$images/bases/mid.qcow2"
serves file near.qcow2 qcow2-follow=.
mkdir a:b
cp bases/* a:b 2>/dev/null || true
set_names near.qcow2 --backing ./a:b/mid.qcow2
serves file near.qcow2 qcow2-follow=.

echo "links that stay inside"
ln -s bases current
ln -s ../bases/mid.qcow2 bases/link
# As the manual says, a hard link is opened.
mkdir "$tmp/outside"
mv bases/mid.qcow2 "$tmp/outside/"
ln "$tmp/outside/mid.qcow2" bases/mid.qcow2
for name in current/mid.qcow2 bases/link bases/old/../mid.qcow2 \
        ./overlays/.././bases//mid.qcow2; do
    set_names near.qcow2 --backing "$name"
    name=
    serves file near.qcow2 qcow2-follow=.
done
name=

echo "the folder that was given stays the folder"
set_names near.qcow2 --backing bases/mid.qcow2
start_nbdkit --filter="$filter" file near.qcow2 qcow2-follow=.
mv "$images" "$tmp/moved"
mkdir "$images"
ln -s "$tmp/moved/near.qcow2" "$images/near.qcow2"
nbdtool compare "$uri" "$tmp/truth.raw" --reads 10
rm -r "$images"
mv "$tmp/moved" "$images"
stop_nbdkit

echo "many images, with one base or another"
cd "$images"
mkdir all
cp near.qcow2 all
cp -r bases all
overlay all/b.qcow2 ../bases/old/base.raw raw 2M
overlay all/mid.qcow2 bases/base.raw raw 2M
for i in near mid b; do
    truth all/$i.qcow2
    name=$i.qcow2 serves file dir=all qcow2-follow=.
done
name=base.raw says "'base\.raw'|not a qcow2" file dir=bases qcow2-follow=.

echo "without the kernel's help, also: but no link is followed then"
requires_program strace
skip_if_instrumented "strace"
cat >"$tmp/old-kernel" <<END
#!/bin/sh
exec strace -D -f -qq -o "$tmp/trace" -e inject=openat2:error=ENOSYS \
    -e trace=openat2 $NBDKIT "\$@"
END
chmod +x "$tmp/old-kernel"
requires strace -f -o "$tmp/trace" true
NBDKIT=$tmp/old-kernel
truth near.qcow2
for name in bases/mid.qcow2 bases/old/../mid.qcow2 "$images/bases/mid.qcow2" \
        ./overlays/../bases//./mid.qcow2; do
    set_names near.qcow2 --backing "$name"
    name=
    serves file near.qcow2 qcow2-follow=.
    grep -q 'openat2.*ENOSYS.*INJECTED' "$tmp/trace" || fail "nothing injected"
done
name=
for path in current/mid.qcow2 bases/link; do
    set_names near.qcow2 --backing "$path"
    says "link that is not followed|Not a directory" \
        file near.qcow2 qcow2-follow=.
done
for path in ../x ../images/bases/mid.qcow2 bases/../../images/bases/mid.qcow2 \
        /etc/passwd; do
    set_names near.qcow2 --backing "$path"
    says "leads out of the folder" file near.qcow2 qcow2-follow=.
done
