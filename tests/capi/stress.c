/* stress cycles COUNT     create, compile, run, free, again and again: how much memory stays?
   stress threads SECONDS  8 threads that compile and execute at once: no error, exact results, an end. */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <time.h>

#define THREADS 8

static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static long resident_bytes(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        abort();
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static ANeuralNetworksExecution *bound(ANeuralNetworksCompilation *compilation, const float *a, const float *b,
                                       float *c)
{
    ANeuralNetworksExecution *execution = NULL;
    OK(ANeuralNetworksExecution_create(compilation, &execution));
    OK(ANeuralNetworksExecution_setInput(execution, 0, NULL, a, 16));
    OK(ANeuralNetworksExecution_setInput(execution, 1, NULL, b, 16));
    OK(ANeuralNetworksExecution_setOutput(execution, 0, NULL, c, 16));
    return execution;
}

static ANeuralNetworksCompilation *compiled(ANeuralNetworksModel *model)
{
    ANeuralNetworksCompilation *compilation = NULL;
    OK(ANeuralNetworksCompilation_create(model, &compilation));
    OK(ANeuralNetworksCompilation_finish(compilation));
    return compilation;
}

static void cycle(void)
{
    const float a[] = {1, 2, 3, 4};
    float c[4] = {0};
    ANeuralNetworksEvent *event = NULL;
    ANeuralNetworksBurst *burst = NULL;
    ANeuralNetworksModel *model = finished_add_model(4);
    ANeuralNetworksCompilation *compilation = compiled(model);
    ANeuralNetworksExecution *execution = bound(compilation, a, a, c);
    OK(ANeuralNetworksExecution_compute(execution));
    ANeuralNetworksExecution_free(execution);
    execution = bound(compilation, a, a, c);
    OK(ANeuralNetworksExecution_startCompute(execution, &event));
    OK(ANeuralNetworksEvent_wait(event));
    ANeuralNetworksEvent_free(event);
    ANeuralNetworksExecution_free(execution);
    OK(ANeuralNetworksBurst_create(compilation, &burst));
    execution = bound(compilation, a, a, c);
    OK(ANeuralNetworksExecution_burstCompute(execution, burst));
    ANeuralNetworksExecution_free(execution);
    ANeuralNetworksBurst_free(burst);
    ANeuralNetworksCompilation_free(compilation);
    ANeuralNetworksModel_free(model);
    CHECK(c[3] == 8);
}

static double until;
static ANeuralNetworksModel *shared_model;
static ANeuralNetworksCompilation *shared_compilation;
static long rounds;

static void *work(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    while (seconds() < until) {
        float a[4], b[4], c[4] = {0};
        for (int i = 0; i < 4; i++) {
            a[i] = (float)(rand_r(&seed) % 1000);
            b[i] = (float)(rand_r(&seed) % 1000);
        }
        switch (rand_r(&seed) % 5) {
        case 0: { /* a compilation of its own, of the shared model */
            ANeuralNetworksCompilation *own = compiled(shared_model);
            ANeuralNetworksExecution *execution = bound(own, a, b, c);
            OK(ANeuralNetworksExecution_compute(execution));
            ANeuralNetworksExecution_free(execution);
            ANeuralNetworksCompilation_free(own);
            break;
        }
        case 1: { /* asynchronous */
            ANeuralNetworksEvent *event = NULL;
            ANeuralNetworksExecution *execution = bound(shared_compilation, a, b, c);
            OK(ANeuralNetworksExecution_startCompute(execution, &event));
            OK(ANeuralNetworksEvent_wait(event));
            ANeuralNetworksEvent_free(event);
            ANeuralNetworksExecution_free(execution);
            break;
        }
        case 2: { /* one after another, by their events */
            ANeuralNetworksEvent *first = NULL, *second = NULL;
            float twice[4] = {0};
            ANeuralNetworksExecution *execution = bound(shared_compilation, a, b, c);
            ANeuralNetworksExecution *after = bound(shared_compilation, c, c, twice);
            OK(ANeuralNetworksExecution_startComputeWithDependencies(execution, NULL, 0, 0, &first));
            OK(ANeuralNetworksExecution_startComputeWithDependencies(
                after, (const ANeuralNetworksEvent *const *)&first, 1, 0, &second));
            OK(ANeuralNetworksEvent_wait(second));
            ANeuralNetworksEvent_free(first);
            ANeuralNetworksEvent_free(second);
            ANeuralNetworksExecution_free(execution);
            ANeuralNetworksExecution_free(after);
            for (int i = 0; i < 4; i++)
                CHECK(twice[i] == 2 * (a[i] + b[i]));
            break;
        }
        case 3: { /* a model of its own */
            ANeuralNetworksModel *own = finished_add_model(4);
            ANeuralNetworksModel_free(own);
        } /* fall through */
        default: {
            ANeuralNetworksExecution *execution = bound(shared_compilation, a, b, c);
            OK(ANeuralNetworksExecution_compute(execution));
            ANeuralNetworksExecution_free(execution);
        }
        }
        for (int i = 0; i < 4; i++)
            CHECK(c[i] == a[i] + b[i]);
        __atomic_add_fetch(&rounds, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    double amount = atof(argv[2]);
    if (strcmp(argv[1], "cycles") == 0) {
        long count = (long)amount;
        for (long i = 0; i < count / 10; i++)
            cycle();
        long before = resident_bytes();
        for (long i = 0; i < count; i++)
            cycle();
        printf("%ld bytes more\n", resident_bytes() - before);
    } else {
        pthread_t threads[THREADS];
        shared_model = finished_add_model(4);
        shared_compilation = compiled(shared_model);
        until = seconds() + amount;
        for (uintptr_t i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, work, (void *)(i + 1));
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        ANeuralNetworksCompilation_free(shared_compilation);
        ANeuralNetworksModel_free(shared_model);
        printf("%ld rounds\n", rounds);
    }
    return finish_checks();
}
