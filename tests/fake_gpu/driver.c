// A libcuda.so.1 whose GPU is the processor: memory is the computer's, a launch is done when it returns, and the kernels are those
// of kernels.c and candle.c, found by name. It is as strict as a driver is about launches, and stricter about memory: what was
// allocated is full of NaNs, and what is written behind it is found when it is freed.
//
// FAKE_GPUS is how many GPUs there are (1), FAKE_MEMORY how many bytes they have, FAKE_VERSION which CUDA the driver is for, in
// the driver's way of counting (a later one than there is); to the file FAKE_LOG goes how many launches,
// allocations and copies back there were.

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int candle_kernel(const char *name, unsigned blocks, unsigned threads, void **arguments);

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, LAUNCH_FAILED = 719 };
enum { SHARED_UNASKED = 48 << 10, SHARED_MOST = 232448 };
enum { MOST_SHARED_ATTRIBUTE = 97, POOLS_ATTRIBUTE = 115, FUNCTION_SHARED_ATTRIBUTE = 8 };

typedef uint64_t pointer;
typedef int (*launcher)(const char *, unsigned, unsigned, unsigned, size_t, void **);

struct function {
    char name[64];
    launcher own; // null for candle's
    size_t shared;
};

static void *context = &context;
static size_t held, launches, allocations, copies_back;

static size_t from_environment(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void fail(const char *what, const char *name) {
    fprintf(stderr, "fake GPU: %s %s\n", what, name);
    abort();
}

__attribute__((destructor)) static void log_counts(void) {
    FILE *file = getenv("FAKE_LOG") ? fopen(getenv("FAKE_LOG"), "w") : NULL;
    if (!file) return;
    fprintf(file, "%zu %zu %zu\n", launches, allocations, copies_back);
    fclose(file);
}

// Devices and contexts.
int cuInit(unsigned flags) { return from_environment("FAKE_GPUS", 1) ? SUCCESS : ((void)flags, NO_DEVICE); }
int cuDriverGetVersion(int *version) { return *version = (int)from_environment("FAKE_VERSION", 99000), SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = (int)from_environment("FAKE_GPUS", 1), SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
int cuDevicePrimaryCtxRetain(void **out, int device) { return (void)device, *out = context, SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, SUCCESS; }
int cuCtxGetCurrent(void **out) { return *out = context, SUCCESS; }
int cuCtxSetCurrent(void *given) { return given == context ? SUCCESS : INVALID_VALUE; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == MOST_SHARED_ATTRIBUTE ? SHARED_MOST : attribute == POOLS_ATTRIBUTE;
    return SUCCESS;
}
int cuDeviceGetDefaultMemPool(void **pool, int device) { return (void)device, *pool = context, SUCCESS; }
int cuMemPoolSetAttribute(void *pool, int attribute, void *value) { return (void)attribute, pool && value ? SUCCESS : INVALID_VALUE; }
int cuEventCreate(void **event, unsigned flags) { return (void)flags, *event = context, SUCCESS; }
int cuEventDestroy_v2(void *event) { return (void)event, SUCCESS; }
int cuEventRecord(void *event, void *stream) { return (void)event, (void)stream, SUCCESS; }
int cuCtxSynchronize(void) { return SUCCESS; }
int cuStreamCreate(void **stream, unsigned flags) { return (void)flags, *stream = malloc(1), SUCCESS; }
int cuStreamDestroy_v2(void *stream) { return free(stream), SUCCESS; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return (void)stream, (void)event, (void)flags, SUCCESS; }
int cuStreamSynchronize(void *stream) { return (void)stream, SUCCESS; }
int cuGetErrorName(int error, const char **name) {
    return *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR", SUCCESS;
}
int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }

// Memory: the size before it, a margin after it.
enum { BEFORE = 16, MARGIN = 64 };

int cuMemAllocAsync(pointer *out, size_t size, void *stream) {
    (void)stream;
    if (size == 0) return INVALID_VALUE;
    if (held + size > from_environment("FAKE_MEMORY", SIZE_MAX / 2)) return OUT_OF_MEMORY;
    char *memory = malloc(BEFORE + size + MARGIN);
    if (!memory) return OUT_OF_MEMORY;
    memcpy(memory, &size, sizeof size);
    memset(memory + BEFORE, 0xff, size + MARGIN);
    held += size;
    allocations++;
    *out = (pointer)(memory + BEFORE);
    return SUCCESS;
}
int cuMemFreeAsync(pointer given, void *stream) {
    (void)stream;
    char *memory = (char *)given;
    size_t size;
    memcpy(&size, memory - BEFORE, sizeof size);
    for (size_t k = 0; k < MARGIN; k++) {
        if ((unsigned char)memory[size + k] != 0xff) fail("memory was written behind its end", "");
    }
    held -= size;
    free(memory - BEFORE);
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t size, void *stream) {
    return (void)stream, memcpy((void *)to, from, size), SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t size, void *stream) {
    copies_back++;
    return (void)stream, memcpy(to, (void *)from, size), SUCCESS;
}
int cuMemcpyDtoDAsync_v2(pointer to, pointer from, size_t size, void *stream) {
    return (void)stream, memmove((void *)to, (void *)from, size), SUCCESS;
}
int cuMemsetD8Async(pointer to, unsigned char value, size_t size, void *stream) {
    return (void)stream, memset((void *)to, value, size), SUCCESS;
}

// Kernels: a module is candle's, or ours of one type, which its text tells.
static launcher own_kernels(const char *file) {
    // Beside this library, on LD_LIBRARY_PATH.
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail("cannot load", file);
    return (launcher)dlsym(library, "launch_by_name");
}
int cuModuleLoadData(void **module, const void *image) {
    static launcher candle, single, twice;
    if (!strstr(image, "recurrence_forward")) {
        *module = &candle;
    } else if (strstr(image, ".f64 clipped_descent_param_2")) {
        twice = own_kernels("kernels_f64.so");
        *module = &twice;
    } else {
        single = own_kernels("kernels_f32.so");
        *module = &single;
    }
    return SUCCESS;
}
int cuModuleUnload(void *module) { return (void)module, SUCCESS; }
int cuModuleGetFunction(struct function **out, launcher *module, const char *name) {
    struct function *function = malloc(sizeof *function);
    snprintf(function->name, sizeof function->name, "%s", name);
    function->own = *module;
    function->shared = SHARED_UNASKED;
    *out = function;
    return SUCCESS;
}
int cuFuncSetAttribute(struct function *function, int attribute, int value) {
    if (attribute != FUNCTION_SHARED_ATTRIBUTE || value > SHARED_MOST) return INVALID_VALUE;
    function->shared = (size_t)value;
    return SUCCESS;
}
int cuLaunchKernel(
    struct function *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads, unsigned threads_y,
    unsigned threads_z, unsigned shared, void *stream, void **arguments, void **extra
) {
    (void)stream;
    launches++;
    if (!blocks_x || !blocks_y || blocks_y > 65535 || blocks_z != 1 || !threads || threads > 1024 || threads_y != 1
        || threads_z != 1 || shared > function->shared || extra) {
        return INVALID_VALUE;
    }
    if (!function->own) {
        if (!candle_kernel(function->name, blocks_x, threads, arguments)) fail("there is no kernel", function->name);
        return SUCCESS;
    }
    const int result = function->own(function->name, blocks_x, blocks_y, threads, shared, arguments);
    if (result == 4) return NOT_FOUND;
    return result ? LAUNCH_FAILED : SUCCESS;
}
