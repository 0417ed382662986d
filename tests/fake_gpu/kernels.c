// Our kernels of the type F, to be launched by name as the driver does it: the arguments are an array of pointers to them.

#include "on_host.c"

typedef const F *in;
typedef F *out;
typedef const unsigned *indices;

#define P(type, k) (*(type *)p[k])
#define KERNEL(name, ...) \
    static void run_##name(void *arguments) { \
        void **p = arguments; \
        name(__VA_ARGS__); \
    }

KERNEL(project_input, P(indices, 0), P(in, 1), P(in, 2), P(out, 3), P(size_t, 4), P(unsigned, 5), P(unsigned, 6))
KERNEL(project_input_backward, P(indices, 0), P(in, 1), P(out, 2), P(out, 3), P(size_t, 4), P(unsigned, 5), P(unsigned, 6))
KERNEL(recurrence_forward, P(in, 0), P(in, 1), P(in, 2), P(out, 3), P(unsigned, 4), P(unsigned, 5), P(unsigned, 6))
KERNEL(recurrence_backward, P(in, 0), P(in, 1), P(in, 2), P(out, 3), P(out, 4), P(unsigned, 5), P(unsigned, 6), P(unsigned, 7))
KERNEL(add_tanh, P(out, 0), P(in, 1), P(size_t, 2))
KERNEL(add_times_slope, P(out, 0), P(in, 1), P(in, 2), P(size_t, 3))
KERNEL(cross_entropy, P(in, 0), P(indices, 1), P(out, 2), P(out, 3), P(size_t, 4), P(unsigned, 5))
KERNEL(sum, P(in, 0), P(out, 1), P(size_t, 2))
KERNEL(clipped_descent, P(out, 0), P(in, 1), P(F, 2), P(F, 3), P(size_t, 4))
KERNEL(adamw_moments, P(out, 0), P(in, 1), P(F, 2), P(F, 3), P(F, 4), P(size_t, 5))
KERNEL(adamw_descent, P(out, 0), P(in, 1), P(F, 2), P(F, 3), P(F, 4), P(F, 5), P(size_t, 6))
KERNEL(bptt_of_one, P(indices, 0), P(indices, 1), P(in, 2), P(in, 3), P(in, 4), P(in, 5), P(in, 6), P(in, 7), P(out, 8),
       P(out, 9), P(unsigned, 10), P(unsigned, 11), P(unsigned, 12))

#define ENTRY(name) {#name, run_##name}
static const struct {
    const char *name;
    void (*run)(void *);
} all[] = {
    ENTRY(project_input), ENTRY(project_input_backward), ENTRY(recurrence_forward), ENTRY(recurrence_backward),
    ENTRY(add_tanh), ENTRY(add_times_slope), ENTRY(cross_entropy), ENTRY(sum), ENTRY(clipped_descent),
    ENTRY(adamw_moments), ENTRY(adamw_descent), ENTRY(bptt_of_one),
};

// Launches the kernel `name`. Gives what `launch` gives, and 4 where there is none.
int launch_by_name(const char *name, unsigned blocks_x, unsigned blocks_y, unsigned threads, size_t shared, void **arguments) {
    for (unsigned k = 0; k < sizeof all / sizeof *all; k++) {
        if (strcmp(all[k].name, name) == 0) return launch(blocks_x, blocks_y, threads, shared, 0, all[k].run, arguments);
    }
    return 4;
}
