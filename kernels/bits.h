/* Elements as bits, so that copies of them arrive exactly, and halfs need no conversion. */

#include "common.h"
#include "processor.h"

#define BITS_float uint
#define BITS_half ushort
#define BITS4_float uint4
#define BITS4_half ushort4
#define BITS16_float uint16
#define BITS16_half ushort16
typedef JOIN(BITS_, DATA_TYPE) bits;
typedef JOIN(BITS4_, DATA_TYPE) bits4;
typedef JOIN(BITS4_, DATA_TYPE) unaligned_bits4 __attribute__((aligned(sizeof(bits))));
typedef JOIN(BITS16_, DATA_TYPE) unaligned_bits16 __attribute__((aligned(sizeof(bits))));

/* GPUs make four accesses of one to what may not be aligned; a processor ends with a vector that
   starts before the last one's end. */
static void copy_run(global const bits *from, global bits *to, int count) {
    int i = 0;
    for (; i + 16 <= count; i += 16)
        *(global unaligned_bits16 *)(to + i) = *(global const unaligned_bits16 *)(from + i);
#if PROCESSOR
    if (count >= 4) {
        for (; i < count; i += 4) {
            i = i + 4 <= count ? i : count - 4;
            *(global unaligned_bits4 *)(to + i) = *(global const unaligned_bits4 *)(from + i);
        }
        return;
    }
#endif
    if ((((size_t)from | (size_t)to) & (sizeof(bits4) - 1)) == 0)
        for (; i + 4 <= count; i += 4)
            *(global bits4 *)(to + i) = *(global const bits4 *)(from + i);
    for (; i < count; i++) to[i] = from[i];
}
