/* Checks that count and go on, and the model that most programs here use. */
#ifndef CHECK_H
#define CHECK_H

#include <android/NeuralNetworks.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int checks, failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        __atomic_add_fetch(&checks, 1, __ATOMIC_RELAXED);                       \
        if (!(condition)) {                                                     \
            __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);                 \
            fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition); \
        }                                                                       \
    } while (0)

/* The call answers ANEURALNETWORKS_<code>. */
#define EXPECT(code, call)                                                                              \
    do {                                                                                                \
        int answer_ = (call);                                                                           \
        __atomic_add_fetch(&checks, 1, __ATOMIC_RELAXED);                                               \
        if (answer_ != ANEURALNETWORKS_##code) {                                                        \
            __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);                                         \
            fprintf(stderr, "%s:%d: %s: %d, not " #code "\n", __FILE__, __LINE__, #call, answer_);      \
        }                                                                                               \
    } while (0)
#define OK(call) EXPECT(NO_ERROR, call)

static inline int finish_checks(void)
{
    printf("%d checks, %d failures\n", checks, failures);
    return failures != 0;
}

static inline ANeuralNetworksOperandType tensor(int32_t type, uint32_t rank, const uint32_t *dimensions)
{
    ANeuralNetworksOperandType made = {type, rank, dimensions, 0.0f, 0};
    return made;
}

static const ANeuralNetworksOperandType SCALAR_INT32 = {ANEURALNETWORKS_INT32, 0, NULL, 0.0f, 0};

/* c = a + b with `count` floats each, not finished. */
static inline ANeuralNetworksModel *add_model(uint32_t count)
{
    ANeuralNetworksModel *model = NULL;
    ANeuralNetworksOperandType type = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 1, &count);
    const int32_t none = ANEURALNETWORKS_FUSED_NONE;
    const uint32_t inputs[] = {0, 1, 2}, outputs[] = {3};
    OK(ANeuralNetworksModel_create(&model));
    OK(ANeuralNetworksModel_addOperand(model, &type));
    OK(ANeuralNetworksModel_addOperand(model, &type));
    OK(ANeuralNetworksModel_addOperand(model, &SCALAR_INT32));
    OK(ANeuralNetworksModel_addOperand(model, &type));
    OK(ANeuralNetworksModel_setOperandValue(model, 2, &none, sizeof none));
    OK(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_ADD, 3, inputs, 1, outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 2, inputs, 1, outputs));
    return model;
}

static inline ANeuralNetworksModel *finished_add_model(uint32_t count)
{
    ANeuralNetworksModel *model = add_model(count);
    OK(ANeuralNetworksModel_finish(model));
    return model;
}

static inline ANeuralNetworksDevice *device_named(const char *wanted)
{
    uint32_t count = 0;
    OK(ANeuralNetworks_getDeviceCount(&count));
    for (uint32_t i = 0; i < count; i++) {
        ANeuralNetworksDevice *device = NULL;
        const char *name = NULL;
        OK(ANeuralNetworks_getDevice(i, &device));
        OK(ANeuralNetworksDevice_getName(device, &name));
        if (strcmp(name, wanted) == 0)
            return device;
    }
    return NULL;
}

/* `bytes` of memory that has no name; *mapped is where this program sees it. */
static inline int shared_memory(size_t bytes, void **mapped)
{
    int fd = memfd_create("nnapi-test", 0);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        abort();
    *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return fd;
}

#endif
