/* What a call through the C library costs: a sum of four floats, in microseconds (median).

   usage: capi_overhead [DEVICE] [REPETITIONS]

   compute     ANeuralNetworksExecution_compute of a reusable execution
   execution   create, set two inputs and an output, compute, free
   compilation create, finish, free, of a finished model */
#include <android/NeuralNetworks.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALL(call)                                                   \
    do {                                                             \
        int code_ = (call);                                          \
        if (code_ != ANEURALNETWORKS_NO_ERROR) {                     \
            fprintf(stderr, "%s answers %d\n", #call, code_);        \
            exit(1);                                                 \
        }                                                            \
    } while (0)

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, ascending);
    return times[count / 2];
}

static const ANeuralNetworksDevice *device_named(const char *wanted)
{
    uint32_t count;
    CALL(ANeuralNetworks_getDeviceCount(&count));
    for (uint32_t i = 0; i < count; i++) {
        ANeuralNetworksDevice *device;
        const char *name;
        CALL(ANeuralNetworks_getDevice(i, &device));
        CALL(ANeuralNetworksDevice_getName(device, &name));
        if (strcmp(name, wanted) == 0)
            return device;
    }
    fprintf(stderr, "no device %s\n", wanted);
    exit(1);
}

static ANeuralNetworksModel *sum_of_four(void)
{
    static const uint32_t four = 4, inputs[] = {0, 1, 2}, outputs[] = {3};
    static const int32_t none = ANEURALNETWORKS_FUSED_NONE;
    ANeuralNetworksOperandType tensor = {ANEURALNETWORKS_TENSOR_FLOAT32, 1, &four, 0.0f, 0};
    ANeuralNetworksOperandType scalar = {ANEURALNETWORKS_INT32, 0, NULL, 0.0f, 0};
    ANeuralNetworksModel *model;
    CALL(ANeuralNetworksModel_create(&model));
    CALL(ANeuralNetworksModel_addOperand(model, &tensor));
    CALL(ANeuralNetworksModel_addOperand(model, &tensor));
    CALL(ANeuralNetworksModel_addOperand(model, &scalar));
    CALL(ANeuralNetworksModel_addOperand(model, &tensor));
    CALL(ANeuralNetworksModel_setOperandValue(model, 2, &none, sizeof none));
    CALL(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_ADD, 3, inputs, 1, outputs));
    CALL(ANeuralNetworksModel_identifyInputsAndOutputs(model, 2, inputs, 1, outputs));
    CALL(ANeuralNetworksModel_finish(model));
    return model;
}

static ANeuralNetworksCompilation *compiled(ANeuralNetworksModel *model, const ANeuralNetworksDevice *device)
{
    ANeuralNetworksCompilation *compilation;
    if (device)
        CALL(ANeuralNetworksCompilation_createForDevices(model, &device, 1, &compilation));
    else
        CALL(ANeuralNetworksCompilation_create(model, &compilation));
    CALL(ANeuralNetworksCompilation_finish(compilation));
    return compilation;
}

static ANeuralNetworksExecution *bound(ANeuralNetworksCompilation *compilation, const float *a, float *c)
{
    ANeuralNetworksExecution *execution;
    CALL(ANeuralNetworksExecution_create(compilation, &execution));
    CALL(ANeuralNetworksExecution_setInput(execution, 0, NULL, a, 16));
    CALL(ANeuralNetworksExecution_setInput(execution, 1, NULL, a, 16));
    CALL(ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, 16));
    return execution;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "any";
    int repetitions = argc > 2 ? atoi(argv[2]) : 5000;
    const ANeuralNetworksDevice *device = strcmp(name, "any") ? device_named(name) : NULL;
    const float a[4] = {1, 2, 3, 4};
    float c[4];
    double *times = malloc((size_t)repetitions * sizeof *times);
    ANeuralNetworksModel *model = sum_of_four();
    ANeuralNetworksCompilation *compilation = compiled(model, device);
    ANeuralNetworksExecution *execution = bound(compilation, a, c);
    CALL(ANeuralNetworksExecution_setReusable(execution, true));

    for (int i = 0; i < repetitions; i++) {
        double start = now();
        CALL(ANeuralNetworksExecution_compute(execution));
        times[i] = now() - start;
    }
    ANeuralNetworksExecution_free(execution);
    double compute = median(times, repetitions);

    for (int i = 0; i < repetitions; i++) {
        double start = now();
        execution = bound(compilation, a, c);
        CALL(ANeuralNetworksExecution_compute(execution));
        ANeuralNetworksExecution_free(execution);
        times[i] = now() - start;
    }
    double whole = median(times, repetitions);

    int compilations = repetitions < 100 ? repetitions : 100;
    for (int i = 0; i < compilations; i++) {
        double start = now();
        ANeuralNetworksCompilation_free(compiled(model, device));
        times[i] = now() - start;
    }
    printf("{\"device\": \"%s\", \"compute\": %.2f, \"execution\": %.2f, \"compilation\": %.1f}\n", name, compute, whole,
           median(times, compilations));
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
    free(times);
    return c[3] == 8 ? 0 : 1;
}
