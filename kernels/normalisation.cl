/* Normalisation by statistics of the tensor or by given ones, and what is done with it in one go. */

#include "common.h"
#include "wide.h"
#include "functions.h"

/* How many rows are worked on side by side, so that what is the same for all is found once. */
#define ROWS 4

/* output = activation((input - centre) * factor * scale + offset), where whatever is null is left
   out. centre and factor are statistics as reduction.cl makes them, the same for `shared` rows, or, if
   flat, one for each row; mean and variance stand for them if they are given. Those, scale, offset
   and slopes go along the width of a row. A work-item makes a run of each row of a chunk: few elements
   where neighbouring work-items share a memory transaction, else many. */
kernel void normalise(global const DATA_TYPE *input, global const float *centre,
                      global const float *factor, global const DATA_TYPE *mean,
                      global const DATA_TYPE *variance, global const DATA_TYPE *scale,
                      global const DATA_TYPE *offset, global const DATA_TYPE *slopes,
                      global DATA_TYPE *output, int work_items, int run, int chunk, int rows,
                      int width, int shared, int flat, int activation, float coefficient,
                      float epsilon) {
    const int spans = (width + run - 1) / run, runs = (width + WIDE - 1) / WIDE;
    const int statistics = centre || factor;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int start = item % spans * run, first = item / spans * chunk;
        const int end = start + run < width ? start + run : width;
        const int last = first + chunk < rows ? first + chunk : rows;
        for (int row = first, next; row < last; row = next) {
            next = row + ROWS < last ? row + ROWS : last;
            int places = 0;
            if (statistics) {
                const int group = flat ? row : row / shared;
                const int same = flat ? row + 1 : (group + 1) * shared;
                next = next < same ? next : same;
                places = flat ? group * WIDE : group * runs * WIDE;
            }
            for (int x = start; x < end; x += WIDE) {
                const int count = width - x, place = flat ? places : places + x;
                float8 less = 0.0f, times = 1.0f, more = 0.0f, slope = 0.0f;
                if (centre) less = LOAD8_float(centre, place);
                if (factor) times = LOAD8_float(factor, place);
                if (mean) less += load_wide(mean, x, count);
                if (variance) times /= sqrt(load_wide(variance, x, count) + epsilon);
                if (scale) times *= load_wide(scale, x, count);
                if (offset) more = load_wide(offset, x, count);
                if (activation == PRELU) slope = load_wide(slopes, x, count);
                for (int i = row * width + x; i < next * width; i += width) {
                    float8 value = (load_wide(input, i, count) - less) * times + more;
                    if (activation != NONE)
                        value = activate_wide(value, activation, coefficient, slope);
                    store_wide(value, output, i, count);
                }
            }
        }
    }
}
