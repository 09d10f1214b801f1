/* Pooling over NHWC tensors. */

#include "windows.h"

/* What becomes of a window; what lies outside the input takes no part. Of the averages the second
   divides by the window's size wherever it lies. */
enum pooling { MAXIMUM, AVERAGE, AVERAGE_OF_ALL };

static float8 combine(float8 a, float8 b, int pooling) {
    return pooling == MAXIMUM ? (a > b ? a : b) : a + b;
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

/* One work-item at a time makes LANES channels of a tile. */
kernel void pool(global const DATA_TYPE *input, global DATA_TYPE *output, int work_items,
                 int height, int width, int channels, int output_height, int output_width,
                 int window_height, int window_width, int stride_y, int stride_x, int dilation_y,
                 int dilation_x, int top, int left, int pooling) {
    const int blocks = (channels + LANES - 1) / LANES;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const struct tile tile =
            find_tile(item / blocks, (output_height + ROWS - 1) / ROWS, output_width);
        const int channel = item % blocks * LANES;
        const int count = channels - channel;
        const int x = tile.x * stride_x - left;
        const int first_x = first_inside(x, dilation_x);
        const int last_x = last_inside(x, width, window_width, dilation_x);
        const int end = smaller(output_height, tile.row * ROWS + ROWS);
        for (int row = tile.row * ROWS; row < end; row++) {
            const int y = row * stride_y - top;
            const int first_y = first_inside(y, dilation_y);
            const int last_y = last_inside(y, height, window_height, dilation_y);
            float8 result = pooling == MAXIMUM ? -INFINITY : 0.0f;
            for (int ky = first_y; ky < last_y; ky++) {
                const int line = (tile.image * height + y + ky * dilation_y) * width + x;
                int from = (line + first_x * dilation_x) * channels + channel;
                for (int kx = first_x; kx < last_x; kx++, from += dilation_x * channels)
                    result = combine(result, load_pair(input, from, count), pooling);
            }
            if (pooling == AVERAGE) result /= larger(1, (last_y - first_y) * (last_x - first_x));
            if (pooling == AVERAGE_OF_ALL) result /= window_height * window_width;
            const int pixel = (tile.image * output_height + row) * output_width + tile.x;
            store_pair(result, output, pixel * channels + channel, count);
        }
    }
}

/* All pixels of an image: a work-group at a time makes up to SIDE blocks of LANES channels, each of
   its SIDE rows of work-items with every SIDE-th pixel. */
#define SIDE 8

kernel __attribute__((reqd_work_group_size(SIDE * SIDE, 1, 1))) void
global_pool(global const DATA_TYPE *input, global DATA_TYPE *output, int work_items, int pixels,
            int channels, int pooling) {
    local float8 results[SIDE * SIDE];
    const int groups = (channels + SIDE * LANES - 1) / (SIDE * LANES);
    const int item = get_local_id(0);
    for (int work = get_group_id(0); work < work_items / (SIDE * SIDE); work += get_num_groups(0)) {
        const int channel = (work % groups * SIDE + item % SIDE) * LANES;
        const int count = channels - channel;
        const int image = work / groups;
        float8 result = pooling == MAXIMUM ? -INFINITY : 0.0f;
        if (count > 0) {
            for (int pixel = item / SIDE; pixel < pixels; pixel += SIDE) {
                const int from = (image * pixels + pixel) * channels + channel;
                result = combine(result, load_pair(input, from, count), pooling);
            }
        }
        results[item] = result;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (item < SIDE && count > 0) {
            for (int row = 1; row < SIDE; row++)
                result = combine(result, results[row * SIDE + item], pooling);
            if (pooling != MAXIMUM) result /= pixels;
            store_pair(result, output, image * channels + channel, count);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
