/* Whether the device is a processor, and what its drivers call functions for, written without calls. */

#ifndef PROCESSOR
#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || defined(__arm__)
#define PROCESSOR 1
#else
#define PROCESSOR 0
#endif
#endif

#if PROCESSOR
typedef ushort8 unaligned_ushort8 __attribute__((aligned(2)));

/* PoCL calls vload_half and vstore_half as functions: here is arithmetic on a half's bits instead. */
static float8 load_halves(global const unaligned_ushort8 *pointer) {
    const uint8 bits = __builtin_convertvector(*pointer, uint8);
    const float8 magnitude = as_float8((bits & 0x7fff) << 13) * 0x1p112f;
    const uint8 special = as_uint8((bits & 0x7c00) == 0x7c00) & 0x7f800000; /* infinite, or none */
    return as_float8(as_uint8(magnitude) | special | (bits & 0x8000) << 16);
}

static float load_one_half(global const ushort *pointer) {
    const uint bits = *pointer;
    const uint special = (bits & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
    const float magnitude = as_float((bits & 0x7fff) << 13) * 0x1p112f;
    return as_float(as_uint(magnitude) | special | (bits & 0x8000) << 16);
}

/* Rounded to the nearest, or to the even one of two. What is below the smallest normal half is
   rounded by an addition, which leaves just as many bits as such a half has. */
static ushort8 make_halves(float8 value) {
    const uint8 sign = as_uint8(value) & 0x80000000, size = as_uint8(value) ^ sign;
    const uint8 normal = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    const uint8 small = as_uint8(as_float8(size) + 0.5f) - as_uint(0.5f);
    const uint8 large = size > 0x7f800000 ? (uint8)0x7e00 : (uint8)0x7c00;
    const uint8 finite = size < 0x38800000 ? small : normal;
    return __builtin_convertvector((size < 0x47800000 ? finite : large) | sign >> 16, ushort8);
}

static ushort make_one_half(float value) {
    const uint sign = as_uint(value) & 0x80000000, size = as_uint(value) ^ sign;
    const uint normal = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    const uint small = as_uint(as_float(size) + 0.5f) - as_uint(0.5f);
    const uint large = size > 0x7f800000 ? 0x7e00 : 0x7c00;
    const uint finite = size < 0x38800000 ? small : normal;
    return (size < 0x47800000 ? finite : large) | sign >> 16;
}

#undef LOAD_half
#undef LOAD8_half
#undef STORE_half
#undef STORE8_half
#define STORE_half(value, pointer, index) \
    ((global ushort *)(pointer))[index] = make_one_half(value)
#define STORE8_half(value, pointer, index) \
    (*(global unaligned_ushort8 *)((pointer) + (index)) = make_halves(value))
#define LOAD_half(pointer, index) load_one_half((global const ushort *)(pointer) + (index))
#define LOAD8_half(pointer, index) \
    load_halves((global const unaligned_ushort8 *)((pointer) + (index)))

/* The sum of the products of two lines' elements. */
static float dot_line(global const DATA_TYPE *a, global const DATA_TYPE *b, int depth) {
    float8 sum0 = 0.0f, sum1 = 0.0f, sum2 = 0.0f, sum3 = 0.0f;
    int k = 0;
    for (; k + 32 <= depth; k += 32) {
        sum0 += LOAD8(a, k) * LOAD8(b, k);
        sum1 += LOAD8(a, k + 8) * LOAD8(b, k + 8);
        sum2 += LOAD8(a, k + 16) * LOAD8(b, k + 16);
        sum3 += LOAD8(a, k + 24) * LOAD8(b, k + 24);
    }
    for (; k + 8 <= depth; k += 8) sum0 += LOAD8(a, k) * LOAD8(b, k);
    sum0 = (sum0 + sum1) + (sum2 + sum3);
    const float4 half_sums = sum0.lo + sum0.hi;
    float sum = (half_sums.x + half_sums.y) + (half_sums.z + half_sums.w);
    for (; k < depth; k++) sum += LOAD(a, k) * LOAD(b, k);
    return sum;
}
#endif
