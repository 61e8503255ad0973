/* The whole life of NNAPI's objects as a C program sees it; argv[1] is a folder for the cache. */
#define _GNU_SOURCE
#include "check.h"

static ANeuralNetworksDevice *device; /* the reference: it takes everything, on every machine */

static ANeuralNetworksCompilation *compile_for(ANeuralNetworksModel *model, ANeuralNetworksDevice *chosen)
{
    ANeuralNetworksCompilation *compilation = NULL;
    const ANeuralNetworksDevice *list[] = {chosen};
    if (chosen)
        OK(ANeuralNetworksCompilation_createForDevices(model, list, 1, &compilation));
    else
        OK(ANeuralNetworksCompilation_create(model, &compilation));
    OK(ANeuralNetworksCompilation_finish(compilation));
    return compilation;
}

static void devices(void)
{
    uint32_t count = 0;
    OK(ANeuralNetworks_getDeviceCount(&count));
    CHECK(count >= 1);
    for (uint32_t i = 0; i < count; i++) {
        ANeuralNetworksDevice *found = NULL, *again = NULL;
        const char *name = NULL, *version = NULL;
        int32_t type = -1;
        int64_t level = -1;
        bool has_extension = true;
        OK(ANeuralNetworks_getDevice(i, &found));
        OK(ANeuralNetworks_getDevice(i, &again));
        CHECK(found && found == again);
        OK(ANeuralNetworksDevice_getName(found, &name));
        OK(ANeuralNetworksDevice_getVersion(found, &version));
        CHECK(name && *name && version && *version);
        OK(ANeuralNetworksDevice_getType(found, &type));
        CHECK(type >= ANEURALNETWORKS_DEVICE_UNKNOWN && type <= ANEURALNETWORKS_DEVICE_ACCELERATOR);
        OK(ANeuralNetworksDevice_getFeatureLevel(found, &level));
        CHECK(level >= ANEURALNETWORKS_FEATURE_LEVEL_1 && level <= ANeuralNetworks_getRuntimeFeatureLevel());
        OK(ANeuralNetworksDevice_wait(found));
        OK(ANeuralNetworksDevice_getExtensionSupport(found, "com.example.nobody", &has_extension));
        CHECK(!has_extension);
    }
    EXPECT(BAD_DATA, ANeuralNetworks_getDevice(count, &device));
    EXPECT(BAD_DATA, ANeuralNetworks_getDevice(UINT32_MAX, &device));
    CHECK(device == NULL);
    device = device_named("reference");
    CHECK(device != NULL);
    CHECK(ANeuralNetworks_getRuntimeFeatureLevel() == ANEURALNETWORKS_FEATURE_LEVEL_8);
    CHECK(ANeuralNetworks_getDefaultLoopTimeout() == 2000000000u);
    CHECK(ANeuralNetworks_getMaximumLoopTimeout() == 15000000000u);
}

static void models(void)
{
    const uint32_t none[] = {0};
    ANeuralNetworksModel *model = add_model(4);
    ANeuralNetworksCompilation *compilation = (ANeuralNetworksCompilation *)&model;
    ANeuralNetworksOperandType type = SCALAR_INT32;
    bool supported[1] = {false};
    const ANeuralNetworksDevice *list[] = {device, device};

    EXPECT(BAD_STATE, ANeuralNetworksCompilation_create(model, &compilation));
    CHECK(compilation == NULL);
    EXPECT(BAD_STATE, ANeuralNetworksModel_getSupportedOperationsForDevices(model, list, 1, supported));
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValue(model, 99, none, 4));
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValue(model, -1, none, 4));
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValue(model, 2, none, 3));
    EXPECT(BAD_DATA, ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, none, 1, none));
    EXPECT(BAD_DATA, ANeuralNetworksModel_addOperation(model, 9999, 1, none, 1, none));
    OK(ANeuralNetworksModel_relaxComputationFloat32toFloat16(model, false));
    OK(ANeuralNetworksModel_finish(model));

    EXPECT(BAD_STATE, ANeuralNetworksModel_finish(model));
    EXPECT(BAD_STATE, ANeuralNetworksModel_addOperand(model, &type));
    EXPECT(BAD_STATE, ANeuralNetworksModel_setOperandValue(model, 2, none, 4));
    EXPECT(BAD_STATE, ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_ADD, 1, none, 1, none));
    EXPECT(BAD_STATE, ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, none, 1, none));
    EXPECT(BAD_STATE, ANeuralNetworksModel_relaxComputationFloat32toFloat16(model, true));
    OK(ANeuralNetworksModel_getSupportedOperationsForDevices(model, list, 1, supported));
    CHECK(supported[0]);
    EXPECT(BAD_DATA, ANeuralNetworksModel_getSupportedOperationsForDevices(model, list, 0, supported));
    EXPECT(BAD_DATA, ANeuralNetworksModel_getSupportedOperationsForDevices(model, list, 2, supported));
    EXPECT(BAD_DATA, ANeuralNetworksCompilation_createForDevices(model, list, 0, &compilation));
    EXPECT(BAD_DATA, ANeuralNetworksCompilation_createForDevices(model, list, 2, &compilation));
    ANeuralNetworksModel_free(model);
    EXPECT(BAD_DATA, ANeuralNetworksModel_finish(model));
    ANeuralNetworksModel_free(model);
    ANeuralNetworksModel_free(NULL);

    OK(ANeuralNetworksModel_create(&model));
    EXPECT(BAD_DATA, ANeuralNetworksModel_finish(model));
    ANeuralNetworksModel_free(model);
}

