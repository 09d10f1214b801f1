/* Element-wise addition, of two tensors with an activation or of several, and activations alone. */

#include "common.h"
#include "wide.h"
#include "functions.h"

/* Loops of their own for what is done most: a choice in a loop takes longer than an addition. */
#define LOOP(value)                        \
    for (; i + WIDE <= count; i += WIDE) { \
        float8 x = LOAD8(left, i);         \
        if (right) x += LOAD8(right, i);   \
        STORE8(value, output, i);          \
    }

/* Rows are channels for PRELU; for all else there is one row. A work-item makes a run of each row of a
   chunk: few elements where neighbouring work-items share a memory transaction, else many. */
kernel void add_activate(global const DATA_TYPE *left, global const DATA_TYPE *right,
                         global const DATA_TYPE *slopes, global DATA_TYPE *output, int work_items,
                         int run, int chunk, int rows, int length, int activation,
                         float coefficient) {
    const int runs = (length + run - 1) / run;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int start = item % runs * run, first = item / runs * chunk;
        const int end = start + run < length ? start + run : length;
        const int last = first + chunk < rows ? first + chunk : rows;
        for (int row = first; row < last; row++) {
            int i = row * length + start;
            const int count = row * length + end;
            if (activation == NONE) LOOP(x)
            if (activation == RELU) LOOP(x < (float8)0.0f ? (float8)0.0f : x)
            while (i < count) {
                const int wide = i + WIDE <= count;
                float8 x = load_some(left, i, wide), slope = 0.0f;
                if (right) x += load_some(right, i, wide);
                if (activation == PRELU) slope = load_some(slopes, i - row * length, wide);
                x = activate_wide(x, activation, coefficient, slope);
                store_some(x, output, i, wide);
                i += wide ? WIDE : 1;
            }
        }
    }
}

/* Adds up to four tensors, of which the later ones may be null, one after the other to what was summed
   up before in float, if there is any. The sum goes to `sums`, which is float, or else to the output. */
kernel void add_several(global const DATA_TYPE *first, global const DATA_TYPE *second,
                        global const DATA_TYPE *third, global const DATA_TYPE *fourth,
                        global const float *before, global DATA_TYPE *output, global float *sums,
                        int work_items, int run, int size) {
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int start = item * run, count = start + run < size ? run : size - start;
        const int steps = STEPS(count);
        for (int step = 0; step < steps; step++) {
            const int i = start + PLACE(step, count), wide = IS_WIDE(step, count);
            float8 total = load_some(first, i, wide);
            if (before) total += wide ? LOAD8_float(before, i) : before[i];
            if (second) total += load_some(second, i, wide);
            if (third) total += load_some(third, i, wide);
            if (fourth) total += load_some(fourth, i, wide);
            if (!sums) store_some(total, output, i, wide);
            else if (wide) STORE8_float(total, sums, i);
            else sums[i] = total.s0;
        }
    }
}
