#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qcow2ctl rebase and commit, judged by qemu-img, over images of many kinds.
# What a crash leaves of them is for crash/test-edits.c and crash/test-commit.c.
# test-ctl-rebase-long.sh takes more kinds of images.

# shellcheck source=tests/tools/functions.sh
. "$(dirname "$0")/functions.sh"
requires_program qemu-img
requires_program qemu-io
requires_program jq

cd "$tmp" || exit 1

same ()
{
    qemu-img compare -q "$@" || fail "qemu-img compare $*"
}

sound ()
{
    qemu-img check -q "$1" || fail "qemu-img check $1"
}

backing_of ()
{
    qemu-img info -U --output json "$1" |
        jq -r '."backing-filename" // ""'
}

io ()
{
    local file=$1 commands=() c

    shift
    for c in "$@"; do commands+=(-c "$c"); done
    qemu-io "${commands[@]}" "$file" > /dev/null || fail "qemu-io $file $*"
}

# chain OPTIONS FORMAT-OF-BASE: base <- mid <- top, disks of 3, 2.5 and 3.5 MiB,
# with zeros, and data that both sides have alike.
chain ()
{
    rm -f base mid top other
    qemu-img create -q -f "$2" base 3M
    qemu-io -f "$2" -c 'write -P 1 0 1M' -c 'write -P 2 2M 1M' base > /dev/null
    qemu-img create -q -f qcow2 -b base -F "$2" mid 2560k
    io mid 'write -P 3 100k 300k' 'write -z 600k 200k' 'write -P 1 900k 50k' \
       'write -P 4 2200k 100k'
    qemu-img create -q -f qcow2 -o "$1" -b mid -F qcow2 top 3584k
    io top 'write -P 5 128k 64k' 'write -P 6 1999k 3k' 'write -z 1024k 128k' \
       'write -P 7 3500k 7k'
    case $1 in
        *compat=0.10*) ;;
        *) qemu-img bitmap --add top b ;;
    esac
    qemu-img convert -O raw top want
    # Not of this chain, and longer.
    qemu-img create -q -f qcow2 other 5M
    io other 'write -P 1 0 1200k' 'write -P 8 3M 2M'
}

bitmap_is_true ()
{
    qemu-img info -U "$1" | grep -q in-use && fail "$2: a bitmap is in use"
    :
}

kinds=('compat=0.10,cluster_size=4k' 'extended_l2=on,cluster_size=16k')
bases=('' base)
if [ -n "${ALL:-}" ]; then
    kinds+=(cluster_size=64k cluster_size=512 cluster_size=2M
            'lazy_refcounts=on,refcount_bits=1')
    bases+=(mid)
fi
for options in "${kinds[@]}"; do
    chain "$options" qcow2
    for to in base mid other ''; do
        cp top ours
        cp top theirs
        format=(-F qcow2)
        [ -n "$to" ] || format=()
        works rebase -b "$to" "${format[@]}" --follow "$tmp" ours
        same -F raw ours want
        sound ours
        bitmap_is_true ours "rebase $options to '$to'"
        [ "$(backing_of ours)" = "$to" ] || fail "$options: not on '$to'"
        qemu-img rebase -b "$to" "${format[@]}" theirs
        same ours theirs
    done
    # From nothing.
    works rebase -b other -F qcow2 ours
    same -F raw ours want
    sound ours

    for base in "${bases[@]}"; do
        for f in base mid top; do cp $f saved-$f; done
        to=(--base "$base")
        [ -n "$base" ] || to=()
        works -q commit "${to[@]}" --follow "$tmp" top
        same -F raw top want
        same -F raw "${base:-mid}" want
        sound top
        sound mid
        sound base
        bitmap_is_true top "commit $options to '$base'"
        # qemu-img empties it, or not, in the same cases.
        mkdir theirs.d
        for f in base mid top; do cp saved-$f theirs.d/$f; done
        (cd theirs.d && qemu-img commit -q ${base:+-b "$base"} top)
        for f in base mid top; do
            same $f theirs.d/$f
        done
        [ "$(qemu-img map --output json top |
             jq 'map (select (.depth == 0 and .present)) | length')" -gt 0 ] &&
            emptied=no || emptied=yes
        [ "$emptied" = "$([ -n "$base" ] && echo no || echo yes)" ] ||
            fail "$options, base '$base': emptied: $emptied"
        rm -r theirs.d
        for f in base mid top; do mv saved-$f $f; done
    done
