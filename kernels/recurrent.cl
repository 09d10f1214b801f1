/* One step of a long short-term memory. */

#include "common.h"
#include "wide.h"

#define LANES 64
#define GATES 4
#define SHARE (LANES / GATES)

/* What one of SHARE work-items adds to the product of a row of weights and a vector. */
static float8 multiply_row(global const DATA_TYPE *weights, global const DATA_TYPE *vector, int row,
                           int batch, int length, int part) {
    float8 total = 0.0f;
    for (int first = part * WIDE; first < length; first += SHARE * WIDE) {
        const int count = length - first;
        const float8 weight = load_wide(weights, row * length + first, count);
        total += weight * load_wide(vector, batch * length + first, count);
    }
    return total;
}

static float logistic(float x) { return 1.0f / (1.0f + exp(-x)); }

/* A work-group makes one unit of one of the batch. Weights and bias are in blocks of as many rows as
   there are units: one for each gate, the gates at the blocks that the last integers say. */
kernel __attribute__((reqd_work_group_size(LANES, 1, 1))) void lstm_cell(
    global const DATA_TYPE *input, global const DATA_TYPE *hidden, global const DATA_TYPE *cell,
    global const DATA_TYPE *input_weights, global const DATA_TYPE *hidden_weights,
    global const DATA_TYPE *bias, global DATA_TYPE *next_hidden, global DATA_TYPE *next_cell,
    int work_groups, int units, int inputs, int input_gate, int forget_gate, int cell_gate,
    int output_gate, float forget_bias) {
    local float sums[LANES];
    const int lane = get_local_id(0), part = lane % SHARE, block = lane / SHARE;
    for (int index = get_group_id(0); index < work_groups; index += get_num_groups(0)) {
        const int batch = index / units, row = block * units + index % units;
        const float8 sum = multiply_row(input_weights, input, row, batch, inputs, part) +
                           multiply_row(hidden_weights, hidden, row, batch, units, part);
        const float4 half_sum = sum.lo + sum.hi;
        sums[lane] = half_sum.x + half_sum.y + half_sum.z + half_sum.w;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (part == 0) {
            float total = bias ? LOAD(bias, row) : 0.0f;
            for (int other = 0; other < SHARE; other++) total += sums[lane + other];
            sums[lane] = total;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane == 0) {
            const float kept = logistic(sums[forget_gate * SHARE] + forget_bias);
            const float added = logistic(sums[input_gate * SHARE]) * tanh(sums[cell_gate * SHARE]);
            const float value = kept * LOAD(cell, index) + added;
            STORE(value, next_cell, index);
            STORE(logistic(sums[output_gate * SHARE]) * tanh(value), next_hidden, index);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
