/* Two accesses by different threads are in order when a barrier of the block lies between them, or, within a warp, a
 * __syncwarp. Shuffles and matrix products order no memory. */
#include "device/cuda/emulation/races.h"

#include <cstdint>

/* Whether `then` may go on at the same time as an access of `thread` now. */
static bool at_once(const race_access &then, int thread, unsigned block_barriers, unsigned warp_barriers)
{
    if (!then.thread || then.block_barriers != block_barriers) return false;
    if (then.of_warps == 2) return true;
    bool own_warp = (then.thread - 1) / 32 == thread / 32;
    if (own_warp && then.warp_barriers != warp_barriers) return false;
    return then.of_warps == 1 || then.thread - 1 != thread;
}

int races_note(race_byte *byte, int thread, unsigned block_barriers, unsigned warp_barriers, race_kind kind)
{
    if (at_once(byte->write, thread, block_barriers, warp_barriers)) return byte->write.thread - 1;
    if (kind != RACE_READ && at_once(byte->read, thread, block_barriers, warp_barriers)) return byte->read.thread - 1;
    if (kind != RACE_ATOMIC && at_once(byte->atomic, thread, block_barriers, warp_barriers))
        return byte->atomic.thread - 1;
    race_access now = {block_barriers, warp_barriers, static_cast<unsigned short>(thread + 1), 0};
    if (kind == RACE_WRITE) {
        byte->write = now;
        return -1;
    }
    race_access &then = kind == RACE_READ ? byte->read : byte->atomic;
    if (then.thread && then.block_barriers == block_barriers) {
        if ((then.thread - 1) / 32 != thread / 32)
            now.of_warps = 2;
        else if (then.of_warps == 2)
            now.of_warps = 2;
        else if (then.warp_barriers == warp_barriers && (then.of_warps == 1 || then.thread - 1 != thread))
            now.of_warps = 1;
    }
    then = now;
    return -1;
}

#ifdef EMULATOR_RACES
/* ---- what -fsanitize=thread calls -----------------------------------------------------------------------------------
 */

#define ACCESS(size)                                            \
    extern "C" void __tsan_read##size(void *address)            \
    {                                                           \
        emulator_accessed(address, size, RACE_READ);            \
    }                                                           \
    extern "C" void __tsan_write##size(void *address)           \
    {                                                           \
        emulator_accessed(address, size, RACE_WRITE);           \
    }                                                           \
    extern "C" void __tsan_unaligned_read##size(void *address)  \
    {                                                           \
        emulator_accessed(address, size, RACE_READ);            \
    }                                                           \
    extern "C" void __tsan_unaligned_write##size(void *address) \
    {                                                           \
        emulator_accessed(address, size, RACE_WRITE);           \
    }

extern "C" {
void __tsan_init();
void __tsan_func_entry(void *);
void __tsan_func_exit();
void __tsan_read_range(void *address, unsigned long bytes);
void __tsan_write_range(void *address, unsigned long bytes);
#define DECLARE(size)                         \
    void __tsan_read##size(void *);           \
    void __tsan_write##size(void *);          \
    void __tsan_unaligned_read##size(void *); \
    void __tsan_unaligned_write##size(void *);
DECLARE(1)
DECLARE(2)
DECLARE(4)
DECLARE(8)
DECLARE(16)
}

ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}

void __tsan_read_range(void *address, unsigned long bytes)
{
    emulator_accessed(address, bytes, RACE_READ);
}

void __tsan_write_range(void *address, unsigned long bytes)
{
    emulator_accessed(address, bytes, RACE_WRITE);
}

#endif