done

# Little is copied: zeros take no space, nor does what is alike.
qemu-img create -q -f qcow2 data 64M
io data 'write -P 9 0 32M'
qemu-img create -q -f qcow2 same 64M
io same 'write -P 9 0 31M' 'write -P 4 40M 1M'
qemu-img create -q -f qcow2 -b data -F qcow2 o 64M
works rebase --backing data -b same -F qcow2 o
qemu-img create -q -f qcow2 -b data -F qcow2 o2 64M
same o o2
[ "$(stat -c %s o)" -le 2097152 ] || fail "rebase has copied too much"
qemu-img map --output json o |
    jq -e 'any (.[]; .start == 41943040 and .zero and .depth == 0)' \
       > /dev/null || fail "zeros were not copied as zeros"

# Raw files: as the old one, as the new one, to commit to; with a tail.
chain cluster_size=64k raw
works rebase -b base -F raw --follow "$tmp" top
same -F raw top want
io top 'write -P 3 3M 100k'
qemu-img convert -O raw top want
works commit --backing base top
[ "$(cat "$out")" = 'Image committed.' ] || fail "it does not say so"
[ "$(stat -c %s base)" -eq 3670016 ] || fail "a raw file was not grown"
cmp base want
same -F raw top want
[ "$(qemu-img map --output json top |
     jq 'map (select (.depth == 0 and .present)) | length')" -eq 0 ] ||
    fail "it was not emptied"

# Bitmaps of the file that is written to are no promise any more.
chain cluster_size=64k qcow2
qemu-img bitmap --add mid marks
qemu-img bitmap --add --disable mid old
qemu-img snapshot -c before mid
qemu-img convert -l snapshot.name=before -O raw mid frozen
works -q commit -d --follow "$tmp" top
same -F raw mid want
qemu-img info --output json mid | jq -r '."format-specific".data.bitmaps[] |
    "\(.name) \(.flags | join (","))"' | sort > bitmaps
printf 'marks in-use,auto\nold \n' | diff - bitmaps || fail "bitmaps of mid"
qemu-img convert -l snapshot.name=before -O raw mid now
cmp -n 2621440 frozen now
[ "$(qemu-img map --output json top |
     jq 'map (select (.depth == 0 and .present)) | length')" -gt 0 ] ||
    fail "-d has emptied it"

# Encrypted images.
if "$ctl" --version | grep -q nettle=yes || qemu-img create -q -f qcow2 \
      --object secret,id=s,data=abc \
      -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \
      probe 1M 2> /dev/null; then
    chain cluster_size=64k qcow2
    printf abc > pass
    rm top
    qemu-img create -q -f qcow2 --object secret,id=s,data=abc -b mid -F qcow2 \
       -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 top 3M
    image=driver=qcow2,encrypt.key-secret=s,file.filename=top
    secret=(--object 'secret,id=s,data=abc')
    qemu-io "${secret[@]}" --image-opts -c 'write -P 9 64k 100k' $image \
        > /dev/null
    qemu-img convert "${secret[@]}" --image-opts -O raw $image want
    works rebase -b base -F qcow2 --follow "$tmp" --passphrase +pass top
    qemu-img compare -q "${secret[@]}" --image-opts $image \
        driver=raw,file.filename=want || fail "an encrypted image"
    works -q commit --follow "$tmp" --passphrase +pass top
    same -F raw base want
fi

# What is refused.
chain cluster_size=64k qcow2
fails 1 'says which backing file' rebase top
fails 1 'never guessed' rebase -b base top
fails 1 'none was' rebase -b '' -F raw top
fails 1 'own backing file' rebase -b top -F qcow2 top
cp base a:b
fails 1 "'a:b' .*begins with a protocol.*give ./a:b" \
      rebase --follow . -b a:b -F qcow2 top
