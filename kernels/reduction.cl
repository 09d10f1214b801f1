/* Reductions along one axis, and the softmax on top of them.

   A tensor is seen as (outer, length, inner), and reduced along its length. Results come in runs of 8
   neighbours: along inner, or, if inner is 1 (flat), one result a run, from runs along the length. */

#include "common.h"
#include "processor.h"
#include "wide.h"

#define LANES 64

/* What is put together of the elements, each less its centre. */
enum reduction { SUM, SUM_OF_SIZES, SUM_OF_SQUARES, SUM_OF_EXPONENTIALS, PRODUCT, MINIMUM, MAXIMUM };

/* What is done to a result. */
enum finish { QUOTIENT, INVERSE_DEVIATION, INVERSE_ROOT, INVERSE, LOGARITHM };

static float8 smaller(float8 a, float8 b) { return ((a < b) | (a != a)) ? a : b; }

static float8 larger(float8 a, float8 b) { return ((a > b) | (a != a)) ? a : b; }

static float8 squared(float8 x) { return x * x; }

static float8 size(float8 x) { return as_float8(as_int8(x) & 0x7fffffff); }

static float neutral(int reduction) {
    switch (reduction) {
    case PRODUCT: return 1.0f;
    case MINIMUM: return INFINITY;
    case MAXIMUM: return -INFINITY;
    default: return 0.0f;
    }
}

static float8 reduce_two(float8 a, float8 b, int reduction) {
    switch (reduction) {
    case PRODUCT: return a * b;
    case MINIMUM: return smaller(a, b);
    case MAXIMUM: return larger(a, b);
    default: return a + b;
    }
}

/* What an element adds to a sum. */
static float8 prepare(float8 x, int reduction) {
    switch (reduction) {
    case SUM_OF_SIZES: return size(x);
    case SUM_OF_SQUARES: return squared(x);
    case SUM_OF_EXPONENTIALS: return exp(x);
    default: return x;
    }
}

#define AS_IT_IS(x) (x)
#define ADD(x, y) ((x) + (y))
#define MULTIPLY(x, y) ((x) * (y))

static float8 reduce_run(float8 x, int reduction) {
    x = reduce_two(x, x.s45670123, reduction);
    x = reduce_two(x, x.s23456701, reduction);
    return reduce_two(x, x.s12345670, reduction);
}

static float8 finish_run(float8 total, int finish, float divisor, float epsilon) {
    switch (finish) {
    case INVERSE_DEVIATION: return 1.0f / sqrt(total / divisor + epsilon);
    case INVERSE_ROOT: return 1.0f / fmax(sqrt(total), (float8)epsilon);
    case INVERSE: return 1.0f / fmax(total, (float8)epsilon);
    case LOGARITHM: return log(total);
    default: return total / divisor;
    }
}

#if PROCESSOR
#include "reduction_processor.h"
#else
#include "reduction_groups.h"
#endif

/* output = exp(input - maxima) * factors, or input - maxima - factors if `logarithm`. A row is one of
   (outer, length), or, if flat, one of outer; statistics are the same for `shared` rows. */
kernel void softmax(global const DATA_TYPE *input, global const float *maxima,
                    global const float *factors, global DATA_TYPE *output, int work_items,
                    int width, int shared, int flat, int logarithm) {
    const int spans = (width + SPAN - 1) / SPAN, runs = (width + WIDE - 1) / WIDE;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int row = item / spans, start = (item - row * spans) * SPAN;
        const int end = start + SPAN < width ? start + SPAN : width;
        const int places = flat ? row * WIDE : row / shared * runs * WIDE;
        for (int first = start; first < end; first += WIDE) {
            const int index = row * width + first, count = width - first;
            const int place = flat ? places : places + first;
            const float8 x = load_wide(input, index, count) - LOAD8_float(maxima, place);
            const float8 factor = LOAD8_float(factors, place);
            store_wide(logarithm ? x - factor : exp(x) * factor, output, index, count);
        }
    }
}
