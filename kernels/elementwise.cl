/* Element-wise addition and activations. */

#include "common.h"

/* output = activation(left + right); right may be null. rows are all axes but the last one. */
kernel void add_activate(global const DATA_TYPE *left, global const DATA_TYPE *right,
                         global const DATA_TYPE *slopes, global DATA_TYPE *output, int work_items,
                         int channels, int activation, float coefficient) {
    const int blocks = (channels + BLOCK - 1) / BLOCK;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int channel = item % blocks * BLOCK;
        const int count = min(BLOCK, channels - channel);
        const int index = item / blocks * channels + channel;
        float4 value = load_block(left, index, count);
        if (right) value += load_block(right, index, count);
        value = activate(value, activation, coefficient, slopes, channel, count);
        store_block(value, output, index, count);
    }
}
