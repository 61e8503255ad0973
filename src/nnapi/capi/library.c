/* What libneuralnetworks.so does in C: start Python once, in whatever process it finds itself, and hand calls over.

   calls.h, made by build.py, has the exported functions. Each of them asks started() first; the functions python_*
   that they call are extern "Python" functions of cffi (bodies.c), attached by nnapi.capi.functions.attach. They
   answer 1 + the result code: 0, which is what a function without a body answers, must not be NO_ERROR. */
#define _GNU_SOURCE
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <android/NeuralNetworks.h>

#include "bodies.h"
#include "python.h"

#define EXPORT __attribute__((visibility("default")))

PyMODINIT_FUNC PyInit__neuralnetworks(void);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool is_started;
static bool is_failed;

/* A program that loaded this library with RTLD_LOCAL keeps libpython's symbols from Python's extension modules, which
   do not name libpython among their needs. */
__attribute__((constructor)) static void promote_libpython(void)
{
    Dl_info python;
    if (dladdr((void *)Py_IsInitialized, &python) && python.dli_fname)
        dlopen(python.dli_fname, RTLD_LAZY | RTLD_GLOBAL | RTLD_NOLOAD);
}

static void report(const char *message)
{
    fprintf(stderr, "libneuralnetworks: OP_FAILED: cannot start: %s\n", message);
}

static void report_exception(void)
{
    PyObject *type, *value, *traceback, *text;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    text = value ? PyObject_Repr(value) : NULL;
    const char *message = text ? PyUnicode_AsUTF8(text) : NULL;
    report(message ? message : "an exception without a text");
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

/* Start the interpreter that nnapi was installed for, deaf to the environment of the program that hosts it. */
static bool start_interpreter(void)
{
    PyPreConfig before;
    PyConfig config;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    PyStatus status = Py_PreInitialize(&before);
    if (!PyStatus_Exception(status)) {
        PyConfig_InitIsolatedConfig(&config);
        status = PyConfig_SetBytesString(&config, &config.program_name, PYTHON_PROGRAM);
        if (!PyStatus_Exception(status))
            status = Py_InitializeFromConfig(&config);
        PyConfig_Clear(&config);
    }
    if (PyStatus_Exception(status))
        report(status.err_msg ? status.err_msg : "the Python interpreter did not start");
    return !PyStatus_Exception(status);
}

/* Where nnapi and what it needs lie, behind whatever the process has: it may run another environment's Python. */
static bool extend_path(void)
{
    static const char *const folders[] = {PYTHON_FOLDERS};
    PyObject *path = PySys_GetObject("path");
    for (size_t i = 0; path && i < sizeof folders / sizeof *folders; i++) {
        PyObject *folder = PyUnicode_DecodeFSDefault(folders[i]);
        int found = folder ? PySequence_Contains(path, folder) : -1;
        if (found == 0)
            found = PyList_Append(path, folder);
        Py_XDECREF(folder);
        if (found < 0)
            return false;
    }
    return path != NULL;
}

/* Needs the GIL. */
static bool attach_bodies(void)
{
    if (strncmp(Py_GetVersion(), PYTHON_VERSION ".", strlen(PYTHON_VERSION ".")) != 0) {
        report("built for Python " PYTHON_VERSION ", the process runs another; build it with that one");
        return false;
    }
    PyObject *bodies = PyInit__neuralnetworks();
    PyObject *functions = bodies && extend_path() ? PyImport_ImportModule("nnapi.capi.functions") : NULL;
    PyObject *done = functions ? PyObject_CallMethod(functions, "attach", "O", bodies) : NULL;
    bool is_attached = done != NULL;
    if (!is_attached)
        report_exception();
    Py_XDECREF(done);
    Py_XDECREF(functions);
    Py_XDECREF(bodies);
    return is_attached;
}

/* Once, for whoever calls first. The lock is never waited for with the GIL held: who has it may be waiting for the GIL. */
static bool start(void)
{
    PyGILState_STATE gil = PyGILState_UNLOCKED;
    PyThreadState *thread = NULL;
    bool ran = Py_IsInitialized();
    if (ran) {
        gil = PyGILState_Ensure();
        thread = PyEval_SaveThread();
    }
    pthread_mutex_lock(&lock);
    if (!is_started && !is_failed) {
        if (ran)
            PyEval_RestoreThread(thread);
        is_started = (ran || start_interpreter()) && attach_bodies();
        is_failed = !is_started;
        if (Py_IsInitialized())
            thread = PyEval_SaveThread();
    }
    bool result = is_started;
    pthread_mutex_unlock(&lock);
    if (ran) {
        PyEval_RestoreThread(thread);
        PyGILState_Release(gil);
    }
    return result;
}

/* Programs that free what they have when they end may do so after Python has ended. */
static inline bool started(void)
{
    return is_started ? Py_IsInitialized() : start();
}

static inline int answer(int code)
{
    return code > 0 ? code - 1 : ANEURALNETWORKS_OP_FAILED;
}

#include "calls.h"
