/* Switching by hand where the calling convention is known (x86-64), else by ucontext. */
#include "device/cuda/emulation/fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

#if defined __SANITIZE_ADDRESS__
#define FIBER_ASAN 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifndef FIBER_ASAN
#define FIBER_ASAN 0
#endif

#if FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined __x86_64__ && !defined FIBER_UCONTEXT
#define FIBER_BY_HAND 1
#else
#define FIBER_BY_HAND 0
#include <ucontext.h>
#endif

/* frames are much larger under AddressSanitizer */
enum { STACK_BYTES = FIBER_ASAN ? 512 << 10 : 128 << 10, GUARD_BYTES = 64 << 10 };

struct fiber {
    const void *stack; /* its lowest byte */
    size_t stack_bytes;
    void (*entry)();  /* NULL: the caller's own stack */
    void *fake_stack; /* AddressSanitizer's */
#if FIBER_BY_HAND
    void *top;
#else
    ucontext_t context;
#endif
};

static fiber *switched_from; /* by the last switch */

#if FIBER_BY_HAND
/* Keeps what a function must keep for its caller, on the stack that is left, and takes it from the other. */
extern "C" void fiber_swap(void **top, void *other);
asm(R"(
.text
.p2align 4
.globl fiber_swap
.hidden fiber_swap
.type fiber_swap, @function
fiber_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size fiber_swap, .-fiber_swap
)");
#endif

fiber *fiber_of_thread()
{
    static fiber own;
    return &own;
}

fiber *fiber_new(void (*entry)())
{
    fiber *f = static_cast<fiber *>(calloc(1, sizeof *f));
    void *memory = mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!f || memory == MAP_FAILED || mprotect(memory, GUARD_BYTES, PROT_NONE) != 0) {
        fprintf(stderr, "the emulator has no memory for a thread's stack\n");
        abort();
    }
    f->stack = static_cast<char *>(memory) + GUARD_BYTES;
    f->stack_bytes = STACK_BYTES;
    f->entry = entry;
    fiber_restart(f);
    return f;
}

void fiber_free(fiber *f)
{
    munmap(static_cast<char *>(const_cast<void *>(f->stack)) - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
    free(f);
}

void fiber_restart(fiber *f)
{
#if FIBER_ASAN
    __asan_unpoison_memory_region(f->stack, f->stack_bytes);
    f->fake_stack = nullptr;
#endif
#if FIBER_BY_HAND
    /* six registers, the address to go to, and a slot in place of its caller's, so that the stack is aligned as after a
     * call */
    char *end = static_cast<char *>(const_cast<void *>(f->stack)) + f->stack_bytes;
    void **top = reinterpret_cast<void **>(end) - 10;
    for (int i = 0; i < 10; i++) top[i] = nullptr;
    top[6] = reinterpret_cast<void *>(f->entry);
    f->top = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = const_cast<void *>(f->stack);
    f->context.uc_stack.ss_size = f->stack_bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, f->entry, 0);
#endif
}

/* What there is to do on the stack to which was switched. */
static void arrive(void *fake_stack)
{
#if FIBER_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (!switched_from->entry) switched_from->stack = bottom, switched_from->stack_bytes = size;
#else
    (void)fake_stack;
#endif
}

void fiber_entered()
{
    arrive(nullptr);
}

void fiber_switch(fiber *from, fiber *to)
{
    switched_from = from;
#if FIBER_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#if FIBER_BY_HAND
    fiber_swap(&from->top, to->top);
#else
    swapcontext(&from->context, &to->context);
#endif
    arrive(from->fake_stack);
}
