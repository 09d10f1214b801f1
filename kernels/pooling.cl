/* Pooling over NHWC tensors. */

#include "pooling.h"

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
                const int step = dilation_x * channels, taps = last_x - first_x;
                if (pooling == MAXIMUM && count >= LANES)
                    for (int kx = 0; kx < taps; kx++, from += step)
                        result = larger_of(result, LOAD8(input, from));
                else
                    for (int kx = 0; kx < taps; kx++, from += step)
                        result = combine(result, load_pair(input, from, count), pooling);
            }
            if (pooling == AVERAGE) result /= larger(1, (last_y - first_y) * (last_x - first_x));
            if (pooling == AVERAGE_OF_ALL) result /= window_height * window_width;
            const int pixel = (tile.image * output_height + row) * output_width + tile.x;
            store_pair(result, output, pixel * channels + channel, count);
        }
    }
}
