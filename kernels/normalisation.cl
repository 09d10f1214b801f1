/* Normalisation by statistics of the tensor or by given ones, and what is done with it in one go. */

#include "common.h"
#include "wide.h"

static float8 activate_wide(float8 value, int activation, float coefficient,
                            global const DATA_TYPE *slopes, int channel, int count) {
    const float4 low = activate(value.lo, activation, coefficient, slopes, channel, count);
    if (count <= BLOCK) return (float8)(low, value.hi);
    const int next = channel + BLOCK;
    return (float8)(low, activate(value.hi, activation, coefficient, slopes, next, count - BLOCK));
}

/* output = activation((input - centre) * factor * scale + offset), where whatever is null is left
   out. centre and factor are statistics as reduction.cl makes them, the same for `shared` rows, or, if
   flat, one for each row; mean and variance stand for them if they are given. Those, scale, offset
   and slopes go along the width of a row. */
kernel void normalise(global const DATA_TYPE *input, global const float *centre,
                      global const float *factor, global const DATA_TYPE *mean,
                      global const DATA_TYPE *variance, global const DATA_TYPE *scale,
                      global const DATA_TYPE *offset, global const DATA_TYPE *slopes,
                      global DATA_TYPE *output, int work_items, int width, int shared, int flat,
                      int activation, float coefficient, float epsilon) {
    const int spans = (width + SPAN - 1) / SPAN, runs = (width + WIDE - 1) / WIDE;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int row = item / spans, start = (item - row * spans) * SPAN;
        const int end = start + SPAN < width ? start + SPAN : width;
        const int places = flat ? row * WIDE : row / shared * runs * WIDE;
        for (int first = start; first < end; first += WIDE) {
            const int count = width - first, place = flat ? places : places + first;
            float8 value = load_wide(input, row * width + first, count);
            if (centre) value -= LOAD8_float(centre, place);
            if (factor) value *= LOAD8_float(factor, place);
            if (mean) value -= load_wide(mean, first, count);
            if (variance) value /= sqrt(load_wide(variance, first, count) + epsilon);
            if (scale) value *= load_wide(scale, first, count);
            if (offset) value += load_wide(offset, first, count);
            if (activation != NONE)
                value = activate_wide(value, activation, coefficient, slopes, first, count);
            store_wide(value, output, row * width + first, count);
        }
    }
}