/* A large constant belongs to the client until the model is finished, and no longer. */
static void constants(void)
{
    enum { COUNT = 1000 };
    uint32_t count = COUNT;
    const uint32_t inputs[] = {0, 1, 2}, outputs[] = {3};
    const int32_t none = ANEURALNETWORKS_FUSED_NONE;
    ANeuralNetworksOperandType type = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 1, &count);
    ANeuralNetworksModel *model = NULL;
    ANeuralNetworksExecution *execution = NULL;
    float *weights = malloc(COUNT * sizeof(float)), given[COUNT], got[COUNT];

    OK(ANeuralNetworksModel_create(&model));
    OK(ANeuralNetworksModel_addOperand(model, &type));
    OK(ANeuralNetworksModel_addOperand(model, &type));
    OK(ANeuralNetworksModel_addOperand(model, &SCALAR_INT32));
    OK(ANeuralNetworksModel_addOperand(model, &type));
    OK(ANeuralNetworksModel_setOperandValue(model, 1, weights, COUNT * sizeof(float)));
    {
        int32_t copied = none;
        OK(ANeuralNetworksModel_setOperandValue(model, 2, &copied, sizeof copied));
        copied = 77;
    }
    OK(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_ADD, 3, inputs, 1, outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, inputs, 1, outputs));
    for (int i = 0; i < COUNT; i++) {
        weights[i] = (float)i;
        given[i] = 1.0f;
    }
    OK(ANeuralNetworksModel_finish(model));
    memset(weights, 0xff, COUNT * sizeof(float));
    free(weights);

    ANeuralNetworksCompilation *compilation = compile_for(model, NULL);
    ANeuralNetworksModel_free(model);
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, given, sizeof given));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, got, sizeof got));
    OK(ANeuralNetworksExecution_compute(execution));
    for (int i = 0; i < COUNT; i++)
        CHECK(got[i] == 1.0f + (float)i);
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksCompilation_free(compilation);
}

static void compilations(const char *cache)
{
    uint8_t token[ANEURALNETWORKS_BYTE_SIZE_OF_CACHE_TOKEN] = {7};
    uint32_t value = 0;
    ANeuralNetworksModel *model = finished_add_model(4);
    const ANeuralNetworksDevice *list[] = {device};
    ANeuralNetworksExecution *execution = NULL;
    ANeuralNetworksBurst *burst = NULL;

    for (int round = 0; round < 2; round++) { /* compiled, then from the cache */
        ANeuralNetworksCompilation *compilation = NULL;
        OK(ANeuralNetworksCompilation_createForDevices(model, list, 1, &compilation));
        OK(ANeuralNetworksCompilation_setCaching(compilation, cache, token));
        EXPECT(BAD_DATA, ANeuralNetworksCompilation_setPreference(compilation, 40));
        EXPECT(BAD_DATA, ANeuralNetworksCompilation_setPriority(compilation, 95));
        OK(ANeuralNetworksCompilation_setPreference(compilation, ANEURALNETWORKS_PREFER_SUSTAINED_SPEED));
        OK(ANeuralNetworksCompilation_setPriority(compilation, ANEURALNETWORKS_PRIORITY_HIGH));
        OK(ANeuralNetworksCompilation_setTimeout(compilation, 60000000000u));
        EXPECT(BAD_STATE, ANeuralNetworksExecution_create(compilation, &execution));
        EXPECT(BAD_STATE, ANeuralNetworksBurst_create(compilation, &burst));
        EXPECT(BAD_STATE, ANeuralNetworksCompilation_getPreferredMemoryAlignmentForInput(compilation, 0, &value));
        OK(ANeuralNetworksCompilation_finish(compilation));

        EXPECT(BAD_STATE, ANeuralNetworksCompilation_finish(compilation));
        EXPECT(BAD_STATE, ANeuralNetworksCompilation_setCaching(compilation, cache, token));
        EXPECT(BAD_STATE, ANeuralNetworksCompilation_setPreference(compilation, 0));
        EXPECT(BAD_STATE, ANeuralNetworksCompilation_setPriority(compilation, 100));
        EXPECT(BAD_STATE, ANeuralNetworksCompilation_setTimeout(compilation, 1));
        OK(ANeuralNetworksCompilation_getPreferredMemoryAlignmentForInput(compilation, 0, &value));
        CHECK(value > 0 && (value & (value - 1)) == 0);
        OK(ANeuralNetworksCompilation_getPreferredMemoryPaddingForInput(compilation, 1, &value));
        CHECK(value > 0);
        OK(ANeuralNetworksCompilation_getPreferredMemoryAlignmentForOutput(compilation, 0, &value));
        OK(ANeuralNetworksCompilation_getPreferredMemoryPaddingForOutput(compilation, 0, &value));
        EXPECT(BAD_DATA, ANeuralNetworksCompilation_getPreferredMemoryAlignmentForInput(compilation, 2, &value));
        EXPECT(BAD_DATA, ANeuralNetworksCompilation_getPreferredMemoryPaddingForOutput(compilation, 1, &value));
        ANeuralNetworksCompilation_free(compilation);
    }

    ANeuralNetworksCompilation *anywhere = NULL;
    OK(ANeuralNetworksCompilation_create(model, &anywhere));
    EXPECT(BAD_DATA, ANeuralNetworksCompilation_setTimeout(anywhere, 1000)); /* needs one named device */
    EXPECT(BAD_DATA, ANeuralNetworksCompilation_addExtensionAttribute(anywhere, "com.example", 1, token, 4));
    ANeuralNetworksCompilation_free(anywhere);
    ANeuralNetworksModel_free(model);
}

