// Emulates the part of a GPU that kernels.cuh needs. Each thread of a block is a context (ucontext);
// contexts run one after the other from barrier to barrier, in ascending or descending order. A read
// that lacks a barrier after the write sees the old value in one of the two orders; shared memory is
// full of NaNs at first. Blocks run one after the other.

#define _XOPEN_SOURCE 700
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __shared__
#define __launch_bounds__(threads)

struct place { unsigned x, y; };
static struct place threadIdx, blockIdx, blockDim, gridDim;
static void __syncthreads(void);

#include "kernels.cuh"

#define STACK (32 << 10)
#define SHARED (1 << 20)
#define MARGIN 4096
double shared_memory[(SHARED + MARGIN) / sizeof(double)];

static ucontext_t scheduler, *contexts;
static char *finished;
static void (*kernel)(void *);
static void *arguments;

static void __syncthreads(void) { swapcontext(&contexts[threadIdx.x], &scheduler); }

static void run_thread(void) {
    kernel(arguments);
    finished[threadIdx.x] = 1;
}

static const char *run_block(char *stacks, size_t shared, int descending) {
    const unsigned threads = blockDim.x;
    memset(shared_memory, 0xff, sizeof shared_memory);
    memset(finished, 0, threads);
    for (unsigned k = 0; k < threads; k++) {
        getcontext(&contexts[k]);
        contexts[k].uc_stack.ss_sp = stacks + (size_t)k * STACK;
        contexts[k].uc_stack.ss_size = STACK;
        contexts[k].uc_link = &scheduler;
        makecontext(&contexts[k], run_thread, 0);
    }
    for (unsigned done = 0; done < threads;) {
        done = 0;
        for (unsigned k = 0; k < threads; k++) {
            threadIdx.x = descending ? threads - 1 - k : k;
            swapcontext(&scheduler, &contexts[threadIdx.x]);
            done += finished[threadIdx.x];
        }
        if (done != 0 && done != threads) return "some threads of a block miss a barrier";
    }
    for (size_t k = shared; k < sizeof shared_memory; k++) {
        if (((unsigned char *)shared_memory)[k] != 0xff) return "shared memory overflows";
    }
    return NULL;
}

// Calls body(data) once for each thread of a launch. Returns NULL, or what went wrong.
const char *launch(
    unsigned blocks_x, unsigned blocks_y, unsigned threads, size_t shared, int descending,
    void (*body)(void *), void *data
) {
    char *stacks = malloc((size_t)threads * STACK);
    contexts = malloc(threads * sizeof *contexts);
    finished = malloc(threads);
    const char *error = stacks && contexts && finished && shared <= SHARED ? NULL : "out of memory";
    kernel = body;
    arguments = data;
    gridDim = (struct place){blocks_x, blocks_y};
    blockDim = (struct place){threads, 1};
    for (unsigned y = 0; y < blocks_y && !error; y++) {
        for (unsigned x = 0; x < blocks_x && !error; x++) {
            blockIdx = (struct place){x, y};
            error = run_block(stacks, shared, descending);
        }
    }
    free(stacks);
    free(contexts);
    free(finished);
    return error;
}
