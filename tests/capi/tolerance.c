/* Models that Android takes although they can never run, and operand types that it refuses although they could. */
#define _GNU_SOURCE
#include "check.h"

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static uint32_t add_operand(ANeuralNetworksModel *model, uint32_t index, int32_t code, uint32_t rank,
                            const uint32_t *dimensions)
{
    ANeuralNetworksOperandType type = tensor(code, rank, rank ? dimensions : NULL);
    OK(ANeuralNetworksModel_addOperand(model, &type));
    return index;
}

/* c = a + b, where b is a constant of dimensions [2, 1] and a and c are as said. */
static ANeuralNetworksModel *sum_model(uint32_t rank, const uint32_t *a, const uint32_t *c, int32_t activation)
{
    static const float two[] = {1, 2};
    const uint32_t column[] = {2, 1}, inputs[] = {0, 1, 2}, outputs[] = {3};
    ANeuralNetworksModel *model = NULL;
    OK(ANeuralNetworksModel_create(&model));
    add_operand(model, 0, ANEURALNETWORKS_TENSOR_FLOAT32, rank, a);
    add_operand(model, 1, ANEURALNETWORKS_TENSOR_FLOAT32, 2, column);
    OK(ANeuralNetworksModel_addOperand(model, &SCALAR_INT32));
    add_operand(model, 3, ANEURALNETWORKS_TENSOR_FLOAT32, rank, c);
    OK(ANeuralNetworksModel_setOperandValue(model, 1, two, sizeof two));
    OK(ANeuralNetworksModel_setOperandValue(model, 2, &activation, sizeof activation));
    OK(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_ADD, 3, inputs, 1, outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, inputs, 1, outputs));
    OK(ANeuralNetworksModel_finish(model));
    return model;
}

static ANeuralNetworksCompilation *compiled(ANeuralNetworksModel *model)
{
    ANeuralNetworksCompilation *compilation = NULL;
    OK(ANeuralNetworksCompilation_create(model, &compilation));
    OK(ANeuralNetworksCompilation_finish(compilation));
    return compilation;
}

/* A type may say more than the model does, never less. */
static void less_detailed_types(void)
{
    static const uint32_t known[] = {2, 2}, open[] = {0, 2}, other[] = {3, 2}, longer[] = {2, 2, 1};
    const struct {
        const uint32_t *model;
        uint32_t rank;
        const uint32_t *given;
        uint32_t given_rank;
        int input, omitted, output;
    } rows[] = {
        /* the model, the type given -> as an input with a buffer, as one without, as an output */
        {known, 2, known, 2, 0, 0, 0},
        {known, 2, open, 2, 4, 4, 4},
        {known, 2, NULL, 0, 4, 4, 4},
        {known, 2, other, 2, 4, 4, 4},
        {known, 2, longer, 3, 4, 4, 4},
        {open, 2, known, 2, 0, 0, 0},
        {open, 2, open, 2, 4, 0, 0},
        {open, 2, NULL, 0, 4, 4, 4},
        {NULL, 0, known, 2, 0, 0, 0},
        {NULL, 0, open, 2, 4, 0, 0},
        {NULL, 0, NULL, 0, 4, 0, 0},
    };
    for (size_t n = 0; n < COUNT(rows); n++) {
        float values[4] = {0};
        ANeuralNetworksModel *model = sum_model(rows[n].rank, rows[n].model, rows[n].model, 0);
        ANeuralNetworksCompilation *compilation = compiled(model);
        ANeuralNetworksExecution *one = NULL, *two = NULL;
        ANeuralNetworksOperandType type = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, rows[n].given_rank, rows[n].given);
        OK(ANeuralNetworksExecution_create(compilation, &one));
        OK(ANeuralNetworksExecution_create(compilation, &two));
        int input = ANeuralNetworksExecution_setInput(one, 0, &type, values, sizeof values);
        int omitted = ANeuralNetworksExecution_setInput(two, 0, &type, NULL, 0);
        int output = ANeuralNetworksExecution_setOutput(one, 0, &type, values, sizeof values);
        CHECK(input == rows[n].input && omitted == rows[n].omitted && output == rows[n].output);
        if (input != rows[n].input || omitted != rows[n].omitted || output != rows[n].output)
            fprintf(stderr, "row %zu: %d %d %d\n", n, input, omitted, output);
        ANeuralNetworksExecution_free(one);
        ANeuralNetworksExecution_free(two);
        ANeuralNetworksCompilation_free(compilation);
        ANeuralNetworksModel_free(model);
    }
}

