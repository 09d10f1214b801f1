/* What pooling over windows and over whole images shares. */

#include "windows.h"
#include "processor.h"

/* What becomes of a window; what lies outside the input takes no part. Of the averages the second
   divides by the window's size wherever it lies. */
enum pooling { MAXIMUM, AVERAGE, AVERAGE_OF_ALL };

/* The larger one is chosen twice: of what is not a number one choice keeps it in a, the other one in b,
   and so do the bits of both. Processors have an instruction for such a choice, but not for a test. */
static float8 larger_of(float8 a, float8 b) {
    return as_float8(as_int8(a > b ? a : b) | as_int8(b > a ? b : a));
}

static float8 combine(float8 a, float8 b, int pooling) {
    return pooling == MAXIMUM ? larger_of(a, b) : a + b;
}

/* count channels, 8 at most. */
static float8 load_pair(global const DATA_TYPE *input, int index, int count) {
    if (count >= LANES) return LOAD8(input, index);
    float8 value = 0.0f;
    value.lo = load_block(input, index, count);
    if (count > BLOCK) value.hi = load_block(input, index + BLOCK, count - BLOCK);
    return value;
}

static void store_pair(float8 value, global DATA_TYPE *output, int index, int count) {
    store_block(value.lo, output, index, count);
    if (count > BLOCK) store_block(value.hi, output, index + BLOCK, count - BLOCK);
}