# Wherever else a header could get such a name.
cp top top.before
for command in "set-backing -F qcow2 top a:b" "rebase -u -b a:b -F qcow2 top" \
               "amend -o backing_file=a:b,backing_fmt=qcow2 top" \
               "create -b a:b -F qcow2 new" "create -u -b a:b -F qcow2 new 1M" \
               "create -o data_file=a:b new 1M"; do
    # shellcheck disable=SC2086
    fails 1 "'a:b' .*begins with a protocol.*give ./a:b" $command
    [ ! -e new ] || fail "$command: there is a file"
done
cmp top top.before || fail "a name that was refused has changed the image"
works create -b ./a:b -F qcow2 new
rm new
# QEMU opens those, so a header may have them.
for name in json:{} rbd:pool/image nbd://host/export file:base; do
    works set-backing -F raw top "$name"
    [ "$(backing_of top)" = "$name" ] || fail "the name is not $name"
done
cp top.before top
fails 1 'give --backing' rebase -b base -F qcow2 top
fails 5 'gone' rebase -b gone -F qcow2 --follow "$tmp" top
cp top saved
qemu-img create -q -f qcow2 -b top -F qcow2 -u loop 1M
fails 1 'in use|open for writing' rebase -b loop -F qcow2 --follow "$tmp" top
qemu-img create -q -f qcow2 -b base -F qcow2 b2 3M
fails 1 'give --new-backing' \
      rebase --backing mid --backing base -b b2 -F qcow2 top
works rebase --backing mid --backing base -b b2 -F qcow2 --new-backing base top
same -F raw top want
works rebase -u -b mid -F qcow2 top
[ "$(backing_of top)" = mid ] || fail "rebase -u"
cp saved top
fails 1 'no backing file' commit base
fails 5 'gone' commit -b gone --follow "$tmp" top
fails 1 'not in the chain' commit -b other --follow "$tmp" top
cp top snapshots
qemu-img snapshot -c s snapshots
fails 1 'snapshots' rebase -b base -F qcow2 --follow "$tmp" snapshots
cp mid mid.before
fails 1 'snapshots' commit --follow "$tmp" snapshots
cmp mid mid.before || fail "a commit that was refused has changed the base"
same -F raw snapshots want

# A name that does not fit into the header is refused before anything of the
# disk is copied.
qemu-img create -q -f qcow2 -o cluster_size=512 -b mid -F qcow2 tiny 1M
qemu-img create -q -f qcow2 nines 1M
io nines 'write -P 9 0 256k'
long=$(printf './%.0s' {1..200})nines
cp tiny tiny.before
fails 1 'shorten the names' \
      rebase --follow "$tmp" -b "$long" -F qcow2 tiny
cmp tiny tiny.before || fail "a rebase that was refused has changed the image"

# What is wrong with the file below is said of that one, by both.
qemu-img create -q -f qcow2 -o cluster_size=64k broken 1M
io broken 'write -q -P 1 0 64k'
qemu-img create -q -f qcow2 -b broken -F qcow2 over
io over 'write -q -P 2 0 64k'
printf '\200\0\0\0\0\5\2\0' | dd of=broken bs=1 seek=262144 conv=notrunc \
                                   status=none
cp over over.before
fails 6 'over: .* in the backing file: .*corrupt' \
      commit --follow "$tmp" over
cmp -s over over.before || fail "the image has changed"
qemu-img create -q -f qcow2 -b broken -F qcow2 over
fails 1 'over: in the old backing file: .*corrupt' rebase --follow "$tmp" -b '' over
sound over

# Somebody reads another image that stands on the file.
qemu-img create -q -f qcow2 -b mid -F qcow2 o3 3M
qemu-io -c 'sleep 50000' o3 > /dev/null &
pid=$!
cleanup_fn end_process "$pid"
wait_for has_locked "$pid" mid
cp mid saved-mid
fails 4 'mid' commit --follow "$tmp" top
cmp mid saved-mid
works rebase -b base -F qcow2 --follow "$tmp" top
same -F raw -U top want
exit 0
