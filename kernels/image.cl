/* From an image of bytes to a tensor. */

#include "common.h"

/* Bilinear samples of a rectangle of the image, at half-pixel centres, then value * scale + offset.
   Samples whose centre lies outside the image are black. One work-item makes one pixel. */
kernel void resize_normalise(global const uchar *image, global DATA_TYPE *output, int work_items,
                             int height, int width, int output_width, float top, float left,
                             float step_y, float step_x, float scale, float offset) {
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const float y = top + (item / output_width + 0.5f) * step_y;
        const float x = left + (item % output_width + 0.5f) * step_x;
        float3 value = 0.0f;
        if (y >= 0.0f && y <= height && x >= 0.0f && x <= width) {
            const float from_y = clamp(y - 0.5f, 0.0f, height - 1.0f);
            const float from_x = clamp(x - 0.5f, 0.0f, width - 1.0f);
            const int y0 = (int)from_y, y1 = min(y0 + 1, height - 1);
            const int x0 = (int)from_x, x1 = min(x0 + 1, width - 1);
            const float3 upper = mix(convert_float3(vload3(y0 * width + x0, image)),
                                     convert_float3(vload3(y0 * width + x1, image)), from_x - x0);
            const float3 lower = mix(convert_float3(vload3(y1 * width + x0, image)),
                                     convert_float3(vload3(y1 * width + x1, image)), from_x - x0);
            value = mix(upper, lower, from_y - y0);
        }
        value = value * scale + offset;
        STORE(value.x, output, item * 3);
        STORE(value.y, output, item * 3 + 1);
        STORE(value.z, output, item * 3 + 2);
    }
}
