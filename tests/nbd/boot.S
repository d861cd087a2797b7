/* SPDX-License-Identifier: BSD-3-Clause */
/* A boot sector: it prints the text of sector 8 on the serial port, writes
 * sector 0 over sector 16, and prints the text of 16 as it reads it then.
 * tests/nbd/test-boot-long.sh boots it.
 *
 * Owns the segment that the BIOS starts it in; nothing else runs. Everything
 * goes through the services of the BIOS for disks, as a boot loader's does.
 */
        .code16
        .equ    COM1, 0x3f8
        .equ    EXIT, 0xf4              /* QEMU's isa-debug-exit. */
        .equ    BUFFER, 0x8000

        .globl  _start
_start: ljmp    $0, $begin
begin:  xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        movb    %dl, disk

        movw    $greeting, %si
        call    print
        movb    $0x42, %ah              /* Read. */
        movw    $8, sector
        call    transfer
        movw    $BUFFER, %si
        call    print

        movb    $0x43, %ah              /* Write what was read. */
        movw    $16, sector
        call    transfer
        movw    $0, BUFFER
        movb    $0x42, %ah
        call    transfer
        movw    $BUFFER, %si
        call    print
        movb    $0x10, %al
        jmp     leave

failed: movw    $trouble, %si
        call    print
        movb    $0x20, %al
leave:  movw    $EXIT, %dx
        outb    %al, %dx
stop:   hlt
        jmp     stop

/* One sector between BUFFER and the disk; AH says in which direction. */
transfer:
        movb    disk, %dl
        movw    $packet, %si
        movb    $0, %al
        int     $0x13
        jc      failed
        ret

/* The text at SI, up to a zero. */
print:  lodsb
        testb   %al, %al
        jz      1f
        call    send
        jmp     print
1:      ret

/* AL, as soon as the port takes it. */
send:   movb    %al, %ah
        movw    $(COM1 + 5), %dx
2:      inb     %dx, %al
        testb   $0x20, %al
        jz      2b
        movb    %ah, %al
        movw    $COM1, %dx
        outb    %al, %dx
        ret

greeting: .asciz "booted\n"
trouble:  .asciz "the disk fails\n"
disk:     .byte 0
        .balign 4
packet: .byte   16, 0
        .word   1                       /* Sectors. */
        .word   BUFFER, 0
sector: .quad   0

        .org    510
        .word   0xaa55
