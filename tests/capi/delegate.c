/* Uses the library as a delegate of another framework does: found with dlopen, every function looked up by name,
   weights in a file, activations in shared memory, named devices, bursts, executions that are kept and reused.

   The model: int8 convolution with scales per channel, then DEQUANTIZE; computed here once more in doubles.
   argv: the library, the device ("any": all that take the model), "sync", "burst" or "async". */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <fcntl.h>

#define EACH(F)                                                                                                     \
    F(ANeuralNetworks_getRuntimeFeatureLevel)                                                                       \
    F(ANeuralNetworks_getDeviceCount)                                                                               \
    F(ANeuralNetworks_getDevice)                                                                                    \
    F(ANeuralNetworksDevice_getName)                                                                                \
    F(ANeuralNetworksDevice_getFeatureLevel)                                                                        \
    F(ANeuralNetworksModel_create)                                                                                  \
    F(ANeuralNetworksModel_free)                                                                                    \
    F(ANeuralNetworksModel_finish)                                                                                  \
    F(ANeuralNetworksModel_addOperand)                                                                              \
    F(ANeuralNetworksModel_setOperandValue)                                                                         \
    F(ANeuralNetworksModel_setOperandValueFromMemory)                                                               \
    F(ANeuralNetworksModel_setOperandSymmPerChannelQuantParams)                                                     \
    F(ANeuralNetworksModel_addOperation)                                                                            \
    F(ANeuralNetworksModel_identifyInputsAndOutputs)                                                                \
    F(ANeuralNetworksModel_relaxComputationFloat32toFloat16)                                                        \
    F(ANeuralNetworksModel_getSupportedOperationsForDevices)                                                        \
    F(ANeuralNetworksCompilation_createForDevices)                                                                  \
    F(ANeuralNetworksCompilation_setPreference)                                                                     \
    F(ANeuralNetworksCompilation_setCaching)                                                                        \
    F(ANeuralNetworksCompilation_setPriority)                                                                       \
    F(ANeuralNetworksCompilation_finish)                                                                            \
    F(ANeuralNetworksCompilation_free)                                                                              \
    F(ANeuralNetworksCompilation_getPreferredMemoryAlignmentForInput)                                               \
    F(ANeuralNetworksCompilation_getPreferredMemoryPaddingForInput)                                                 \
    F(ANeuralNetworksCompilation_getPreferredMemoryAlignmentForOutput)                                              \
    F(ANeuralNetworksCompilation_getPreferredMemoryPaddingForOutput)                                                \
    F(ANeuralNetworksMemory_createFromFd)                                                                           \
    F(ANeuralNetworksMemory_free)                                                                                   \
    F(ANeuralNetworksBurst_create)                                                                                  \
    F(ANeuralNetworksBurst_free)                                                                                    \
    F(ANeuralNetworksExecution_create)                                                                              \
    F(ANeuralNetworksExecution_free)                                                                                \
    F(ANeuralNetworksExecution_setReusable)                                                                         \
    F(ANeuralNetworksExecution_enableInputAndOutputPadding)                                                         \
    F(ANeuralNetworksExecution_setLoopTimeout)                                                                      \
    F(ANeuralNetworksExecution_setInputFromMemory)                                                                  \
    F(ANeuralNetworksExecution_setOutputFromMemory)                                                                 \
    F(ANeuralNetworksExecution_compute)                                                                             \
    F(ANeuralNetworksExecution_burstCompute)                                                                        \
    F(ANeuralNetworksExecution_startCompute)                                                                        \
    F(ANeuralNetworksEvent_wait)                                                                                    \
    F(ANeuralNetworksEvent_free)

#define DECLARE(name) static __typeof__(&name) p_##name;
EACH(DECLARE)

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
#define LOOK_UP(name)                           \
    *(void **)&p_##name = dlsym(library, #name); \
    CHECK(p_##name != NULL);
    EACH(LOOK_UP)
}

enum { SIZE = 8, CHANNELS = 3, FILTERS = 5, KERNEL = 3, OUT = SIZE / 2, WEIGHTS_AT = 64 };

