/* Whether the device is a processor, and what its drivers call functions for, written without calls. */

#ifndef PROCESSOR
#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || defined(__arm__)
#define PROCESSOR 1
#else
#define PROCESSOR 0
#endif
#endif

#if PROCESSOR
/* e to the power of x, wrong by an ulp or two: 2 to the power of n, times e to what is left. */
static float8 exponential(float8 x) {
    const float8 low = -110.0f, high = 100.0f, shift = 0x1.8p23f; /* added, it rounds to integers */
    x = x < low ? low : x;
    x = x > high ? high : x;
    const float8 shifted = x * 1.44269504f + shift, n = shifted - shift;
    const float8 r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float8 sum = 1.98756915e-4f;
    sum = sum * r + 1.39819995e-3f;
    sum = sum * r + 8.33345191e-3f;
    sum = sum * r + 4.16657959e-2f;
    sum = sum * r + 1.66666655e-1f;
    sum = sum * r + 5.00000012e-1f;
    sum = sum * r * r + r + 1.0f;
    /* In two steps, as 2 to the power of n may be no normal number. */
    const int8 all = as_int8(shifted) - as_int(0x1.8p23f), some = all >> 1;
    return sum * as_float8((some + 127) << 23) * as_float8((all - some + 127) << 23);
}
#else
static float8 exponential(float8 x) { return exp(x); }
#endif
