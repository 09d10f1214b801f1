/* Transposed convolutions over NHWC tensors, with bias and activation. Weights as in TFLite.

   Output row y is made of the input rows (y + top - ky * dilation_y) / stride_y without remainder:
   of every tap_step_y-th tap, and the next output row that sees the same taps is stride_y below. So
   a tile's rows are stride_y apart. Columns likewise. */

#include "windows.h"

/* The first tap whose distance to at is a multiple of the stride, or size if there is none. */
static int first_tap(int at, int size, int stride, int dilation) {
    int tap = 0;
    while (tap < size && (at - tap * dilation) % stride) tap++;
    return tap;
}

/* One work-item at a time makes BLOCK output channels of a tile. bias may be null. tile_rows are
   those of one image: as many for each of the stride_y rows that tiles begin in. */
kernel void transposed_convolution(
    global const DATA_TYPE *input, global const DATA_TYPE *weights, global const DATA_TYPE *bias,
    global const DATA_TYPE *slopes, global DATA_TYPE *output, int work_items, int tile_rows,
    int height, int width, int channels, int output_height, int output_width, int output_channels,
    int kernel_height, int kernel_width, int stride_y, int stride_x, int dilation_y, int dilation_x,
    int tap_step_y, int tap_step_x, int top, int left, int groups, int activation,
    float coefficient) {
    const int group_channels = channels / groups;
    const int group_filters = output_channels / groups;
    const int group_blocks = (group_filters + BLOCK - 1) / BLOCK;
    const int filter_size = kernel_height * kernel_width * group_channels;
    const int step_y = tap_step_y * dilation_y / stride_y; /* in the input, from tap to tap */
    const int step_x = tap_step_x * dilation_x / stride_x;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int block = item % (groups * group_blocks);
        const struct tile tile = find_tile(item / (groups * group_blocks), tile_rows, output_width);
        const int row = tile.row / stride_y * ROWS * stride_y + tile.row % stride_y;
        if (row >= output_height) continue;
        const int group = block / group_blocks;
        const int channel = group * group_filters + block % group_blocks * BLOCK;
        const int count = smaller(BLOCK, (group + 1) * group_filters - channel);
        const int y = row + top, x = tile.x + left;
        const int first_x = first_tap(x, kernel_width, stride_x, dilation_x);
        float8 sums[ROWS][BLOCK];
        float4 totals[ROWS];
        UNROLLED for (int r = 0; r < ROWS; r++) {
            totals[r] = 0.0f;
            UNROLLED for (int b = 0; b < BLOCK; b++) sums[r][b] = 0.0f;
        }
        const int first_y = first_tap(y, kernel_height, stride_y, dilation_y);
        const int begin_y = (y - first_y * dilation_y) / stride_y;
        const int begin_x = (x - first_x * dilation_x) / stride_x;
        int from_y = begin_y;
        for (int ky = first_y; ky < kernel_height; ky += tap_step_y, from_y -= step_y) {
            int from_x = begin_x;
            for (int kx = first_x; kx < kernel_width; kx += tap_step_x, from_x -= step_x) {
                const bool seen = from_x >= 0 && from_x < width;
                const int tap = (ky * kernel_width + kx) * group_channels;
                global const DATA_TYPE *from[ROWS], *filter[BLOCK];
                int inside[ROWS];
                UNROLLED for (int r = 0; r < ROWS; r++) {
                    inside[r] = -(from_y + r >= 0 && from_y + r < height);
                    from[r] = input + group * group_channels +
                              ((tile.image * height + ((from_y + r) & inside[r])) * width + from_x) *
                                  channels;
                }
                UNROLLED for (int b = 0; b < BLOCK; b++)
                    filter[b] = weights + (channel + smaller(b, count - 1)) * filter_size + tap;
                add_products(sums, totals, from, inside, filter, seen ? group_channels : 0);
            }
        }
        UNROLLED for (int r = 0; r < ROWS; r++) totals[r] += add_lanes(sums[r]);
        const struct taps down = {first_y, kernel_height, tap_step_y, begin_y, -step_y};
        const struct taps across = {first_x, kernel_width, tap_step_x, begin_x, -step_x};
        sum_again(totals, 1, input + group * group_channels, tile.image, height, width, channels,
                  weights + channel * filter_size, filter_size, count, kernel_width,
                  group_channels, down, across);
        const int pixel = (tile.image * output_height + row) * output_width + tile.x;
        finish(totals, bias, slopes, output, pixel * output_channels,
               stride_y * output_width * output_channels,
               smaller(ROWS, (output_height - row + stride_y - 1) / stride_y), channel, count,
               activation, coefficient);
    }
}

/* The same, where output channel c sees only input channel c / multiplier.
   Weights are (1, kernel_height, kernel_width, output_channels). */
kernel void transposed_depthwise_convolution(
    global const DATA_TYPE *input, global const DATA_TYPE *weights, global const DATA_TYPE *bias,
    global const DATA_TYPE *slopes, global DATA_TYPE *output, int work_items, int tile_rows,
    int height, int width, int channels, int output_height, int output_width, int output_channels,
    int kernel_height, int kernel_width, int stride_y, int stride_x, int dilation_y, int dilation_x,
    int tap_step_y, int tap_step_x, int top, int left, int activation, float coefficient) {
    const int multiplier = output_channels / channels;
    const int blocks = (output_channels + BLOCK - 1) / BLOCK;
    const int step_y = tap_step_y * dilation_y / stride_y; /* in the input, from tap to tap */
    const int step_x = tap_step_x * dilation_x / stride_x;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const struct tile tile = find_tile(item / blocks, tile_rows, output_width);
        const int row = tile.row / stride_y * ROWS * stride_y + tile.row % stride_y;
        if (row >= output_height) continue;
        const int channel = item % blocks * BLOCK;
        const int count = smaller(BLOCK, output_channels - channel);
        const int y = row + top, x = tile.x + left;
        const int first_x = first_tap(x, kernel_width, stride_x, dilation_x);
        float4 sums[ROWS] = {0.0f, 0.0f, 0.0f};
        const int first_y = first_tap(y, kernel_height, stride_y, dilation_y);
        int from_y = (y - first_y * dilation_y) / stride_y;
        for (int ky = first_y; ky < kernel_height; ky += tap_step_y, from_y -= step_y) {
            int from_x = (x - first_x * dilation_x) / stride_x;
            for (int kx = first_x; kx < kernel_width; kx += tap_step_x, from_x -= step_x) {
                if (from_x < 0 || from_x >= width) continue;
                const int tap = (ky * kernel_width + kx) * output_channels + channel;
                const float4 weight = load_channels(weights, tap, 0, count, 1);
                UNROLLED for (int r = 0; r < ROWS; r++) {
                    const int from = ((tile.image * height + from_y + r) * width + from_x) * channels;
                    if (from_y + r >= 0 && from_y + r < height)
                        sums[r] += weight * load_channels(input, from, channel, count, multiplier);
                }
            }
        }
        const int pixel = (tile.image * output_height + row) * output_width + tile.x;
        finish(sums, bias, slopes, output, pixel * output_channels,
               stride_y * output_width * output_channels,
               smaller(ROWS, (output_height - row + stride_y - 1) / stride_y), channel, count,
               activation, coefficient);
    }
}
