/* What every program here shares: storage as float or half, arithmetic in float, activations.

   DATA_TYPE, a build option, is float or half: what tensors are stored as. A half is only ever loaded
   and stored (vload_half, vstore_half: OpenCL C specification, 6.15.7), so cl_khr_fp16 isn't needed. */

/* Vectors anywhere in an array of floats. Plain accesses: where a driver doesn't inline vload4 (PoCL
   3.0 on processors younger than its LLVM), each call would spill what the caller has in registers. */
typedef float4 __attribute__((aligned(4))) unaligned_float4;
typedef float8 __attribute__((aligned(4))) unaligned_float8;

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#define LOAD_float(pointer, index) (pointer)[index]
#define LOAD_half(pointer, index) vload_half(index, pointer)
#define LOAD4_float(pointer, index) (*(global const unaligned_float4 *)((pointer) + (index)))
#define LOAD4_half(pointer, index) vload_half4(0, (pointer) + (index))
#define LOAD8_float(pointer, index) (*(global const unaligned_float8 *)((pointer) + (index)))
#define LOAD8_half(pointer, index) vload_half8(0, (pointer) + (index))
#define STORE_float(value, pointer, index) (pointer)[index] = (value)
#define STORE_half(value, pointer, index) vstore_half(value, index, pointer)
#define STORE4_float(value, pointer, index) \
    (*(global unaligned_float4 *)((pointer) + (index)) = (value))
#define STORE4_half(value, pointer, index) vstore_half4(value, 0, (pointer) + (index))
#define STORE8_float(value, pointer, index) \
    (*(global unaligned_float8 *)((pointer) + (index)) = (value))
#define STORE8_half(value, pointer, index) vstore_half8(value, 0, (pointer) + (index))

#define LOAD(pointer, index) JOIN(LOAD_, DATA_TYPE)(pointer, index)
#define LOAD4(pointer, index) JOIN(LOAD4_, DATA_TYPE)(pointer, index)
#define LOAD8(pointer, index) JOIN(LOAD8_, DATA_TYPE)(pointer, index)
#define STORE(value, pointer, index) JOIN(STORE_, DATA_TYPE)(value, pointer, index)
#define STORE4(value, pointer, index) JOIN(STORE4_, DATA_TYPE)(value, pointer, index)
#define STORE8(value, pointer, index) JOIN(STORE8_, DATA_TYPE)(value, pointer, index)

/* Channels are worked on in blocks of 4; the last block of a pixel may be short. */
#define BLOCK 4

enum activation {
    NONE,
    RELU,
    RELU6,
    PRELU,
    SIGMOID,
    TANH,
    LEAKY_RELU,
    ELU,
    HARD_SIGMOID,
    HARD_SWISH
};

static float4 load_block(global const DATA_TYPE *pointer, int index, int count) {
    if (count >= BLOCK) return LOAD4(pointer, index);
    float4 value = 0.0f;
    value.x = LOAD(pointer, index);
    if (count > 1) value.y = LOAD(pointer, index + 1);
    if (count > 2) value.z = LOAD(pointer, index + 2);
    return value;
}

static void store_block(float4 value, global DATA_TYPE *pointer, int index, int count) {
    if (count >= BLOCK) {
        STORE4(value, pointer, index);
        return;
    }
    STORE(value.x, pointer, index);
    if (count > 1) STORE(value.y, pointer, index + 1);
    if (count > 2) STORE(value.z, pointer, index + 2);
}

/* Comparisons, as PoCL calls a function for each fmin and fmax; what is not a number stays so. */
static float4 clip(float4 value, float4 low, float4 high) {
    const float4 raised = value < low ? low : value;
    return raised > high ? high : raised;
}

/* Slopes of PRELU are one a channel, and read for no other activation. The coefficient is the slope
   of LEAKY_RELU below 0, and the limit (negated) of ELU. */
static float4 activate(float4 value, int activation, float coefficient,
                       global const DATA_TYPE *slopes, int channel, int count) {
    const float4 zero = 0.0f;
    switch (activation) {
    case NONE: return value;
    case RELU: return value < zero ? zero : value;
    case RELU6: return clip(value, 0.0f, 6.0f);
    case PRELU: return value < zero ? value * load_block(slopes, channel, count) : value;
    case SIGMOID: return 1.0f / (1.0f + exp(-value));
    case TANH: return tanh(value);
    case LEAKY_RELU: return value < zero ? value * coefficient : value;
    case ELU: return value < zero ? expm1(value) * coefficient : value;
    case HARD_SIGMOID: return clip(value * (1.0f / 6) + 0.5f, 0.0f, 1.0f);
    case HARD_SWISH: return value * clip(value * (1.0f / 6) + 0.5f, 0.0f, 1.0f);
    default: return value;
    }
}