/* Dimensions that do not go together, and activations that do not exist: taken, refused by devices, OP_FAILED. */
static void operations_that_cannot_run(void)
{
    static const uint32_t good[] = {2, 2}, bad[] = {3, 2};
    const struct {
        const uint32_t *input, *output;
        int32_t activation;
        uint32_t bytes;
    } rows[] = {{bad, good, 0, 24}, {good, bad, 0, 16}, {good, good, 999, 16}, {good, good, -1, 16}};
    for (size_t n = 0; n < COUNT(rows); n++) {
        float in[6] = {0}, out[6] = {0};
        bool supported = true;
        ANeuralNetworksModel *model = sum_model(2, rows[n].input, rows[n].output, rows[n].activation);
        ANeuralNetworksCompilation *compilation = compiled(model), *named = NULL;
        ANeuralNetworksExecution *execution = NULL;
        const ANeuralNetworksDevice *list[] = {device_named("reference")};
        OK(ANeuralNetworksModel_getSupportedOperationsForDevices(model, list, 1, &supported));
        CHECK(!supported);
        OK(ANeuralNetworksCompilation_createForDevices(model, list, 1, &named));
        EXPECT(BAD_DATA, ANeuralNetworksCompilation_finish(named));
        OK(ANeuralNetworksExecution_create(compilation, &execution));
        OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, in, rows[n].bytes));
        OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, out, rows[n].output == bad ? 24 : 16));
        EXPECT(OP_FAILED, ANeuralNetworksExecution_compute(execution));
        ANeuralNetworksExecution_free(execution);
        ANeuralNetworksCompilation_free(compilation);
        ANeuralNetworksCompilation_free(named);
        ANeuralNetworksModel_free(model);
    }
}

/* An execution that fails takes away what a device's memory held. */
static void failure_empties_memory(void)
{
    static const uint32_t dimensions[] = {2, 2};
    float in[4] = {1, 2, 3, 4}, out[4] = {0};
    ANeuralNetworksModel *right = sum_model(2, dimensions, dimensions, 0);
    ANeuralNetworksModel *wrong = sum_model(2, dimensions, dimensions, 999);
    ANeuralNetworksCompilation *good = compiled(right), *bad = compiled(wrong), *writers[] = {good, bad};
    ANeuralNetworksMemoryDesc *desc = NULL;
    ANeuralNetworksMemory *memory = NULL;
    OK(ANeuralNetworksMemoryDesc_create(&desc));
    OK(ANeuralNetworksMemoryDesc_addInputRole(desc, good, 0, 1.0f));
    OK(ANeuralNetworksMemoryDesc_addOutputRole(desc, good, 0, 1.0f));
    OK(ANeuralNetworksMemoryDesc_addOutputRole(desc, bad, 0, 1.0f));
    OK(ANeuralNetworksMemoryDesc_finish(desc));
    OK(ANeuralNetworksMemory_createFromDesc(desc, &memory));
    for (size_t n = 0; n < COUNT(writers); n++) {
        ANeuralNetworksExecution *writes = NULL, *reads = NULL;
        int expected = n == 0 ? ANEURALNETWORKS_NO_ERROR : ANEURALNETWORKS_OP_FAILED;
        OK(ANeuralNetworksExecution_create(writers[n], &writes));
        OK(ANeuralNetworksExecution_setInput(writes, 0, NULL, in, sizeof in));
        OK(ANeuralNetworksExecution_setOutputFromMemory(writes, 0, NULL, memory, 0, 0));
        CHECK(ANeuralNetworksExecution_compute(writes) == expected);
        OK(ANeuralNetworksExecution_create(good, &reads));
        OK(ANeuralNetworksExecution_setInputFromMemory(reads, 0, NULL, memory, 0, 0));
        OK(ANeuralNetworksExecution_setOutput(reads, 0, NULL, out, sizeof out));
        CHECK(ANeuralNetworksExecution_compute(reads) == expected);
        ANeuralNetworksExecution_free(writes);
        ANeuralNetworksExecution_free(reads);
    }
    CHECK(out[0] == 3 && out[3] == 8);
    ANeuralNetworksMemory_free(memory);
    ANeuralNetworksMemoryDesc_free(desc);
    ANeuralNetworksCompilation_free(good);
    ANeuralNetworksCompilation_free(bad);
    ANeuralNetworksModel_free(right);
    ANeuralNetworksModel_free(wrong);
}