static void executions(void)
{
    const float a[] = {1, 2, 3, 4}, b[] = {10, 20, 30, 40};
    float c[5] = {0, 0, 0, 0, 99};
    uint32_t rank = 9, dimensions[4] = {0};
    uint64_t duration = 0;
    ANeuralNetworksEvent *event = NULL;
    ANeuralNetworksExecution *execution = NULL;
    ANeuralNetworksModel *model = finished_add_model(4);
    ANeuralNetworksCompilation *compilation = compile_for(model, device);

    OK(ANeuralNetworksExecution_create(compilation, &execution));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_compute(execution)); /* nothing is set */
    ANeuralNetworksExecution_free(execution);

    OK(ANeuralNetworksExecution_create(compilation, &execution));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_getOutputOperandRank(execution, 0, &rank));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_getDuration(execution, 0, &duration));
    CHECK(duration == UINT64_MAX);
    OK(ANeuralNetworksExecution_setMeasureTiming(execution, true));
    OK(ANeuralNetworksExecution_setTimeout(execution, 60000000000u));
    OK(ANeuralNetworksExecution_setLoopTimeout(execution, 1000000));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 2, NULL, a, sizeof a));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, -1, NULL, a, sizeof a));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, NULL, a, sizeof a - 1));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, NULL, a, SIZE_MAX));
    EXPECT(UNEXPECTED_NULL, ANeuralNetworksExecution_setInput(execution, 0, NULL, NULL, sizeof a));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, a, sizeof a));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_setInput(execution, 0, NULL, a, sizeof a));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, sizeof b));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setOutput(execution, 1, NULL, c, sizeof a));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, sizeof a));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, sizeof a));
    OK(ANeuralNetworksExecution_compute(execution));
    for (int i = 0; i < 4; i++)
        CHECK(c[i] == a[i] + b[i]);
    CHECK(c[4] == 99);

    EXPECT(BAD_STATE, ANeuralNetworksExecution_compute(execution));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_startCompute(execution, &event));
    CHECK(event == NULL);
    EXPECT(BAD_STATE, ANeuralNetworksExecution_setInput(execution, 0, NULL, a, sizeof a));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, sizeof a));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_setLoopTimeout(execution, 1));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_setTimeout(execution, 1));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_setMeasureTiming(execution, true));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_setReusable(execution, true));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_enableInputAndOutputPadding(execution, true));
    OK(ANeuralNetworksExecution_getOutputOperandRank(execution, 0, &rank));
    CHECK(rank == 1);
    OK(ANeuralNetworksExecution_getOutputOperandDimensions(execution, 0, dimensions));
    CHECK(dimensions[0] == 4);
    EXPECT(BAD_DATA, ANeuralNetworksExecution_getOutputOperandRank(execution, 1, &rank));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_getOutputOperandDimensions(execution, -1, dimensions));
    for (int32_t code = 0; code < 4; code++)
        OK(ANeuralNetworksExecution_getDuration(execution, code, &duration));
    OK(ANeuralNetworksExecution_getDuration(execution, ANEURALNETWORKS_DURATION_ON_HARDWARE, &duration));
    CHECK(duration > 0 && duration < 60000000000u);
    EXPECT(BAD_DATA, ANeuralNetworksExecution_getDuration(execution, 4, &duration));
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksExecution_free(execution);

    /* Reusable: the same buffers, what they hold at the time. */
    float x[] = {0, 0, 0, 0};
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setReusable(execution, true));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, x, sizeof x));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, sizeof b));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, sizeof a));
    for (int i = 0; i < 5; i++) {
        x[2] = (float)i;
        OK(ANeuralNetworksExecution_compute(execution));
        CHECK(c[2] == b[2] + (float)i && c[0] == b[0]);
    }
    ANeuralNetworksExecution_free(execution);

    /* One buffer for an input and the output, as clients have it for the state of a recurrent network. */
    float state[] = {1, 1, 1, 1};
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setReusable(execution, true));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, state, sizeof state));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, sizeof b));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, state, sizeof state));
    for (int i = 0; i < 3; i++)
        OK(ANeuralNetworksExecution_compute(execution));
    CHECK(state[0] == 31 && state[3] == 121);
    ANeuralNetworksExecution_free(execution);

    /* Padding: buffers may be longer than the operands. */
    float padded[] = {1, 2, 3, 4, 5, 6}, out[] = {0, 0, 0, 0, -1, -1};
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_enableInputAndOutputPadding(execution, true));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, padded, sizeof padded));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_enableInputAndOutputPadding(execution, false));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, sizeof b));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, out, sizeof out));
    OK(ANeuralNetworksExecution_compute(execution));
    CHECK(out[0] == 11 && out[3] == 44 && out[4] == -1);
    ANeuralNetworksExecution_free(execution);

    /* Without one named device there is no timing and no timeout. */
    ANeuralNetworksCompilation *anywhere = compile_for(model, NULL);
    OK(ANeuralNetworksExecution_create(anywhere, &execution));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setMeasureTiming(execution, true));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setTimeout(execution, 1000));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_addExtensionAttribute(execution, "com.example", 1, a, 4));
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksCompilation_free(anywhere);

    ANeuralNetworksCompilation_free(compilation);
    EXPECT(BAD_DATA, ANeuralNetworksExecution_create(compilation, &execution));
    CHECK(execution == NULL);
    ANeuralNetworksModel_free(model);
}

static ANeuralNetworksExecution *prepared(ANeuralNetworksCompilation *compilation, const float *a, float *c)
{
    ANeuralNetworksExecution *execution = NULL;
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, a, 4 * sizeof *a));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, a, 4 * sizeof *a));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, 4 * sizeof *c));
    return execution;
}

