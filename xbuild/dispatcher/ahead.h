/* How code runs before a static program that knows nothing of it (preamble.py): `before` gets the stack as the kernel made
 * it, and comes back. */
#include <stdint.h>

__attribute__((used)) void before(long *stack);

/* Where qemu begins, counted from this variable; written by preamble.py. */
__attribute__((section(".xbuild_entry"), used)) const volatile int64_t original_entry = 0;

/* The kernel gives a program its stack, and in one register (rdx, x0) what it has to call at its end, if anything: both
 * go on to qemu as they are. */
#ifdef __x86_64__
__asm__(".text\n\t.globl _start\n_start:\n\t"
        "mov %rsp, %rdi\n\t"
        "push %rdx\n\t"
        "mov %rsp, %rbp\n\t"
        "and $-16, %rsp\n\t"
        "call before\n\t"
        "mov %rbp, %rsp\n\t"
        "pop %rdx\n\t"
        "xor %ebp, %ebp\n\t"
        "lea original_entry(%rip), %rax\n\t"
        "add (%rax), %rax\n\t"
        "jmp *%rax");
#else
__asm__(".text\n\t.globl _start\n_start:\n\t"
        "mov x19, x0\n\t"
        "mov x29, #0\n\t"
        "mov x30, #0\n\t"
        "mov x0, sp\n\t"
        "bl before\n\t"
        "mov x0, x19\n\t"
        "mov x30, #0\n\t"
        "adr x16, original_entry\n\t"
        "ldr x17, [x16]\n\t"
        "add x16, x16, x17\n\t"
        "br x16");
#endif