/* Dimensions that a client gives with its buffers, and that do not go with the model's constants. */
static void wrong_dimensions_at_run_time(void)
{
    static const uint32_t open[] = {0, 2}, three[] = {3, 2};
    float in[6] = {0}, out[6] = {0};
    ANeuralNetworksModel *model = sum_model(2, open, open, 0);
    ANeuralNetworksCompilation *compilation = compiled(model);
    ANeuralNetworksExecution *execution = NULL;
    ANeuralNetworksOperandType type = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 2, three);
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setInput(execution, 0, &type, in, sizeof in));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, out, sizeof out));
    EXPECT(OP_FAILED, ANeuralNetworksExecution_compute(execution));
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
}

/* y = |x| of nine dimensions, two of which are known only when it runs. */
static void many_dimensions(void)
{
    const uint32_t open[] = {1, 1, 1, 0, 1, 2, 0, 1, 1}, known[] = {1, 1, 1, 3, 1, 2, 1, 1, 1};
    const uint32_t huge[] = {1, 1, 1, 786433, 1, 2, 16777216, 1, 1}, zero[] = {0}, one[] = {1};
    float in[6] = {-1, 2, -3, 4, -5, 6}, out[6] = {0};
    uint32_t rank = 0;
    ANeuralNetworksModel *model = NULL;
    ANeuralNetworksExecution *execution = NULL;
    ANeuralNetworksOperandType type = tensor(ANEURALNETWORKS_TENSOR_FLOAT32, 9, huge);
    OK(ANeuralNetworksModel_create(&model));
    EXPECT(BAD_DATA, ANeuralNetworksModel_addOperand(model, &type));
    add_operand(model, 0, ANEURALNETWORKS_TENSOR_FLOAT32, 9, open);
    add_operand(model, 1, ANEURALNETWORKS_TENSOR_FLOAT32, 9, open);
    OK(ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_ABS, 1, zero, 1, one));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, zero, 1, one));
    OK(ANeuralNetworksModel_finish(model));
    ANeuralNetworksCompilation *compilation = compiled(model);
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setInput(execution, 0, &type, in, sizeof in));
    EXPECT(BAD_DATA, ANeuralNetworksExecution_setOutput(execution, 0, &type, out, sizeof out));
    type.dimensions = known;
    OK(ANeuralNetworksExecution_setInput(execution, 0, &type, in, sizeof in));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, out, sizeof out));
    OK(ANeuralNetworksExecution_compute(execution));
    OK(ANeuralNetworksExecution_getOutputOperandRank(execution, 0, &rank));
    CHECK(rank == 9 && out[0] == 1 && out[4] == 5);
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
}

