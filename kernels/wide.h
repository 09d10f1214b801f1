/* Runs of 8 elements, for kernels that go through memory from end to end; the last run may be short.

   Comes after common.h. Written without calls: PoCL calls a function for each vload8, min or fmax,
   which a loop that only moves data doesn't forgive. */

#define WIDE 8

/* How much of a row a work-item takes at once, where finding the row's place is much of the work. */
#define SPAN 32

static float8 load_wide(global const DATA_TYPE *pointer, int index, int count) {
    if (count >= WIDE) return LOAD8(pointer, index);
    float8 value = 0.0f;
    value.s0 = LOAD(pointer, index);
    if (count > 1) value.s1 = LOAD(pointer, index + 1);
    if (count > 2) value.s2 = LOAD(pointer, index + 2);
    if (count > 3) value.s3 = LOAD(pointer, index + 3);
    if (count > 4) value.s4 = LOAD(pointer, index + 4);
    if (count > 5) value.s5 = LOAD(pointer, index + 5);
    if (count > 6) value.s6 = LOAD(pointer, index + 6);
    return value;
}

static void store_wide(float8 value, global DATA_TYPE *pointer, int index, int count) {
    if (count >= WIDE) {
        STORE8(value, pointer, index);
        return;
    }
    STORE(value.s0, pointer, index);
    if (count > 1) STORE(value.s1, pointer, index + 1);
    if (count > 2) STORE(value.s2, pointer, index + 2);
    if (count > 3) STORE(value.s3, pointer, index + 3);
    if (count > 4) STORE(value.s4, pointer, index + 4);
    if (count > 5) STORE(value.s5, pointer, index + 5);
    if (count > 6) STORE(value.s6, pointer, index + 6);
}

/* Instead of a short run its elements one by one: less code where much is done with them. A loop over
   `count` elements takes steps; a counter that goes on by one lets processors look ahead. */
#define STEPS(count) ((count) - (count) / WIDE * (WIDE - 1))
#define IS_WIDE(step, count) ((step) < (count) / WIDE)
#define PLACE(step, count) \
    (IS_WIDE(step, count) ? (step) * WIDE : (step) + (count) / WIDE * (WIDE - 1))

static float8 load_some(global const DATA_TYPE *pointer, int index, int wide) {
    if (wide) return LOAD8(pointer, index);
    return LOAD(pointer, index);
}

static void store_some(float8 value, global DATA_TYPE *pointer, int index, int wide) {
    if (wide) STORE8(value, pointer, index);
    else STORE(value.s0, pointer, index);
}