static const float INPUT_SCALE = 0.05f, OUTPUT_SCALE = 0.25f;
static const int INPUT_ZERO = -3, OUTPUT_ZERO = 7;

static int8_t weights[FILTERS][KERNEL][KERNEL][CHANNELS];
static int32_t bias[FILTERS];
static float scales[FILTERS];

static uint32_t state = 12345;
static int small_random(int limit)
{
    state = state * 1664525u + 1013904223u;
    return (int)((state >> 16) % (unsigned)(2 * limit + 1)) - limit;
}

static size_t rounded(size_t bytes, uint32_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

static uint32_t operand_count;

static uint32_t operand(ANeuralNetworksModel *model, int32_t type, uint32_t rank, const uint32_t *dimensions,
                        float scale, int32_t zero_point)
{
    ANeuralNetworksOperandType made = {type, rank, dimensions, scale, zero_point};
    OK(p_ANeuralNetworksModel_addOperand(model, &made));
    return operand_count++;
}

static uint32_t scalar(ANeuralNetworksModel *model, int32_t type, const void *value, size_t bytes)
{
    uint32_t index = operand(model, type, 0, NULL, 0.0f, 0);
    OK(p_ANeuralNetworksModel_setOperandValue(model, (int32_t)index, value, bytes));
    return index;
}

static ANeuralNetworksModel *build(ANeuralNetworksMemory *file)
{
    static const uint32_t input_dims[] = {1, SIZE, SIZE, CHANNELS}, filter_dims[] = {FILTERS, KERNEL, KERNEL, CHANNELS};
    static const uint32_t bias_dims[] = {FILTERS}, output_dims[] = {1, OUT, OUT, FILTERS};
    static const int32_t stride = 2, same = ANEURALNETWORKS_PADDING_SAME, relu = ANEURALNETWORKS_FUSED_RELU;
    ANeuralNetworksSymmPerChannelQuantParams quant = {0, FILTERS, scales};
    ANeuralNetworksModel *model = NULL;
    uint32_t inputs[7], quantized, result;

    OK(p_ANeuralNetworksModel_create(&model));
    inputs[0] = operand(model, ANEURALNETWORKS_TENSOR_QUANT8_ASYMM_SIGNED, 4, input_dims, INPUT_SCALE, INPUT_ZERO);
    inputs[1] = operand(model, ANEURALNETWORKS_TENSOR_QUANT8_SYMM_PER_CHANNEL, 4, filter_dims, 0.0f, 0);
    OK(p_ANeuralNetworksModel_setOperandSymmPerChannelQuantParams(model, (int32_t)inputs[1], &quant));
    OK(p_ANeuralNetworksModel_setOperandValueFromMemory(model, (int32_t)inputs[1], file, WEIGHTS_AT, sizeof weights));
    inputs[2] = operand(model, ANEURALNETWORKS_TENSOR_INT32, 1, bias_dims, 0.0f, 0);
    OK(p_ANeuralNetworksModel_setOperandValue(model, (int32_t)inputs[2], bias, sizeof bias));
    inputs[3] = scalar(model, ANEURALNETWORKS_INT32, &same, 4);
    inputs[4] = scalar(model, ANEURALNETWORKS_INT32, &stride, 4);
    inputs[5] = scalar(model, ANEURALNETWORKS_INT32, &stride, 4);
    inputs[6] = scalar(model, ANEURALNETWORKS_INT32, &relu, 4);
    quantized = operand(model, ANEURALNETWORKS_TENSOR_QUANT8_ASYMM_SIGNED, 4, output_dims, OUTPUT_SCALE, OUTPUT_ZERO);
    result = operand(model, ANEURALNETWORKS_TENSOR_FLOAT32, 4, output_dims, 0.0f, 0);
    OK(p_ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_CONV_2D, 7, inputs, 1, &quantized));
    OK(p_ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_DEQUANTIZE, 1, &quantized, 1, &result));
    OK(p_ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, inputs, 1, &result));
    OK(p_ANeuralNetworksModel_relaxComputationFloat32toFloat16(model, true));
    OK(p_ANeuralNetworksModel_finish(model));
    return model;
}

