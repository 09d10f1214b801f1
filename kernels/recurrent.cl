/* One step of a long short-term memory. */

#include "common.h"
#include "processor.h"
#include "wide.h"

#define LANES 64
#define GATES 4
#define SHARE 4
#define TOGETHER (LANES / GATES / SHARE)

#if !PROCESSOR
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
#endif

static float logistic(float x) { return 1.0f / (1.0f + exp(-x)); }

/* Put the gates of a unit together, whose sums are SHARE apart. */
static void finish_unit(local const float *sums, global const DATA_TYPE *cell,
                        global DATA_TYPE *next_hidden, global DATA_TYPE *next_cell, int index,
                        int input_gate, int forget_gate, int cell_gate, int output_gate,
                        float forget_bias) {
    const float kept = logistic(sums[forget_gate * SHARE] + forget_bias);
    const float added = logistic(sums[input_gate * SHARE]);
    const float value = kept * LOAD(cell, index) + added * tanh(sums[cell_gate * SHARE]);
    STORE(value, next_cell, index);
    STORE(logistic(sums[output_gate * SHARE]) * tanh(value), next_hidden, index);
}

/* A work-group makes TOGETHER of the units, which are counted through the batch. Weights and bias are in
   blocks of as many rows as there are units, one block a gate: the last integers say which. SHARE
   work-items share a row; the first of a unit puts its gates together. On a processor the first of
   a group does it all. */
kernel __attribute__((reqd_work_group_size(LANES, 1, 1))) void lstm_cell(
    global const DATA_TYPE *input, global const DATA_TYPE *hidden, global const DATA_TYPE *cell,
    global const DATA_TYPE *input_weights, global const DATA_TYPE *hidden_weights,
    global const DATA_TYPE *bias, global DATA_TYPE *next_hidden, global DATA_TYPE *next_cell,
    int size, int units, int inputs, int input_gate, int forget_gate, int cell_gate,
    int output_gate, float forget_bias) {
    local float sums[LANES];
    const int lane = get_local_id(0);
#if PROCESSOR
    if (lane) return;
    for (int index = get_group_id(0); index < size; index += get_num_groups(0)) {
        const int batch = index / units;
        for (int block = 0; block < GATES; block++) {
            const int row = block * units + index - batch * units;
            sums[block * SHARE] =
                dot_line(input_weights + row * inputs, input + batch * inputs, inputs) +
                dot_line(hidden_weights + row * units, hidden + batch * units, units) +
                (bias ? LOAD(bias, row) : 0.0f);
        }
        finish_unit(sums, cell, next_hidden, next_cell, index, input_gate, forget_gate, cell_gate,
                    output_gate, forget_bias);
    }
#else
    const int part = lane % SHARE, block = lane / SHARE % GATES;
    for (int first = get_group_id(0) * TOGETHER; first < size;
         first += get_num_groups(0) * TOGETHER) {
        const int index = first + lane / (GATES * SHARE), batch = index / units;
        const int row = block * units + index - batch * units;
        if (index < size) {
            const float8 sum = multiply_row(input_weights, input, row, batch, inputs, part) +
                               multiply_row(hidden_weights, hidden, row, batch, units, part);
            const float4 half_sum = sum.lo + sum.hi;
            sums[lane] = half_sum.x + half_sum.y + half_sum.z + half_sum.w;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (part == 0 && index < size) {
            const float rest = sums[lane + 1] + sums[lane + 2] + sums[lane + 3];
            sums[lane] += rest + (bias ? LOAD(bias, row) : 0.0f);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (part == 0 && block == 0 && index < size)
            finish_unit(sums + lane, cell, next_hidden, next_cell, index, input_gate, forget_gate,
                        cell_gate, output_gate, forget_bias);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
#endif
}
