/* Loads the library as a plug-in does, calls it from many threads at once, unloads it and loads it again. */
#include <android/NeuralNetworks.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 8

static int (*get_device_count)(uint32_t *);
static int failures;

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    *(void **)&get_device_count = dlsym(library, "ANeuralNetworks_getDeviceCount");
    return library;
}

static void *call(void *unused)
{
    uint32_t count = 0;
    if (get_device_count(&count) != ANEURALNETWORKS_NO_ERROR || count == 0)
        __atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    if (argc != 2)
        return 2;
    for (int round = 0; round < 2; round++) {
        void *library = load(argv[1]);
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, call, NULL);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        dlclose(library);
    }
    printf("%d failures\n", failures);
    return failures != 0;
}
