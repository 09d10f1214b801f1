/* Element-wise addition and activations. */

#include "common.h"
#include "wide.h"

/* output = activation(left + right); right may be null. rows are all axes but the last one. */
kernel void add_activate(global const DATA_TYPE *left, global const DATA_TYPE *right,
                         global const DATA_TYPE *slopes, global DATA_TYPE *output, int work_items,
                         int channels, int activation, float coefficient) {
    const int runs = (channels + WIDE - 1) / WIDE;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int row = item / runs;
        const int channel = (item - row * runs) * WIDE;
        const int count = channels - channel;
        const int index = row * channels + channel;
        float8 value = load_wide(left, index, count);
        if (right) value += load_wide(right, index, count);
        if (activation != NONE)
            value.lo = activate(value.lo, activation, coefficient, slopes, channel, count);
        if (activation != NONE && count > BLOCK) {
            const int next = channel + BLOCK;
            value.hi = activate(value.hi, activation, coefficient, slopes, next, count - BLOCK);
        }
        store_wide(value, output, index, count);
    }
}
