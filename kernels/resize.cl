/* Resizing of images in NHWC tensors. */

#include "bits.h"

enum method { NEAREST, BILINEAR, BICUBIC };

/* How an output axis looks into an input axis: at (index + shift) * scale - shift. */
static float locate(int index, float scale, int half_pixels) {
    const float shift = half_pixels ? 0.5f : 0.0f;
    return (index + shift) * scale - shift;
}

/* As floor and clamp would do it, which PoCL calls as functions. */
static int round_down(float place) {
    const int index = (int)place;
    return index - (index > place);
}

static int hold(int index, int length) {
    const int held = index < length - 1 ? index : length - 1;
    return held < 0 ? 0 : held;
}

static int find_nearest(int index, float scale, int half_pixels, int round_up, int length) {
    const float shift = half_pixels ? 0.5f : 0.0f;
    const float place = (index + shift) * scale;
    return hold(round_down(round_up ? place + 0.5f : place), length);
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

/* Four indices of an axis; those outside repeat the one at the edge. */
static int4 four_from(int first, int length) {
    return (int4)(hold(first, length), hold(first + 1, length), hold(first + 2, length),
                  hold(first + 3, length));
}

static float4 pick(global const DATA_TYPE *row, int column, int channels, int channel) {
    return load_block(row, column * channels + channel, channels - channel);
}

static float4 cubic_row(global const DATA_TYPE *row, int4 columns, float4 weights, int channels,
                        int channel) {
    return pick(row, columns.x, channels, channel) * weights.x +
           pick(row, columns.y, channels, channel) * weights.y +
           pick(row, columns.z, channels, channel) * weights.z +
           pick(row, columns.w, channels, channel) * weights.w;
}

/* One work-item at a time makes a run of blocks of channels in one row of the output. */
kernel void resize(global const DATA_TYPE *input, global DATA_TYPE *output, int work_items, int run,
                   int height, int width, int channels, int output_height, int output_width,
                   int method, int half_pixels, int round_up, int exclude_outside, float scale_y,
                   float scale_x, float coefficient) {
    const int blocks = (channels + BLOCK - 1) / BLOCK;
    const int row_blocks = output_width * blocks;
    const int runs = (row_blocks + run - 1) / run;
    const int row_length = width * channels;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int row = item / runs;
        const int start = item % runs * run;
        const int end = min(start + run, row_blocks);
        global const DATA_TYPE *image = input + row / output_height * height * row_length;
        const int y = row % output_height;
        const float at_y = locate(y, scale_y, half_pixels);
        const int floor_y = round_down(at_y);
        const int4 rows = four_from(floor_y - 1, height) * row_length;
        const float4 weights_y =
            cubic_weights(at_y - floor_y, coefficient, floor_y - 1, height, exclude_outside);
        const int nearest_y = find_nearest(y, scale_y, half_pixels, round_up, height);
        int x = start / blocks;
        int channel = start % blocks * BLOCK;
        for (int i = start; i < end; x++, channel = 0) {
            global DATA_TYPE *to = output + (row * output_width + x) * channels;
            const int last = min(channels, channel + (end - i) * BLOCK);
            i += blocks - channel / BLOCK;
            if (method == NEAREST) {
                const int from_x = find_nearest(x, scale_x, half_pixels, round_up, width);
                const int from = nearest_y * row_length + from_x * channels + channel;
                copy_run((global const bits *)image + from, (global bits *)to + channel,
                         last - channel);
                continue;
            }
            const float at_x = locate(x, scale_x, half_pixels);
            const int floor_x = round_down(at_x);
            const float t = at_x - floor_x;
            const int4 columns = four_from(floor_x - 1, width);
            if (method == BILINEAR) {
                for (; channel < last; channel += BLOCK) {
                    const float4 upper = mix(pick(image + rows.y, columns.y, channels, channel),
                                             pick(image + rows.y, columns.z, channels, channel), t);
                    const float4 lower = mix(pick(image + rows.z, columns.y, channels, channel),
                                             pick(image + rows.z, columns.z, channels, channel), t);
                    store_block(mix(upper, lower, at_y - floor_y), to, channel, channels - channel);
                }
                continue;
            }
            const float4 weights_x =
                cubic_weights(t, coefficient, floor_x - 1, width, exclude_outside);
            for (; channel < last; channel += BLOCK) {
                const float4 value =
                    cubic_row(image + rows.x, columns, weights_x, channels, channel) * weights_y.x +
                    cubic_row(image + rows.y, columns, weights_x, channels, channel) * weights_y.y +
                    cubic_row(image + rows.z, columns, weights_x, channels, channel) * weights_y.z +
                    cubic_row(image + rows.w, columns, weights_x, channels, channel) * weights_y.w;
                store_block(value, to, channel, channels - channel);
            }
        }
    }
}
