/* Resizing of images in NHWC tensors. */

#include "common.h"

enum method { NEAREST, BILINEAR, BICUBIC };

/* How an output axis looks into an input axis: at (index + shift) * scale - shift. */
static float locate(int index, float scale, int half_pixels) {
    const float shift = half_pixels ? 0.5f : 0.0f;
    return (index + shift) * scale - shift;
}

static int find_nearest(int index, float scale, int half_pixels, int round_up, int length) {
    const float shift = half_pixels ? 0.5f : 0.0f;
    const float place = (index + shift) * scale;
    return clamp((int)floor(round_up ? place + 0.5f : place), 0, length - 1);
}

/* Cubic convolution (Keys, 1981) at distances of 1 + t, t, 1 - t and 2 - t. Of pixels outside,
   which repeat those at the edge, the weights may be left out; the others then make up for them. */
static float4 cubic_weights(float t, float a, int first, int length, int exclude_outside) {
    const float4 t4 = (float4)(t + 1.0f, t, 1.0f - t, 2.0f - t);
    const float4 outer = ((a * t4 - 5.0f * a) * t4 + 8.0f * a) * t4 - 4.0f * a;
    const float4 inner = ((a + 2.0f) * t4 - (a + 3.0f)) * t4 * t4 + 1.0f;
    float4 weights = (float4)(outer.x, inner.y, inner.z, outer.w);
    if (exclude_outside) {
        const int4 index = first + (int4)(0, 1, 2, 3);
        weights = index >= 0 && index < length ? weights : 0.0f;
        weights /= dot(weights, (float4)1.0f);
    }
    return weights;
}

/* One work-item at a time makes a run of blocks of channels in one row of the output. */
kernel void resize(global const DATA_TYPE *input, global DATA_TYPE *output, int work_items, int run,
                   int height, int width, int channels, int output_height, int output_width,
                   int method, int half_pixels, int round_up, int exclude_outside, float scale_y,
                   float scale_x, float coefficient) {
    const int blocks = (channels + BLOCK - 1) / BLOCK;
    const int row_blocks = output_width * blocks;
    const int runs = (row_blocks + run - 1) / run;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int row = item / runs;
        const int start = item % runs * run;
        const int end = min(start + run, row_blocks);
        const int y = row % output_height;
        const int image = row / output_height * height;
        const float at_y = locate(y, scale_y, half_pixels);
        const int floor_y = (int)floor(at_y);
        const int nearest_y = find_nearest(y, scale_y, half_pixels, round_up, height);
        const int y0 = clamp(floor_y, 0, height - 1), y1 = clamp(floor_y + 1, 0, height - 1);
        const float4 weights_y =
            cubic_weights(at_y - floor_y, coefficient, floor_y - 1, height, exclude_outside);
        int x = start / blocks;
        int channel = start % blocks * BLOCK;
        for (int i = start; i < end; i++) {
            const int count = min(BLOCK, channels - channel);
            const float at_x = locate(x, scale_x, half_pixels);
            const int floor_x = (int)floor(at_x);
            float4 value = 0.0f;
            if (method == NEAREST) {
                const int from_x = find_nearest(x, scale_x, half_pixels, round_up, width);
                const int from = (image + nearest_y) * width + from_x;
                value = load_block(input, from * channels + channel, count);
            } else if (method == BILINEAR) {
                const int x0 = clamp(floor_x, 0, width - 1), x1 = clamp(floor_x + 1, 0, width - 1);
                const int upper = (image + y0) * width, lower = (image + y1) * width;
                const float t = at_x - floor_x;
                value = mix(mix(load_block(input, (upper + x0) * channels + channel, count),
                                load_block(input, (upper + x1) * channels + channel, count), t),
                            mix(load_block(input, (lower + x0) * channels + channel, count),
                                load_block(input, (lower + x1) * channels + channel, count), t),
                            at_y - floor_y);
            } else {
                const float4 weights_x =
                    cubic_weights(at_x - floor_x, coefficient, floor_x - 1, width, exclude_outside);
                const float columns[4] = {weights_x.x, weights_x.y, weights_x.z, weights_x.w};
                const float rows[4] = {weights_y.x, weights_y.y, weights_y.z, weights_y.w};
                for (int ky = 0; ky < 4; ky++) {
                    const int from_y = image + clamp(floor_y - 1 + ky, 0, height - 1);
                    float4 sum = 0.0f;
                    for (int kx = 0; kx < 4; kx++) {
                        const int from_x = clamp(floor_x - 1 + kx, 0, width - 1);
                        const int from = (from_y * width + from_x) * channels + channel;
                        sum += load_block(input, from, count) * columns[kx];
                    }
                    value += sum * rows[ky];
                }
            }
            store_block(value, output, (row * output_width + x) * channels + channel, count);
            channel += BLOCK;
            if (channel >= channels) {
                channel = 0;
                x++;
            }
        }
    }
}
