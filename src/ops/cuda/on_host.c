// As much of a GPU as kernels.cuh needs, on the processor, so that tests run the kernels where there is no GPU. The threads of
// a block are contexts of their own, run one after the other from barrier to barrier, in an order that the test chooses: an
// entry that is read without a barrier after its writing is not there yet in one order or the other, and shared memory is
// full of NaNs before. Blocks run one after the other.

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
#define GUARD 4096
double shared_memory[(SHARED + GUARD) / sizeof(double)];

static ucontext_t scheduler, *contexts;
static char *finished;
static void (*kernel)(void *);
static void *arguments;

static void __syncthreads(void) { swapcontext(&contexts[threadIdx.x], &scheduler); }

static void run_thread(void) {
    kernel(arguments);
    finished[threadIdx.x] = 1;
}

static int run_block(char *stacks, size_t shared, int descending) {
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
        if (done != 0 && done != threads) return 1;
    }
    for (size_t k = shared; k < sizeof shared_memory; k++) {
        if (((unsigned char *)shared_memory)[k] != 0xff) return 2;
    }
    return 0;
}

// Runs body(data) once for each thread of a launch. Gives 0; 1 where some threads of a block wait at a barrier that others do
// not come to; 2 where shared memory was written behind the launch's share; 3 where there is too little memory.
int launch(unsigned blocks_x, unsigned blocks_y, unsigned threads, size_t shared, int descending, void (*body)(void *), void *data) {
    char *stacks = malloc((size_t)threads * STACK);
    contexts = malloc(threads * sizeof *contexts);
    finished = malloc(threads);
    int result = stacks && contexts && finished && shared <= SHARED ? 0 : 3;
    kernel = body;
    arguments = data;
    gridDim = (struct place){blocks_x, blocks_y};
    blockDim = (struct place){threads, 1};
    for (unsigned y = 0; y < blocks_y && result == 0; y++) {
        for (unsigned x = 0; x < blocks_x && result == 0; x++) {
            blockIdx = (struct place){x, y};
            result = run_block(stacks, shared, descending);
        }
    }
    free(stacks);
    free(contexts);
    free(finished);
    return result;
}