/* The real value of an output, before it is rounded to a multiple of OUTPUT_SCALE. */
static double expected(const int8_t *x, int row, int column, int filter)
{
    double sum = (double)bias[filter] * INPUT_SCALE * scales[filter];
    for (int i = 0; i < KERNEL; i++)
        for (int j = 0; j < KERNEL; j++)
            for (int c = 0; c < CHANNELS; c++) { /* SAME: the one row and column of padding is at the end */
                int y = row * 2 + i, z = column * 2 + j;
                if (y < SIZE && z < SIZE)
                    sum += (double)(x[(y * SIZE + z) * CHANNELS + c] - INPUT_ZERO) * INPUT_SCALE *
                           weights[filter][i][j][c] * scales[filter];
            }
    double highest = (127 - OUTPUT_ZERO) * (double)OUTPUT_SCALE;
    return sum < 0 ? 0 : sum > highest ? highest : sum;
}

static int activations(size_t bytes, void **mapped, ANeuralNetworksMemory **memory)
{
    char name[64];
    snprintf(name, sizeof name, "/nnapi-test-%d-%p", (int)getpid(), (void *)memory);
    int fd = shm_open(name, O_RDWR | O_CREAT, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        abort();
    shm_unlink(name);
    *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    OK(p_ANeuralNetworksMemory_createFromFd(bytes, PROT_READ | PROT_WRITE, fd, 0, memory));
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    load(argv[1]);
    CHECK(p_ANeuralNetworks_getRuntimeFeatureLevel() >= ANEURALNETWORKS_FEATURE_LEVEL_5);

    for (int f = 0; f < FILTERS; f++) {
        scales[f] = 0.01f * (float)(f + 1);
        bias[f] = small_random(500);
        for (int i = 0; i < KERNEL * KERNEL * CHANNELS; i++)
            weights[f][i / CHANNELS / KERNEL][i / CHANNELS % KERNEL][i % CHANNELS] = (int8_t)small_random(127);
    }
    FILE *model_file = tmpfile();
    char header[WEIGHTS_AT] = "a model file";
    fwrite(header, 1, sizeof header, model_file);
    fwrite(weights, 1, sizeof weights, model_file);
    fflush(model_file);
    ANeuralNetworksMemory *file = NULL;
    OK(p_ANeuralNetworksMemory_createFromFd(sizeof header + sizeof weights, PROT_READ, fileno(model_file), 0, &file));

    ANeuralNetworksDevice *devices[16];
    uint32_t count = 0, chosen = 0;
    OK(p_ANeuralNetworks_getDeviceCount(&count));
    ANeuralNetworksModel *model = build(file);
    fclose(model_file);
    for (uint32_t i = 0; i < count && chosen < 16; i++) {
        bool supported[2] = {false, false};
        const char *name = NULL;
        int64_t level = 0;
        OK(p_ANeuralNetworks_getDevice(i, &devices[chosen]));
        OK(p_ANeuralNetworksDevice_getName(devices[chosen], &name));
        OK(p_ANeuralNetworksDevice_getFeatureLevel(devices[chosen], &level));
        if (strcmp(argv[2], "any") != 0 && strcmp(argv[2], name) != 0)
            continue;
        OK(p_ANeuralNetworksModel_getSupportedOperationsForDevices(
            model, (const ANeuralNetworksDevice *const *)&devices[chosen], 1, supported));
        chosen += supported[0] && supported[1];
    }
    CHECK(chosen > 0);

    ANeuralNetworksCompilation *compilation = NULL;
    OK(p_ANeuralNetworksCompilation_createForDevices(model, (const ANeuralNetworksDevice *const *)devices, chosen,
                                                     &compilation));
    OK(p_ANeuralNetworksCompilation_setPreference(compilation, ANEURALNETWORKS_PREFER_SUSTAINED_SPEED));
    OK(p_ANeuralNetworksCompilation_setPriority(compilation, ANEURALNETWORKS_PRIORITY_LOW));
    OK(p_ANeuralNetworksCompilation_finish(compilation));
    p_ANeuralNetworksMemory_free(file);

    uint32_t alignment = 0, padding = 0, out_alignment = 0, out_padding = 0;
    OK(p_ANeuralNetworksCompilation_getPreferredMemoryAlignmentForInput(compilation, 0, &alignment));
    OK(p_ANeuralNetworksCompilation_getPreferredMemoryPaddingForInput(compilation, 0, &padding));
    OK(p_ANeuralNetworksCompilation_getPreferredMemoryAlignmentForOutput(compilation, 0, &out_alignment));
    OK(p_ANeuralNetworksCompilation_getPreferredMemoryPaddingForOutput(compilation, 0, &out_padding));
    /* Two tensors in one memory, the second one used, so that offsets matter; and more padding than was asked for. */
    size_t input_bytes = rounded(SIZE * SIZE * CHANNELS, padding) + 32;
    size_t input_at = rounded(input_bytes, alignment);
    size_t output_bytes = rounded(OUT * OUT * FILTERS * sizeof(float), out_padding);
    size_t output_at = rounded(12, out_alignment);
    void *input_mapped = NULL, *output_mapped = NULL;
    ANeuralNetworksMemory *input_memory = NULL, *output_memory = NULL;
    int input_fd = activations(input_at + input_bytes, &input_mapped, &input_memory);
    int output_fd = activations(output_at + output_bytes, &output_mapped, &output_memory);
    int8_t *x = (int8_t *)input_mapped + input_at;
    const float *y = (const float *)((char *)output_mapped + output_at);

    ANeuralNetworksBurst *burst = NULL;
    if (strcmp(argv[3], "burst") == 0)
        OK(p_ANeuralNetworksBurst_create(compilation, &burst));
    ANeuralNetworksExecution *execution = NULL;
    OK(p_ANeuralNetworksExecution_create(compilation, &execution));
    OK(p_ANeuralNetworksExecution_setReusable(execution, true));
    OK(p_ANeuralNetworksExecution_enableInputAndOutputPadding(execution, true));
    OK(p_ANeuralNetworksExecution_setLoopTimeout(execution, 1000000000));
    OK(p_ANeuralNetworksExecution_setInputFromMemory(execution, 0, NULL, input_memory, input_at, input_bytes));
    OK(p_ANeuralNetworksExecution_setOutputFromMemory(execution, 0, NULL, output_memory, output_at, output_bytes));
    for (int run = 0; run < 5; run++) {
        for (int i = 0; i < SIZE * SIZE * CHANNELS; i++)
            x[i] = (int8_t)small_random(127);
        memset(output_mapped, 0xff, output_at + output_bytes);
        if (burst) {
            OK(p_ANeuralNetworksExecution_burstCompute(execution, burst));
        } else if (strcmp(argv[3], "async") == 0) {
            ANeuralNetworksEvent *event = NULL;
            OK(p_ANeuralNetworksExecution_startCompute(execution, &event));
            OK(p_ANeuralNetworksEvent_wait(event));
            p_ANeuralNetworksEvent_free(event);
        } else {
            OK(p_ANeuralNetworksExecution_compute(execution));
        }
        for (int row = 0; row < OUT; row++)
            for (int column = 0; column < OUT; column++)
                for (int f = 0; f < FILTERS; f++)
                    CHECK(fabs(y[(row * OUT + column) * FILTERS + f] - expected(x, row, column, f)) <=
                          1.001 * OUTPUT_SCALE);
    }
    p_ANeuralNetworksExecution_free(execution);
    if (burst)
        p_ANeuralNetworksBurst_free(burst);
    p_ANeuralNetworksModel_free(model);
    p_ANeuralNetworksCompilation_free(compilation);
    p_ANeuralNetworksMemory_free(input_memory);
    p_ANeuralNetworksMemory_free(output_memory);
    close(input_fd);
    close(output_fd);
    return finish_checks();
}