static void events_and_bursts(void)
{
    enum { MANY = 16 };
    const float a[] = {1, 2, 3, 4};
    float c[MANY][4];
    int fd = 7;
    ANeuralNetworksExecution *execution[MANY];
    ANeuralNetworksEvent *event[MANY], *last = NULL;
    ANeuralNetworksBurst *burst = NULL, *other = NULL;
    ANeuralNetworksModel *model = finished_add_model(4);
    ANeuralNetworksCompilation *compilation = compile_for(model, NULL), *second = compile_for(model, NULL);

    memset(c, 0, sizeof c);
    for (int i = 0; i < MANY - 1; i++) {
        execution[i] = prepared(compilation, a, c[i]);
        OK(ANeuralNetworksExecution_startCompute(execution[i], &event[i]));
        EXPECT(BAD_STATE, ANeuralNetworksExecution_compute(execution[i]));
        EXPECT(BAD_DATA, ANeuralNetworksEvent_getSyncFenceFd(event[i], &fd));
        CHECK(fd == -1);
    }
    execution[MANY - 1] = prepared(compilation, a, c[MANY - 1]);
    OK(ANeuralNetworksExecution_startComputeWithDependencies(execution[MANY - 1],
                                                             (const ANeuralNetworksEvent *const *)event, MANY - 1,
                                                             0, &last));
    OK(ANeuralNetworksEvent_wait(last));
    for (int i = 0; i < MANY - 1; i++) {
        CHECK(c[i][3] == 8);
        OK(ANeuralNetworksEvent_wait(event[i]));
        OK(ANeuralNetworksEvent_wait(event[i]));
        ANeuralNetworksEvent_free(event[i]);
        EXPECT(BAD_DATA, ANeuralNetworksEvent_wait(event[i]));
        ANeuralNetworksExecution_free(execution[i]);
    }
    CHECK(c[MANY - 1][3] == 8);
    ANeuralNetworksEvent_free(last);
    ANeuralNetworksExecution_free(execution[MANY - 1]);

    /* A limit needs a compilation for one named device. */
    execution[0] = prepared(compilation, a, c[0]);
    EXPECT(BAD_DATA, ANeuralNetworksExecution_startComputeWithDependencies(execution[0], NULL, 0, 1000, &last));
    ANeuralNetworksExecution_free(execution[0]);
    ANeuralNetworksCompilation *named = compile_for(model, device);
    execution[0] = prepared(named, a, c[0]);
    OK(ANeuralNetworksExecution_startComputeWithDependencies(execution[0], NULL, 0, 60000000000u, &last));
    OK(ANeuralNetworksEvent_wait(last));
    ANeuralNetworksEvent_free(last);
    ANeuralNetworksExecution_free(execution[0]);
    ANeuralNetworksCompilation_free(named);

    /* No dependencies, no limit; an event may be freed before its execution has ended. */
    c[0][3] = 0;
    execution[0] = prepared(compilation, a, c[0]);
    OK(ANeuralNetworksExecution_startComputeWithDependencies(execution[0], NULL, 0, 0, &last));
    ANeuralNetworksEvent_free(last); /* which waits for it */
    CHECK(c[0][3] == 8);
    ANeuralNetworksExecution_free(execution[0]);
    execution[0] = prepared(compilation, a, c[0]);
    const ANeuralNetworksEvent *null_list[] = {NULL};
    EXPECT(UNEXPECTED_NULL,
           ANeuralNetworksExecution_startComputeWithDependencies(execution[0], null_list, 1, 0, &last));
    CHECK(last == NULL);
    ANeuralNetworksExecution_free(execution[0]);

    EXPECT(BAD_DATA, ANeuralNetworksEvent_createFromSyncFenceFd(0, &last));
    EXPECT(BAD_DATA, ANeuralNetworksEvent_createFromSyncFenceFd(-1, &last));
    CHECK(last == NULL);

    OK(ANeuralNetworksBurst_create(compilation, &burst));
    OK(ANeuralNetworksBurst_create(second, &other));
    for (int i = 0; i < 3; i++) {
        execution[0] = prepared(compilation, a, c[0]);
        EXPECT(BAD_DATA, ANeuralNetworksExecution_burstCompute(execution[0], other));
        c[0][1] = 0;
        OK(ANeuralNetworksExecution_burstCompute(execution[0], burst));
        CHECK(c[0][1] == 4);
        EXPECT(BAD_STATE, ANeuralNetworksExecution_burstCompute(execution[0], burst));
        ANeuralNetworksExecution_free(execution[0]);
    }
    ANeuralNetworksBurst_free(burst);
    ANeuralNetworksBurst_free(other);
    EXPECT(BAD_DATA, ANeuralNetworksExecution_burstCompute(execution[0], burst));
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksCompilation_free(second);
    ANeuralNetworksModel_free(model);
}

/* The longest time there can be is no time limit, whichever way an execution runs. */
static void longest_times(void)
{
    const float a[] = {1, 2, 3, 4};
    float c[4];
    ANeuralNetworksEvent *event = NULL;
    ANeuralNetworksBurst *burst = NULL;
    ANeuralNetworksCompilation *compilation = NULL;
    ANeuralNetworksModel *model = finished_add_model(4);
    const ANeuralNetworksDevice *list[] = {device};
    OK(ANeuralNetworksCompilation_createForDevices(model, list, 1, &compilation));
    OK(ANeuralNetworksCompilation_setTimeout(compilation, UINT64_MAX));
    OK(ANeuralNetworksCompilation_finish(compilation));
    OK(ANeuralNetworksBurst_create(compilation, &burst));
    for (int way = 0; way < 4; way++) {
        ANeuralNetworksExecution *execution = prepared(compilation, a, c);
        OK(ANeuralNetworksExecution_setTimeout(execution, UINT64_MAX));
        OK(ANeuralNetworksExecution_setLoopTimeout(execution, UINT64_MAX));
        c[3] = 0;
        if (way == 0)
            OK(ANeuralNetworksExecution_compute(execution));
        else if (way == 1)
            OK(ANeuralNetworksExecution_burstCompute(execution, burst));
        else if (way == 2)
            OK(ANeuralNetworksExecution_startCompute(execution, &event));
        else
            OK(ANeuralNetworksExecution_startComputeWithDependencies(execution, NULL, 0, UINT64_MAX, &event));
        if (way >= 2) {
            OK(ANeuralNetworksEvent_wait(event));
            ANeuralNetworksEvent_free(event);
        }
        CHECK(c[3] == 8);
        ANeuralNetworksExecution_free(execution);
    }
    ANeuralNetworksBurst_free(burst);
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
}

