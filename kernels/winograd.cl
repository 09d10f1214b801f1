/* 3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3): Lavin and Gray, Fast Algorithms for
   Convolutional Neural Networks, arXiv:1509.09308.

   The output is made in tiles of 2x2 pixels, each from a patch of 4x4 of the input. A patch and a
   filter are transformed to 16 numbers each, whose products, summed over the channels, are
   transformed to the tile: 16 products of matrices, with 16 multiplications where there were 36.
   What is between is float, (16, tiles, channels), its channels filled up to whole blocks. */

#define ELEMENT float

#include "product.h"

#define PATCH 4

/* One work-item at a time transforms the patch of one tile, for BLOCK channels: B^T d B. */
kernel void transform_input(global const DATA_TYPE *input, global float4 *output, int work_items,
                            int height, int width, int channels, int tiles_y, int tiles_x, int top,
                            int left) {
    const int blocks = (channels + BLOCK - 1) / BLOCK;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int channel = item % blocks * BLOCK;
        const int tile = item / blocks;
        const int x0 = tile % tiles_x * 2 - left;
        const int y0 = tile / tiles_x % tiles_y * 2 - top;
        const int batch = tile / tiles_x / tiles_y;
        const int count = channels - channel;
        float4 rows[PATCH][PATCH];
#pragma unroll
        for (int x = 0; x < PATCH; x++) {
            float4 column[PATCH];
#pragma unroll
            for (int y = 0; y < PATCH; y++) {
                column[y] = 0.0f;
                if (y0 + y >= 0 && y0 + y < height && x0 + x >= 0 && x0 + x < width) {
                    const int from = ((batch * height + y0 + y) * width + x0 + x) * channels + channel;
                    column[y] = count >= BLOCK ? LOAD4(input, from)
                                               : load_block(input, from, count);
                }
            }
            rows[0][x] = column[0] - column[2];
            rows[1][x] = column[1] + column[2];
            rows[2][x] = column[2] - column[1];
            rows[3][x] = column[1] - column[3];
        }
#pragma unroll
        for (int y = 0; y < PATCH; y++) {
            global float4 *to = output + PATCH * y * work_items + item;
            to[0] = rows[y][0] - rows[y][2];
            to[work_items] = rows[y][1] + rows[y][2];
            to[2 * work_items] = rows[y][2] - rows[y][1];
            to[3 * work_items] = rows[y][1] - rows[y][3];
        }
    }
}

/* One work-item at a time transforms the filter between two channels: G g G^T. The output is
   (16, channels, filters), each filled up with zeros to whole blocks. */
kernel void transform_weights(global const DATA_TYPE *weights, global float *output, int work_items,
                              int channels, int filters) {
    const int columns = (filters + BLOCK - 1) / BLOCK * BLOCK;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int channel = item / columns;
        const int filter = item % columns;
        const bool inside = channel < channels && filter < filters;
        float rows[PATCH][3];
        for (int x = 0; x < 3; x++) {
            float column[3];
            for (int y = 0; y < 3; y++)
                column[y] =
                    inside ? LOAD(weights, ((filter * 3 + y) * 3 + x) * channels + channel) : 0.0f;
            rows[0][x] = column[0];
            rows[1][x] = (column[0] + column[1] + column[2]) * 0.5f;
            rows[2][x] = (column[0] - column[1] + column[2]) * 0.5f;
            rows[3][x] = column[2];
        }
        for (int y = 0; y < PATCH; y++) {
            global float *to = output + PATCH * y * work_items + item;
            to[0] = rows[y][0];
            to[work_items] = (rows[y][0] + rows[y][1] + rows[y][2]) * 0.5f;
            to[2 * work_items] = (rows[y][0] - rows[y][1] + rows[y][2]) * 0.5f;
            to[3 * work_items] = rows[y][2];
        }
    }
}

/* One work-item at a time makes one tile of 2x2 pixels, for BLOCK channels: A^T m A, with bias and
   activation. bias may be null. */
kernel void transform_output(global const float4 *input, global const DATA_TYPE *bias,
                             global const DATA_TYPE *slopes, global DATA_TYPE *output,
                             int work_items, int height, int width, int channels, int tiles_y,
                             int tiles_x, int activation, float coefficient) {
    const int blocks = (channels + BLOCK - 1) / BLOCK;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int channel = item % blocks * BLOCK;
        const int tile = item / blocks;
        const int x0 = tile % tiles_x * 2;
        const int y0 = tile / tiles_x % tiles_y * 2;
        const int batch = tile / tiles_x / tiles_y;
        const int count = channels - channel;
        float4 rows[2][PATCH];
#pragma unroll
        for (int x = 0; x < PATCH; x++) {
            const global float4 *from = input + x * work_items + item;
            const float4 second = from[PATCH * work_items], third = from[2 * PATCH * work_items];
            rows[0][x] = from[0] + second + third;
            rows[1][x] = second - third - from[3 * PATCH * work_items];
        }
        float4 shift = 0.0f;
        if (bias) shift = load_block(bias, channel, count);
#pragma unroll
        for (int y = 0; y < 2; y++)
#pragma unroll
            for (int x = 0; x < 2; x++) {
                if (y0 + y >= height || x0 + x >= width) continue;
                float4 value = x == 0 ? rows[y][0] + rows[y][1] + rows[y][2]
                                      : rows[y][1] - rows[y][2] - rows[y][3];
                value = activate(value + shift, activation, coefficient, slopes, channel, count);
                const int to = ((batch * height + y0 + y) * width + x0 + x) * channels + channel;
                store_block(value, output, to, count);
            }
    }
}
