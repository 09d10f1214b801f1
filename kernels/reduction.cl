/* Reductions along one axis, and the softmax on top of them.

   A tensor is seen as (outer, length, inner), and reduced along its length. Results come in runs of 8
   neighbours: along inner, or, if inner is 1 (flat), one result a run, from runs along the length. */

#include "common.h"
#include "functions.h"
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
    case SUM_OF_EXPONENTIALS: return exponential(x);
    default: return x;
    }
}

#define AS_IT_IS(x) (x)

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

/* As smaller and larger do it, but what is not a number is looked for in all four together. */
static float8 smallest(float8 total, float8 a, float8 b, float8 c, float8 d) {
    const int8 none = (a != a) | (b != b) | (c != c) | (d != d);
    a = a < b ? a : b;
    c = c < d ? c : d;
    a = a < c ? a : c;
    total = a < total ? a : total;
    return none ? NAN : total;
}

static float8 largest(float8 total, float8 a, float8 b, float8 c, float8 d) {
    const int8 none = (a != a) | (b != b) | (c != c) | (d != d);
    a = a > b ? a : b;
    c = c > d ? c : d;
    a = a > c ? a : c;
    total = a > total ? a : total;
    return none ? NAN : total;
}

/* Where the first of a result's rows is among given ones, `side` of which lie abreast. */
static int first_given(int result, int all_rows, int side) {
    return (result / side * all_rows * side + result % side) * WIDE;
}

#if PROCESSOR
#include "reduction_processor.h"
#else
#include "reduction_groups.h"
#endif

/* Softmax of a line, whose exponentials, if floats, are kept in the output until their sum is known. */
static void make_line(global const DATA_TYPE *line, global DATA_TYPE *made, int width,
                      int logarithm) {
    const int8 places = (int8)(0, 1, 2, 3, 4, 5, 6, 7);
    const int whole = width / WIDE * WIDE, count = width - whole;
    const int kept = sizeof(DATA_TYPE) == sizeof(float) && !logarithm;
    float8 last = -INFINITY;
    if (count) last = places < count ? load_wide(line, whole, count) : last;
    float8 maximum = last;
    int at = 0;
    for (; at + 4 * WIDE <= whole; at += 4 * WIDE)
        maximum = largest(maximum, LOAD8(line, at), LOAD8(line, at + WIDE),
                          LOAD8(line, at + 2 * WIDE), LOAD8(line, at + 3 * WIDE));
    for (; at < whole; at += WIDE) maximum = larger(maximum, LOAD8(line, at));
    maximum = reduce_run(maximum, MAXIMUM);
    last -= maximum;
    const float8 last_power = exponential(last);
    float8 total = last_power;
    for (at = 0; at < whole; at += WIDE) {
        const float8 value = exponential(LOAD8(line, at) - maximum);
        if (kept) STORE8(value, made, at);
        total += value;
    }
    total = reduce_run(total, SUM);
    if (logarithm) {
        const float8 less = log(total);
        for (at = 0; at < whole; at += WIDE) STORE8(LOAD8(line, at) - maximum - less, made, at);
        if (count) store_wide(last - less, made, whole, count);
        return;
    }
    const float8 factor = 1.0f / total;
    if (kept)
        for (at = 0; at < whole; at += WIDE) STORE8(LOAD8(made, at) * factor, made, at);
    else
        for (at = 0; at < whole; at += WIDE)
            STORE8(exponential(LOAD8(line, at) - maximum) * factor, made, at);
    if (count) store_wide(last_power * factor, made, whole, count);
}

/* output = exp(input - maxima) * factors, or input - maxima - factors if `logarithm`. A row is one of
   (outer, length), or, if flat, one of outer; statistics are the same for `shared` rows. A work-item
   makes `span` of each of some rows. If rows are flat there may be no maxima and factors: then it
   finds those of its rows, and makes them in one. */
kernel void softmax(global const DATA_TYPE *input, global const float *maxima,
                    global const float *factors, global DATA_TYPE *output, int work_items, int rows,
                    int chunk, int width, int span, int shared, int flat, int logarithm) {
    const int spans = (width + span - 1) / span, runs = (width + WIDE - 1) / WIDE;
    for (int item = get_global_id(0); item < work_items; item += get_global_size(0)) {
        const int first_row = item / spans * chunk, start = item % spans * span;
        const int end = start + span < width ? start + span : width;
        const int last_row = first_row + chunk < rows ? first_row + chunk : rows;
        for (int row = first_row; row < last_row; row++) {
            const int places = flat ? row * WIDE : row / shared * runs * WIDE;
            global const DATA_TYPE *line = input + row * width;
            global DATA_TYPE *made = output + row * width;
            if (!maxima) {
                make_line(line, made, width, logarithm);
                continue;
            }
            for (int first = start; first < end; first += WIDE) {
                const int place = flat ? places : places + first;
                const float8 x = load_wide(line, first, end - first) - LOAD8_float(maxima, place);
                const float8 factor = LOAD8_float(factors, place);
                store_wide(logarithm ? x - factor : exponential(x) * factor, made, first,
                           end - first);
            }
        }
    }
}