/* Nothing has to be a constant: filter, bias, strides and activation may come with each execution. */
static void everything_is_an_input(void)
{
    enum { CHANNELS = 2 };
    static const uint32_t image[] = {1, 16, 16, CHANNELS}, filter[] = {CHANNELS, 3, 3, CHANNELS}, bias[] = {CHANNELS};
    static const float scales[] = {0.5f, 0.5f};
    ANeuralNetworksOperandType types[] = {
        {ANEURALNETWORKS_TENSOR_QUANT8_ASYMM, 4, image, 1.0f, 0},
        {ANEURALNETWORKS_TENSOR_QUANT8_SYMM_PER_CHANNEL, 4, filter, 0.0f, 0},
        {ANEURALNETWORKS_TENSOR_INT32, 1, bias, 0.0f, 0},
        SCALAR_INT32,
        SCALAR_INT32,
        SCALAR_INT32,
        SCALAR_INT32,
        {ANEURALNETWORKS_TENSOR_QUANT8_ASYMM, 4, image, 1.0f, 0},
    };
    static const uint32_t inputs[] = {0, 1, 2, 3, 4, 5, 6}, outputs[] = {7};
    ANeuralNetworksSymmPerChannelQuantParams quant = {0, CHANNELS, scales};
    static uint8_t x[16 * 16 * CHANNELS], y[16 * 16 * CHANNELS];
    static int8_t w[CHANNELS * 9 * CHANNELS];
    static int32_t b[CHANNELS] = {4, 6};
    const int32_t same = ANEURALNETWORKS_PADDING_SAME, one = 1, none = 0;
    const void *values[] = {x, w, b, &same, &one, &one, &none};
    const size_t sizes[] = {sizeof x, sizeof w, sizeof b, 4, 4, 4, 4};
    ANeuralNetworksModel *model = NULL;
    ANeuralNetworksExecution *execution = NULL;
    OK(ANeuralNetworksModel_create(&model));
    for (int i = 0; i < 8; i++)
        OK(ANeuralNetworksModel_addOperand(model, &types[i]));
    OK(ANeuralNetworksModel_setOperandSymmPerChannelQuantParams(model, 1, &quant));
    OK(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_CONV_2D, 7, inputs, 1, outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 7, inputs, 1, outputs));
    OK(ANeuralNetworksModel_finish(model));
    ANeuralNetworksCompilation *compilation = compile_for(model, NULL);
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    for (int i = 0; i < 7; i++)
        OK(ANeuralNetworksExecution_setInput(execution, i, NULL, values[i], sizes[i]));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, y, sizeof y));
    OK(ANeuralNetworksExecution_compute(execution));
    CHECK(y[0] == 2 && y[1] == 3 && y[sizeof y - 1] == 3); /* the bias, whose scale is that of x times that of w */
    ANeuralNetworksExecution_free(execution);

    ANeuralNetworksMemoryDesc *desc = NULL;
    const uint32_t wrong[] = {1, 16, 16, CHANNELS + 1};
    OK(ANeuralNetworksMemoryDesc_create(&desc));
    OK(ANeuralNetworksMemoryDesc_setDimensions(desc, 0, NULL));
    OK(ANeuralNetworksMemoryDesc_setDimensions(desc, 4, wrong));
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 0, 1.0f)); /* other dimensions */
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 3, 1.0f)); /* a scalar */
    ANeuralNetworksMemoryDesc_free(desc);
    OK(ANeuralNetworksMemoryDesc_create(&desc));
    OK(ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 0, 1.0f));
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 1, 1.0f)); /* another type */
    OK(ANeuralNetworksMemoryDesc_addOutputRole(desc, compilation, 0, 1.0f));
    ANeuralNetworksMemoryDesc_free(desc);
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
}

