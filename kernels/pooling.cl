/* Pooling over NHWC tensors. */

#include "common.h"

/* The largest value under each window; what lies outside the input takes no part. */
kernel void max_pool(global const DATA_TYPE *input, global DATA_TYPE *output, int work_items,
                     int height, int width, int channels, int output_height, int output_width,
                     int size, int stride, int top, int left) {
    const int blocks = (channels + BLOCK - 1) / BLOCK;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int channel = item % blocks * BLOCK;
        const int pixel = item / blocks;
        const int x = pixel % output_width * stride - left;
        const int y = pixel / output_width % output_height * stride - top;
        const int batch = pixel / output_width / output_height;
        const int count = min(BLOCK, channels - channel);
        float4 largest = -INFINITY;
        for (int row = max(0, y); row < min(y + size, height); row++) {
            for (int column = max(0, x); column < min(x + size, width); column++) {
                const int from = ((batch * height + row) * width + column) * channels + channel;
                largest = fmax(largest, load_block(input, from, count));
            }
        }
        store_block(largest, output, pixel * channels + channel, count);
    }
}
