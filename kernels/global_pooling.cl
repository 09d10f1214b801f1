/* Pooling of whole images of NHWC tensors: a program of its own, for few need it. */

#include "pooling.h"

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