static void memories(void)
{
    void *mapped = NULL;
    int fd = shared_memory(4096, &mapped);
    float *values = mapped;
    ANeuralNetworksMemory *memory = (ANeuralNetworksMemory *)&fd, *read_only = NULL;
    ANeuralNetworksExecution *execution = NULL;
    ANeuralNetworksModel *model = finished_add_model(4);
    ANeuralNetworksCompilation *compilation = compile_for(model, NULL);

    EXPECT(BAD_DATA, ANeuralNetworksMemory_createFromFd(0, PROT_READ, fd, 0, &memory));
    CHECK(memory == NULL);
    EXPECT(BAD_DATA, ANeuralNetworksMemory_createFromFd(4096, PROT_READ, -1, 0, &memory));
    EXPECT(BAD_DATA, ANeuralNetworksMemory_createFromFd(4096, PROT_READ, 999, 0, &memory));
    EXPECT(BAD_DATA, ANeuralNetworksMemory_createFromFd(8192, PROT_READ, fd, 0, &memory));
    EXPECT(BAD_DATA, ANeuralNetworksMemory_createFromFd(4096, PROT_READ, fd, 4096, &memory));
    EXPECT(BAD_DATA, ANeuralNetworksMemory_createFromFd(SIZE_MAX, PROT_READ, fd, 0, &memory));
    EXPECT(BAD_DATA, ANeuralNetworksMemory_createFromFd(4096, PROT_READ, fd, SIZE_MAX, &memory));
    CHECK(memory == NULL);
    EXPECT(UNEXPECTED_NULL, ANeuralNetworksMemory_createFromAHardwareBuffer(NULL, &memory));
    EXPECT(BAD_DATA, ANeuralNetworksMemory_createFromAHardwareBuffer((const AHardwareBuffer *)values, &memory));
    CHECK(memory == NULL);

    OK(ANeuralNetworksMemory_createFromFd(4096, PROT_READ | PROT_WRITE, fd, 0, &memory));
    OK(ANeuralNetworksMemory_createFromFd(4096, PROT_READ, fd, 0, &read_only));
    close(fd);
    for (int i = 0; i < 8; i++)
        values[i] = (float)i;
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInputFromMemory(execution, 0, NULL, memory, 4096, 16));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInputFromMemory(execution, 0, NULL, memory, 4088, 16));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInputFromMemory(execution, 0, NULL, memory, SIZE_MAX, 16));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInputFromMemory(execution, 0, NULL, memory, 0, 12));
    OK(ANeuralNetworksExecution_setInputFromMemory(execution, 0, NULL, memory, 0, 16));
    OK(ANeuralNetworksExecution_setInputFromMemory(execution, 1, NULL, read_only, 16, 16));
    OK(ANeuralNetworksExecution_setOutputFromMemory(execution, 0, NULL, memory, 256, 16));
    OK(ANeuralNetworksExecution_compute(execution));
    CHECK(values[64] == 4 && values[65] == 6 && values[66] == 8 && values[67] == 10);
    ANeuralNetworksExecution_free(execution);

    /* Two executions through a memory of the device, whose content never comes here until it is copied. */
    ANeuralNetworksMemoryDesc *desc = NULL;
    ANeuralNetworksMemory *resident = NULL, *small = NULL;
    const uint32_t four[] = {4}, five[] = {5};
    OK(ANeuralNetworksMemoryDesc_create(&desc));
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_finish(desc)); /* no role */
    EXPECT(BAD_STATE, ANeuralNetworksMemory_createFromDesc(desc, &resident));
    OK(ANeuralNetworksMemoryDesc_addOutputRole(desc, compilation, 0, 1.0f));
    OK(ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 0, 0.5f));
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 0, 0.5f));
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 1, 1.5f));
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 2, 0.5f));
    OK(ANeuralNetworksMemoryDesc_setDimensions(desc, 1, four));
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_setDimensions(desc, 1, five));
    OK(ANeuralNetworksMemoryDesc_finish(desc));
    EXPECT(BAD_STATE, ANeuralNetworksMemoryDesc_finish(desc));
    EXPECT(BAD_STATE, ANeuralNetworksMemoryDesc_setDimensions(desc, 1, four));
    EXPECT(BAD_STATE, ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 1, 0.5f));
    OK(ANeuralNetworksMemory_createFromDesc(desc, &resident));
    ANeuralNetworksMemoryDesc_free(desc);
    ANeuralNetworksMemoryDesc_free(NULL);

    fd = shared_memory(16, &mapped);
    float *result = mapped;
    OK(ANeuralNetworksMemory_createFromFd(16, PROT_READ | PROT_WRITE, fd, 0, &small));
    EXPECT(BAD_DATA, ANeuralNetworksMemory_copy(resident, small)); /* nothing in it yet */
    EXPECT(BAD_DATA, ANeuralNetworksMemory_copy(memory, small));   /* another size */

    OK(ANeuralNetworksExecution_create(compilation, &execution));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInputFromMemory(execution, 1, NULL, resident, 0, 0)); /* no such role */
    OK(ANeuralNetworksExecution_setInputFromMemory(execution, 0, NULL, memory, 0, 16));
    OK(ANeuralNetworksExecution_setInputFromMemory(execution, 1, NULL, memory, 0, 16));
    OK(ANeuralNetworksExecution_setOutputFromMemory(execution, 0, NULL, resident, 0, 0));
    OK(ANeuralNetworksExecution_compute(execution));
    ANeuralNetworksExecution_free(execution);
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setInputFromMemory(execution, 0, NULL, resident, 0, 0));
    OK(ANeuralNetworksExecution_setInputFromMemory(execution, 1, NULL, memory, 0, 16));
    OK(ANeuralNetworksExecution_setOutputFromMemory(execution, 0, NULL, small, 0, 16));
    OK(ANeuralNetworksExecution_compute(execution));
    ANeuralNetworksExecution_free(execution);
    CHECK(result[0] == 0 && result[1] == 3 && result[2] == 6 && result[3] == 9);
    OK(ANeuralNetworksMemory_copy(resident, small));
    CHECK(result[1] == 2 && result[3] == 6);
    OK(ANeuralNetworksMemory_copy(small, resident));

    ANeuralNetworksMemory_free(memory);
    EXPECT(BAD_DATA, ANeuralNetworksMemory_copy(memory, small));
    ANeuralNetworksMemory_free(memory);
    ANeuralNetworksMemory_free(read_only);
    ANeuralNetworksMemory_free(resident);
    ANeuralNetworksMemory_free(small);
    close(fd);
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
}

/* A model file that ends before the weights that it claims to have. */
static void constants_from_a_file(void)
{
    void *mapped = NULL;
    int fd = shared_memory(16, &mapped);
    const uint32_t four = 4;
    ANeuralNetworksOperandType type = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 1, &four);
    ANeuralNetworksMemory *memory = NULL;
    ANeuralNetworksModel *model = NULL;
    OK(ANeuralNetworksModel_create(&model));
    OK(ANeuralNetworksModel_addOperand(model, &type));
    OK(ANeuralNetworksMemory_createFromFd(16, PROT_READ, fd, 0, &memory));
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValueFromMemory(model, 0, memory, 8, 16));
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValueFromMemory(model, 0, memory, 0, 8));
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValueFromMemory(model, 1, memory, 0, 16));
    OK(ANeuralNetworksModel_setOperandValueFromMemory(model, 0, memory, 0, 16));
    if (ftruncate(fd, 8) == 0)
        EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValueFromMemory(model, 0, memory, 0, 16));
    ANeuralNetworksMemory_free(memory);
    ANeuralNetworksModel_free(model);
    close(fd);
}

