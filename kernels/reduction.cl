/* Reductions along one axis, and the softmax on top of them.

   A tensor is seen as (outer, length, inner), and reduced along its length. Results come in runs of 8
   neighbours: along inner, or, if inner is 1 (flat), one result a run, from runs along the length. */

#include "common.h"
#include "wide.h"

#define LANES 64

/* What is put together of the elements, each less its centre. */
enum reduction { SUM, SUM_OF_SIZES, SUM_OF_SQUARES, SUM_OF_EXPONENTIALS, PRODUCT, MINIMUM, MAXIMUM };

/* What is done to a result. */
enum finish { QUOTIENT, INVERSE_DEVIATION, INVERSE_ROOT, INVERSE, LOGARITHM };

static float8 smaller(float8 a, float8 b) { return ((a < b) | (a != a)) ? a : b; }

static float8 larger(float8 a, float8 b) { return ((a > b) | (a != a)) ? a : b; }

static float8 squared(float8 x) { return x * x; }

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
    case SUM_OF_SIZES: return fabs(x);
    case SUM_OF_SQUARES: return squared(x);
    case SUM_OF_EXPONENTIALS: return exp(x);
    default: return x;
    }
}

static float8 load_row(global const DATA_TYPE *input, global const float *given, int index,
                       int count) {
    if (given) return LOAD8_float(given, index);
    return load_wide(input, index, count);
}

#define ROWS(case_, value, both)                                                         \
    case case_:                                                                          \
        for (; row < end; row += across) {                                               \
            const float8 x = load_row(input, given, base + row * step, count) - centre;  \
            total = both(total, value(x));                                               \
        }                                                                                \
        break;
#define AS_IT_IS(x) (x)
#define ADD(x, y) ((x) + (y))
#define MULTIPLY(x, y) ((x) * (y))

/* The rows from `row` to before `end`, every one of `across`. */
static float8 reduce_rows(global const DATA_TYPE *input, global const float *given, int base,
                          int step, int count, int row, int end, int across, float8 centre,
                          int reduction) {
    float8 total = neutral(reduction);
    switch (reduction) {
        ROWS(SUM, AS_IT_IS, ADD)
        ROWS(SUM_OF_SIZES, fabs, ADD)
        ROWS(SUM_OF_SQUARES, squared, ADD)
        ROWS(SUM_OF_EXPONENTIALS, exp, ADD)
        ROWS(PRODUCT, AS_IT_IS, MULTIPLY)
        ROWS(MINIMUM, AS_IT_IS, smaller)
        ROWS(MAXIMUM, AS_IT_IS, larger)
    }
    return total;
}

/* The last row of a flat length, if it is a short one. */
static float8 reduce_short(global const DATA_TYPE *input, int index, int count, float8 centre,
                           int reduction) {
    const int8 places = (int8)(0, 1, 2, 3, 4, 5, 6, 7);
    const float8 x = load_wide(input, index, count) - centre;
    return places < count ? prepare(x, reduction) : neutral(reduction);
}

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

/* A work-group reduces `rows` of the length, of which there are `all_rows` (runs of 8 if flat), for
   LANES / across results; as many work-items as `across` share the rows of each. Then one of them puts
   their totals together. If there is more than one section of rows for a result, its totals go to
   `parts`, and are reduced by another launch with those as `given` and no input. Results go to the
   output, or as they are, in whole runs of float, to `statistics`, as `centre` has them too. */
kernel __attribute__((reqd_work_group_size(LANES, 1, 1))) void reduce(
    global const DATA_TYPE *input, global const float *given, global const float *centre,
    global DATA_TYPE *output, global float *statistics, global float *parts, int units, int results,
    int runs, int length, int inner, int all_rows, int rows, int sections, int across,
    int reduction, int finish, float divisor, float epsilon) {
    local float8 totals[LANES];
    const int flat = inner == 1, abreast = LANES / across, lane = get_local_id(0);
    for (int unit = get_group_id(0); unit < units; unit += get_num_groups(0)) {
        const int tile = unit / sections, section = unit - tile * sections;
        const int place = flat ? lane / across : lane % abreast;
        const int part = flat ? lane % across : lane / abreast;
        const int result = tile * abreast + place;
        float8 total = 0.0f;
        if (result < results) {
            const int outer = result / runs, first = (result - outer * runs) * WIDE;
            const int row = section * rows + part, whole = flat && !given ? length / WIDE : all_rows;
            const int end = section * rows + rows < whole ? section * rows + rows : whole;
            const int start = outer * length * inner + first;
            const int base = given ? result * all_rows * WIDE : start;
            const int step = given || flat ? WIDE : inner, count = flat ? WIDE : inner - first;
            const float8 middle = centre ? LOAD8_float(centre, result * WIDE) : 0.0f;
            total = reduce_rows(input, given, base, step, count, row, end, across, middle, reduction);
            if (whole < all_rows && section == sections - 1 && part == whole % across) {
                const int index = start + whole * WIDE;
                const float8 last =
                    reduce_short(input, index, length - whole * WIDE, middle, reduction);
                total = reduce_two(total, last, reduction);
            }
        }
        totals[part * abreast + place] = total;
        barrier(CLK_LOCAL_MEM_FENCE);
        const int made = tile * abreast + lane;
        if (lane < abreast && made < results) {
            total = totals[lane];
            for (int other = 1; other < across; other++)
                total = reduce_two(total, totals[other * abreast + lane], reduction);
            if (parts) {
                STORE8_float(total, parts, (made * sections + section) * WIDE);
            } else {
                if (flat) total = reduce_run(total, reduction);
                total = finish_run(total, finish, divisor, epsilon);
                const int outer = made / runs, first = (made - outer * runs) * WIDE;
                if (statistics) STORE8_float(total, statistics, made * WIDE);
                else store_wide(total, output, outer * inner + first, inner - first);
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

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
