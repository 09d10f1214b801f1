/* Convolutions over NHWC tensors, with bias and activation. Weights as in TFLite. */

#include "windows.h"

/* Neighbouring work-items share filters (8 tiles) and then input (the next filters). */
#define TILES 8

/* One work-item at a time makes BLOCK output channels of a tile. bias may be null. */
kernel void convolution(global const DATA_TYPE *input, global const DATA_TYPE *weights,
                        global const DATA_TYPE *bias, global const DATA_TYPE *slopes,
                        global DATA_TYPE *output, int work_items, int tiles, int height, int width,
                        int channels, int output_height, int output_width, int output_channels,
                        int kernel_height, int kernel_width, int stride_y, int stride_x,
                        int dilation_y, int dilation_x, int top, int left, int groups,
                        int activation, float coefficient) {
    const int group_channels = channels / groups;
    const int group_filters = output_channels / groups;
    const int group_blocks = (group_filters + BLOCK - 1) / BLOCK;
    const int blocks = groups * group_blocks;
    const int filter_size = kernel_height * kernel_width * group_channels;
    const bool joined = dilation_x == 1 && groups == 1;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int rest = item % (TILES * blocks);
        const int number = item / (TILES * blocks) * TILES + rest % TILES;
        if (number >= tiles) continue;
        const struct tile tile = find_tile(number, (output_height + ROWS - 1) / ROWS, output_width);
        const int block = rest / TILES;
        const int group = groups == 1 ? 0 : block / group_blocks;
        const int channel = group * group_filters + (block - group * group_blocks) * BLOCK;
        const int count = smaller(BLOCK, (group + 1) * group_filters - channel);
        const int x = tile.x * stride_x - left;
        const int y = tile.row * ROWS * stride_y - top;
        const int first = first_inside(x, dilation_x);
        const int last = last_inside(x, width, kernel_width, dilation_x);
        /* Taps side by side are one run of numbers, in the input as in the weights. */
        const int taps = joined ? last - first : 1;
        float8 sums[ROWS][BLOCK];
        float4 totals[ROWS];
        UNROLLED for (int r = 0; r < ROWS; r++) {
            totals[r] = 0.0f;
            UNROLLED for (int b = 0; b < BLOCK; b++) sums[r][b] = 0.0f;
        }
        for (int ky = 0; ky < kernel_height; ky++) {
            for (int kx = first; kx < last; kx += taps) {
                const int column = x + kx * dilation_x;
                const int tap = (ky * kernel_width + kx) * group_channels;
                global const DATA_TYPE *from[ROWS], *filter[BLOCK];
                int inside[ROWS];
                UNROLLED for (int r = 0; r < ROWS; r++) {
                    const int row = y + r * stride_y + ky * dilation_y;
                    inside[r] = -(row >= 0 && row < height);
                    from[r] = input + group * group_channels +
                              ((tile.image * height + (row & inside[r])) * width + column) * channels;
                }
                /* Filters beyond the last one repeat it: their sums aren't stored. */
                UNROLLED for (int b = 0; b < BLOCK; b++)
                    filter[b] = weights + (channel + smaller(b, count - 1)) * filter_size + tap;
                add_products(sums, totals, from, inside, filter, taps * group_channels);
            }
        }
        UNROLLED for (int r = 0; r < ROWS; r++) totals[r] += add_lanes(sums[r]);
        const struct taps down = {0, kernel_height, 1, y, dilation_y};
        const struct taps across = {first, last, 1, x + first * dilation_x, dilation_x};
        sum_again(totals, stride_y, input + group * group_channels, tile.image, height, width,
                  channels, weights + channel * filter_size, filter_size, count, kernel_width,
                  group_channels, down, across);
        const int row = tile.row * ROWS;
        const int pixel = (tile.image * output_height + row) * output_width + tile.x;
        finish(totals, bias, slopes, output, pixel * output_channels, output_width * output_channels,
               smaller(ROWS, output_height - row), channel, count, activation, coefficient);
    }
}

/* The same, where output channel c sees only input channel c / multiplier.
   Weights are (1, kernel_height, kernel_width, output_channels). */
kernel void depthwise_convolution(global const DATA_TYPE *input, global const DATA_TYPE *weights,
                                  global const DATA_TYPE *bias, global const DATA_TYPE *slopes,
                                  global DATA_TYPE *output, int work_items, int height, int width,
                                  int channels, int output_height, int output_width,
                                  int output_channels, int kernel_height, int kernel_width,
                                  int stride_y, int stride_x, int dilation_y, int dilation_x,
                                  int top, int left, int activation, float coefficient) {
    const int multiplier = output_channels / channels;
    const int blocks = (output_channels + BLOCK - 1) / BLOCK;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const struct tile tile =
            find_tile(item / blocks, (output_height + ROWS - 1) / ROWS, output_width);
        const int channel = item % blocks * BLOCK;
        const int count = smaller(BLOCK, output_channels - channel);
        const int x = tile.x * stride_x - left;
        const int y = tile.row * ROWS * stride_y - top;
        const int first = first_inside(x, dilation_x);
        const int last = last_inside(x, width, kernel_width, dilation_x);
        float4 sums[ROWS] = {0.0f, 0.0f, 0.0f};
        for (int ky = 0; ky < kernel_height; ky++) {
            for (int kx = first; kx < last; kx++) {
                const int column = x + kx * dilation_x;
                const int tap = (ky * kernel_width + kx) * output_channels + channel;
                const float4 weight = load_channels(weights, tap, 0, count, 1);
                UNROLLED for (int r = 0; r < ROWS; r++) {
                    const int row = y + r * stride_y + ky * dilation_y;
                    const int from = ((tile.image * height + row) * width + column) * channels;
                    if (row >= 0 && row < height)
                        sums[r] += weight * load_channels(input, from, channel, count, multiplier);
                }
            }
        }
        const int row = tile.row * ROWS;
        const int pixel = (tile.image * output_height + row) * output_width + tile.x;
        finish(sums, bias, slopes, output, pixel * output_channels, output_width * output_channels,
               smaller(ROWS, output_height - row), channel, count, activation, coefficient);
    }
}