/* Sizes that are known when the model runs, and outputs that do not fit. */
static void dynamic_shapes(void)
{
    const uint32_t unknown[] = {0, 2}, three[] = {3, 2}, two[] = {2, 2}, wrong[] = {3, 3};
    const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {10, 20};
    float c[6] = {0};
    const uint32_t inputs[] = {0, 1, 2}, outputs[] = {3}, pair = 2;
    const int32_t relu = ANEURALNETWORKS_FUSED_RELU;
    uint32_t rank = 0, dimensions[2] = {0};
    ANeuralNetworksOperandType open = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 2, unknown);
    ANeuralNetworksOperandType row = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 1, &pair);
    ANeuralNetworksOperandType given = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 2, three);
    ANeuralNetworksModel *model = NULL;
    ANeuralNetworksExecution *execution = NULL;
    OK(ANeuralNetworksModel_create(&model));
    OK(ANeuralNetworksModel_addOperand(model, &open));
    OK(ANeuralNetworksModel_addOperand(model, &row));
    OK(ANeuralNetworksModel_addOperand(model, &SCALAR_INT32));
    OK(ANeuralNetworksModel_addOperand(model, &open));
    OK(ANeuralNetworksModel_setOperandValue(model, 2, &relu, sizeof relu));
    OK(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_ADD, 3, inputs, 1, outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 2, inputs, 1, outputs));
    OK(ANeuralNetworksModel_finish(model));
    ANeuralNetworksCompilation *compilation = compile_for(model, NULL);

    OK(ANeuralNetworksExecution_create(compilation, &execution));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, NULL, a, sizeof a)); /* which dimensions? */
    given.dimensions = wrong;
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, &given, a, sizeof a));
    given.dimensions = unknown;
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, &given, a, sizeof a));
    given.dimensions = NULL;
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, &given, a, sizeof a));
    given.dimensions = three;
    given.dimensionCount = UINT32_MAX;
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, &given, a, sizeof a));
    given.dimensionCount = 2;
    OK(ANeuralNetworksExecution_setInput(execution, 0, &given, a, sizeof a));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, sizeof b));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, sizeof c));
    OK(ANeuralNetworksExecution_compute(execution));
    for (int i = 0; i < 6; i++)
        CHECK(c[i] == a[i] + b[i % 2]);
    OK(ANeuralNetworksExecution_getOutputOperandRank(execution, 0, &rank));
    OK(ANeuralNetworksExecution_getOutputOperandDimensions(execution, 0, dimensions));
    CHECK(rank == 2 && dimensions[0] == 3 && dimensions[1] == 2);
    ANeuralNetworksExecution_free(execution);

    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setInput(execution, 0, &given, a, sizeof a));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, sizeof b));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, 16));
    EXPECT(OUTPUT_INSUFFICIENT_SIZE, ANeuralNetworksExecution_compute(execution));
    rank = dimensions[0] = 0;
    EXPECT(OUTPUT_INSUFFICIENT_SIZE, ANeuralNetworksExecution_getOutputOperandRank(execution, 0, &rank));
    CHECK(rank == 2);
    EXPECT(OUTPUT_INSUFFICIENT_SIZE, ANeuralNetworksExecution_getOutputOperandDimensions(execution, 0, dimensions));
    CHECK(dimensions[0] == 3 && dimensions[1] == 2);
    ANeuralNetworksExecution_free(execution);

    /* A memory of the device has the dimensions that it was made with. */
    ANeuralNetworksMemoryDesc *desc = NULL;
    ANeuralNetworksMemory *resident = NULL;
    OK(ANeuralNetworksMemoryDesc_create(&desc));
    OK(ANeuralNetworksMemoryDesc_addInputRole(desc, compilation, 0, 1.0f));
    OK(ANeuralNetworksMemoryDesc_addOutputRole(desc, compilation, 0, 1.0f));
    OK(ANeuralNetworksMemoryDesc_setDimensions(desc, 2, three));
    OK(ANeuralNetworksMemoryDesc_finish(desc));
    OK(ANeuralNetworksMemory_createFromDesc(desc, &resident));
    ANeuralNetworksMemoryDesc_free(desc);
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    given.dimensions = two;
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInputFromMemory(execution, 0, &given, resident, 0, 0));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setOutputFromMemory(execution, 0, &given, resident, 0, 0));
    given.dimensions = three;
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInputFromMemory(execution, 0, &given, resident, 1, 0));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInputFromMemory(execution, 0, &given, resident, 0, 4));
    OK(ANeuralNetworksExecution_setInputFromMemory(execution, 0, &given, resident, 0, 0));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, sizeof b));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, sizeof c));
    EXPECT(OP_FAILED, ANeuralNetworksExecution_compute(execution)); /* nothing is in it */
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksMemory_free(resident);

    given.dimensions = two; /* another size through the same compilation */
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setInput(execution, 0, &given, a, 16));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, sizeof b));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, &given, c, 16));
    OK(ANeuralNetworksExecution_compute(execution));
    CHECK(c[0] == 11 && c[3] == 24);
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
}

/* The scale and zero point of the type given to setInput are the real ones. */
static void overridden_quantization(void)
{
    const uint32_t four = 4, inputs[] = {0}, outputs[] = {1};
    const uint8_t q[] = {100, 102, 104, 106};
    float x[4] = {0};
    ANeuralNetworksOperandType quantized = {ANEURALNETWORKS_TENSOR_QUANT8_ASYMM, 1, &four, 1.0f, 0};
    ANeuralNetworksOperandType plain = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 1, &four);
    ANeuralNetworksOperandType real = {ANEURALNETWORKS_TENSOR_QUANT8_ASYMM, 1, &four, 0.5f, 100};
    ANeuralNetworksModel *model = NULL;
    ANeuralNetworksExecution *execution = NULL;
    OK(ANeuralNetworksModel_create(&model));
    OK(ANeuralNetworksModel_addOperand(model, &quantized));
    OK(ANeuralNetworksModel_addOperand(model, &plain));
    OK(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_DEQUANTIZE, 1, inputs, 1, outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, inputs, 1, outputs));
    OK(ANeuralNetworksModel_finish(model));
    ANeuralNetworksCompilation *compilation = compile_for(model, NULL);
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, &plain, q, sizeof q));
    OK(ANeuralNetworksExecution_setInput(execution, 0, &real, q, sizeof q));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, x, sizeof x));
    OK(ANeuralNetworksExecution_compute(execution));
    CHECK(x[0] == 0 && x[1] == 1 && x[2] == 2 && x[3] == 3);
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
}

