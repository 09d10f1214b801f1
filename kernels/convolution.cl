/* Convolutions over NHWC tensors, with bias and activation. Weights as in TFLite. */

#include "common.h"

/* One work-item at a time makes BLOCK output channels of one pixel. bias may be null. */
kernel void convolution(global const DATA_TYPE *input, global const DATA_TYPE *weights,
                        global const DATA_TYPE *bias, global const DATA_TYPE *slopes,
                        global DATA_TYPE *output, int work_items, int height, int width,
                        int channels, int output_height, int output_width, int output_channels,
                        int kernel_height, int kernel_width, int stride, int top, int left,
                        int activation, float coefficient) {
    const int blocks = (output_channels + BLOCK - 1) / BLOCK;
    const int filter_size = kernel_height * kernel_width * channels;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int channel = item % blocks * BLOCK;
        const int pixel = item / blocks;
        const int x = pixel % output_width * stride - left;
        const int y = pixel / output_width % output_height * stride - top;
        const int batch = pixel / output_width / output_height;
        const int count = min(BLOCK, output_channels - channel);
        /* Filters beyond the last one repeat it: their sums are computed and not stored. */
        const int filter0 = channel * filter_size;
        const int filter1 = filter0 + min(1, count - 1) * filter_size;
        const int filter2 = filter0 + min(2, count - 1) * filter_size;
        const int filter3 = filter0 + min(3, count - 1) * filter_size;
        float4 sum0 = 0.0f, sum1 = 0.0f, sum2 = 0.0f, sum3 = 0.0f;
        for (int ky = max(0, -y); ky < min(kernel_height, height - y); ky++) {
            for (int kx = max(0, -x); kx < min(kernel_width, width - x); kx++) {
                const int from = ((batch * height + y + ky) * width + x + kx) * channels;
                const int tap = (ky * kernel_width + kx) * channels;
                int c = 0;
                for (; c + BLOCK <= channels; c += BLOCK) {
                    const float4 value = LOAD4(input, from + c);
                    sum0 += value * LOAD4(weights, filter0 + tap + c);
                    sum1 += value * LOAD4(weights, filter1 + tap + c);
                    sum2 += value * LOAD4(weights, filter2 + tap + c);
                    sum3 += value * LOAD4(weights, filter3 + tap + c);
                }
                for (; c < channels; c++) {
                    const float value = LOAD(input, from + c);
                    sum0.x += value * LOAD(weights, filter0 + tap + c);
                    sum1.x += value * LOAD(weights, filter1 + tap + c);
                    sum2.x += value * LOAD(weights, filter2 + tap + c);
                    sum3.x += value * LOAD(weights, filter3 + tap + c);
                }
            }
        }
        float4 sum = (float4)(dot(sum0, 1.0f), dot(sum1, 1.0f), dot(sum2, 1.0f), dot(sum3, 1.0f));
        if (bias) sum += load_block(bias, channel, count);
        sum = activate(sum, activation, coefficient, slopes, channel, count);
        store_block(sum, output, pixel * output_channels + channel, count);
    }
}

/* The same, where output channel c sees only input channel c / multiplier.
   Weights are (1, kernel_height, kernel_width, output_channels). */
kernel void depthwise_convolution(global const DATA_TYPE *input, global const DATA_TYPE *weights,
                                  global const DATA_TYPE *bias, global const DATA_TYPE *slopes,
                                  global DATA_TYPE *output, int work_items, int height, int width,
                                  int channels, int output_height, int output_width,
                                  int output_channels, int kernel_height, int kernel_width,
                                  int stride, int top, int left, int activation, float coefficient) {
    const int multiplier = output_channels / channels;
    const int blocks = (output_channels + BLOCK - 1) / BLOCK;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int channel = item % blocks * BLOCK;
        const int pixel = item / blocks;
        const int x = pixel % output_width * stride - left;
        const int y = pixel / output_width % output_height * stride - top;
        const int batch = pixel / output_width / output_height;
        const int count = min(BLOCK, output_channels - channel);
        const int channel1 = (channel + min(1, count - 1)) / multiplier;
        const int channel2 = (channel + min(2, count - 1)) / multiplier;
        const int channel3 = (channel + min(3, count - 1)) / multiplier;
        float4 sum = 0.0f;
        for (int ky = max(0, -y); ky < min(kernel_height, height - y); ky++) {
            for (int kx = max(0, -x); kx < min(kernel_width, width - x); kx++) {
                const int from = ((batch * height + y + ky) * width + x + kx) * channels;
                const int tap = (ky * kernel_width + kx) * output_channels + channel;
                const float4 value =
                    multiplier == 1
                        ? load_block(input, from + channel, count)
                        : (float4)(LOAD(input, from + channel / multiplier),
                                   LOAD(input, from + channel1), LOAD(input, from + channel2),
                                   LOAD(input, from + channel3));
                sum += value * load_block(weights, tap, count);
            }
        }
        if (bias) sum += load_block(bias, channel, count);
        sum = activate(sum, activation, coefficient, slopes, channel, count);
        store_block(sum, output, pixel * output_channels + channel, count);
    }
}
