// The functions of the NVIDIA driver, looked for when the program starts and not by the loader before: on a machine without a
// driver the program then runs, on the CPU, or says in a sentence what is missing. Each function is a jump through a table, which
// leaves all arguments as they are.
//
// build.rs writes names.h: NAME(f, k) for every function that the toolkit's cuda.h names, k counting from 0.

#include <dlfcn.h>
#include <string.h>

#define NAME(f, k) #f,
static const char *const names[] = {
#include "names.h"
};
#undef NAME
#define COUNT (sizeof names / sizeof *names)

__attribute__((visibility("hidden"))) void *char_rnn_driver_table[COUNT];

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
#if defined(__x86_64__)
#define JUMP(k) "jmp *char_rnn_driver_table + 8 * " TEXT_OF(k) "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(k) \
    "adrp x16, char_rnn_driver_table + 8 * " TEXT_OF(k) "\n" \
    "ldr x17, [x16, :lo12:char_rnn_driver_table + 8 * " TEXT_OF(k) "]\n" \
    "br x17\n"
#endif
#define NAME(f, k) __asm__(".text\n.globl " #f "\n.hidden " #f "\n.type " #f ", %function\n" #f ":\n" JUMP(k));
#include "names.h"

// What stands for a function that is not there: the CUresults CUDA_ERROR_STUB_LIBRARY and
// CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER.
static int no_driver(void) { return 34; }
static int newer_driver_needed(void) { return 36; }

static char error[512];

// Why the driver could not be loaded; null where it was.
const char *char_rnn_driver_error(void) { return *error ? error : 0; }

__attribute__((constructor)) static void load(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!driver) {
        const char *why = dlerror();
        strncpy(error, why ? why : "libcuda.so.1 is not found", sizeof error - 1);
    }
    for (unsigned k = 0; k < COUNT; k++) {
        void *found = driver ? dlsym(driver, names[k]) : 0;
        char_rnn_driver_table[k] = found ? found : driver ? (void *)newer_driver_needed : (void *)no_driver;
    }
}