/* while (a < a + 1) a = a + 0 : a loop without an end, and a condition that is a model of its own. */
static void control_flow(void)
{
    const uint32_t one = 1, cond_inputs[] = {0, 1}, cond_outputs[] = {1}, value_index[] = {0};
    const uint32_t body_add[] = {0, 1, 2}, body_outputs[] = {3}, outer_inputs[] = {0, 1, 2}, outer_outputs[] = {3};
    const float limit = 1e30f, zero = 0.0f;
    const int32_t none = 0;
    float value = 1.0f, got = 0.0f;
    ANeuralNetworksOperandType number = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 1, &one);
    ANeuralNetworksOperandType truth = tensor(ANEURALNETWORKS_TENSOR_BOOL8, 1, &one);
    ANeuralNetworksOperandType reference = tensor(ANEURALNETWORKS_MODEL, 0, NULL);
    ANeuralNetworksModel *condition = NULL, *body = NULL, *model = NULL, *unfinished = NULL;
    ANeuralNetworksExecution *execution = NULL;
    const uint32_t less_output[] = {2};
    (void)cond_outputs;

    OK(ANeuralNetworksModel_create(&condition));
    OK(ANeuralNetworksModel_addOperand(condition, &number));
    OK(ANeuralNetworksModel_addOperand(condition, &number));
    OK(ANeuralNetworksModel_addOperand(condition, &truth));
    OK(ANeuralNetworksModel_setOperandValue(condition, 1, &limit, sizeof limit));
    OK(ANeuralNetworksModel_addOperation(condition, ANEURALNETWORKS_LESS, 2, cond_inputs, 1, less_output));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(condition, 1, value_index, 1, less_output));
    OK(ANeuralNetworksModel_finish(condition));

    OK(ANeuralNetworksModel_create(&body));
    OK(ANeuralNetworksModel_addOperand(body, &number));
    OK(ANeuralNetworksModel_addOperand(body, &number));
    OK(ANeuralNetworksModel_addOperand(body, &SCALAR_INT32));
    OK(ANeuralNetworksModel_addOperand(body, &number));
    OK(ANeuralNetworksModel_setOperandValue(body, 1, &zero, sizeof zero));
    OK(ANeuralNetworksModel_setOperandValue(body, 2, &none, sizeof none));
    OK(ANeuralNetworksModel_addOperation(body, ANEURALNETWORKS_ADD, 3, body_add, 1, body_outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(body, 1, value_index, 1, body_outputs));
    OK(ANeuralNetworksModel_finish(body));

    OK(ANeuralNetworksModel_create(&unfinished));
    OK(ANeuralNetworksModel_create(&model));
    OK(ANeuralNetworksModel_addOperand(model, &reference));
    OK(ANeuralNetworksModel_addOperand(model, &reference));
    OK(ANeuralNetworksModel_addOperand(model, &number));
    OK(ANeuralNetworksModel_addOperand(model, &number));
    EXPECT(BAD_STATE, ANeuralNetworksModel_setOperandValueFromModel(model, 0, unfinished));
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValueFromModel(model, 2, condition));
    OK(ANeuralNetworksModel_setOperandValueFromModel(model, 0, condition));
    OK(ANeuralNetworksModel_setOperandValueFromModel(model, 1, body));
    OK(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_WHILE, 3, outer_inputs, 1, outer_outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, &outer_inputs[2], 1, outer_outputs));
    OK(ANeuralNetworksModel_finish(model));
    ANeuralNetworksModel_free(unfinished);

    ANeuralNetworksCompilation *compilation = compile_for(model, device);
    ANeuralNetworksModel_free(condition);
    ANeuralNetworksModel_free(body);
    ANeuralNetworksModel_free(model);
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setLoopTimeout(execution, 50000000));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, &value, sizeof value));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, &got, sizeof got));
    int answer = ANeuralNetworksExecution_compute(execution);
    CHECK(answer == ANEURALNETWORKS_MISSED_DEADLINE_TRANSIENT || answer == ANEURALNETWORKS_MISSED_DEADLINE_PERSISTENT);
    ANeuralNetworksExecution_free(execution);

    value = 2e30f;
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, &value, sizeof value));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, &got, sizeof got));
    OK(ANeuralNetworksExecution_compute(execution));
    CHECK(got == value);
    ANeuralNetworksExecution_free(execution);

    /* The time of the whole execution ends it as well, whoever waits. */
    value = 1.0f;
    ANeuralNetworksEvent *event = NULL;
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setTimeout(execution, 50000000));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, &value, sizeof value));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, &got, sizeof got));
    OK(ANeuralNetworksExecution_startCompute(execution, &event));
    ANeuralNetworksExecution_free(execution); /* it runs: nothing happens */
    EXPECT(BAD_STATE, ANeuralNetworksExecution_compute(execution));
    answer = ANeuralNetworksEvent_wait(event);
    CHECK(answer == ANEURALNETWORKS_MISSED_DEADLINE_TRANSIENT || answer == ANEURALNETWORKS_MISSED_DEADLINE_PERSISTENT);
    ANeuralNetworksEvent_free(event);
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksCompilation_free(compilation);
}

static void extensions(void)
{
    const uint32_t four = 4;
    int32_t code = 0, again = 0, other = 0;
    ANeuralNetworksModel *model = NULL;
    ANeuralNetworksOperandType type = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 1, &four);
    OK(ANeuralNetworksModel_create(&model));
    OK(ANeuralNetworksModel_addOperand(model, &type));
    OK(ANeuralNetworksModel_getExtensionOperationType(model, "com.example.one", 3, &code));
    OK(ANeuralNetworksModel_getExtensionOperationType(model, "com.example.one", 3, &again));
    OK(ANeuralNetworksModel_getExtensionOperandType(model, "com.example.two", 3, &other));
    CHECK(code == again && code != other && code > 0xffff && (code & 0xffff) == 3);
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandExtensionData(model, 0, &four, sizeof four));
    type.type = other;
    EXPECT(BAD_DATA, ANeuralNetworksModel_addOperand(model, &type));
    ANeuralNetworksModel_free(model);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    devices();
    models();
    constants();
    compilations(argv[1]);
    executions();
    events_and_bursts();
    longest_times();
    everything_is_an_input();
    memories();
    constants_from_a_file();
    dynamic_shapes();
    overridden_quantization();
    control_flow();
    extensions();
    return finish_checks();
}