/* The operation and the two types that manufacturers had before there were extensions: 10000 and 10001. */
static void manufacturers_own(void)
{
    enum { OEM_OPERATION = 10000, OEM_SCALAR = 10000, TENSOR_OEM_BYTE = 10001 };
    const char bytes[20] = "a manufacturer's own";
    const uint32_t four[] = {4}, inputs[] = {0, 1}, outputs[] = {2};
    bool supported = true;
    ANeuralNetworksModel *model = NULL;
    ANeuralNetworksCompilation *any = NULL, *named = NULL;
    ANeuralNetworksExecution *execution = NULL;
    ANeuralNetworksMemoryDesc *desc = NULL;
    const ANeuralNetworksDevice *list[] = {device_named("reference")};
    OK(ANeuralNetworksModel_create(&model));
    add_operand(model, 0, TENSOR_OEM_BYTE, 1, four);
    add_operand(model, 1, OEM_SCALAR, 0, NULL);
    add_operand(model, 2, TENSOR_OEM_BYTE, 1, four);
    add_operand(model, 3, TENSOR_OEM_BYTE, 1, four);
    OK(ANeuralNetworksModel_setOperandValue(model, 1, bytes, sizeof bytes));
    OK(ANeuralNetworksModel_setOperandValue(model, 3, bytes, 4));
    EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandValue(model, 3, bytes, 5));
    EXPECT(BAD_DATA, ANeuralNetworksModel_addOperation(model, ANEURALNETWORKS_RELU, 1, inputs, 1, outputs));
    OK(ANeuralNetworksModel_addOperation(model, OEM_OPERATION, 2, inputs, 1, outputs));
    OK(ANeuralNetworksModel_identifyInputsAndOutputs(model, 1, inputs, 1, outputs));
    OK(ANeuralNetworksModel_finish(model));
    OK(ANeuralNetworksModel_getSupportedOperationsForDevices(model, list, 1, &supported));
    CHECK(!supported);
    OK(ANeuralNetworksCompilation_createForDevices(model, list, 1, &named));
    EXPECT(BAD_DATA, ANeuralNetworksCompilation_finish(named));
    OK(ANeuralNetworksCompilation_create(model, &any));
    EXPECT(BAD_DATA, ANeuralNetworksCompilation_finish(any));
    EXPECT(BAD_STATE, ANeuralNetworksExecution_create(named, &execution));
    OK(ANeuralNetworksMemoryDesc_create(&desc));
    EXPECT(BAD_DATA, ANeuralNetworksMemoryDesc_addInputRole(desc, named, 0, 1.0f));
    ANeuralNetworksMemoryDesc_free(desc);
    ANeuralNetworksCompilation_free(named);
    ANeuralNetworksCompilation_free(any);
    ANeuralNetworksModel_free(model);
}

static void scales_that_are_not_there(void)
{
    const uint32_t dimensions[] = {2, 2};
    ANeuralNetworksModel *model = NULL;
    const ANeuralNetworksSymmPerChannelQuantParams counts[] = {{0, 2, NULL}, {0, 0, NULL}};
    OK(ANeuralNetworksModel_create(&model));
    add_operand(model, 0, ANEURALNETWORKS_TENSOR_QUANT8_SYMM_PER_CHANNEL, 2, dimensions);
    for (size_t n = 0; n < COUNT(counts); n++)
        EXPECT(BAD_DATA, ANeuralNetworksModel_setOperandSymmPerChannelQuantParams(model, 0, &counts[n]));
    EXPECT(UNEXPECTED_NULL, ANeuralNetworksModel_setOperandSymmPerChannelQuantParams(model, 0, NULL));
    ANeuralNetworksModel_free(model);
}

int main(void)
{
    less_detailed_types();
    operations_that_cannot_run();
    failure_empties_memory();
    wrong_dimensions_at_run_time();
    many_dimensions();
    manufacturers_own();
    scales_that_are_not_there();
    return finish_checks();
}
