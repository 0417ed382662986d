// Those of candle's kernels that training, sampling and gradcheck launch, element by element: what they compute and which
// arguments they take, as candle-kernels 0.11.1 documents them in its own source. Names are an operation and types, as in badd_f32.

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P(type, k) (*(type *)p[k])
#define NONE 0xffffffffu

enum type { F32, F64, U32, U8, TYPES };
static const char *const suffixes[TYPES] = {"_f32", "_f64", "_u32", "_u8"};
static const size_t sizes[TYPES] = {4, 8, 4, 1};

static double get(enum type type, const void *values, size_t k) {
    switch (type) {
    case F32: return ((const float *)values)[k];
    case F64: return ((const double *)values)[k];
    case U32: return ((const uint32_t *)values)[k];
    default: return ((const uint8_t *)values)[k];
    }
}

static void set(enum type type, void *values, size_t k, double value) {
    switch (type) {
    case F32: ((float *)values)[k] = (float)value; break;
    case F64: ((double *)values)[k] = value; break;
    case U32: ((uint32_t *)values)[k] = (uint32_t)value; break;
    default: ((uint8_t *)values)[k] = (uint8_t)value;
    }
}

// A number that is an argument itself.
static double number(enum type type, const void *argument) { return get(type, argument, 0); }

// Where entry k of a tensor stands; dimensions and strides, or null where it is contiguous.
static size_t place(size_t k, size_t dimensions, const size_t *sizes, const size_t *strides) {
    if (sizes == NULL) return k;
    size_t at = 0;
    for (size_t d = dimensions; d-- > 0;) {
        at += k % sizes[d] * strides[d];
        k /= sizes[d];
    }
    return at;
}

// Takes one of the endings off a name.
static int ends_in(char *name, enum type *type) {
    for (int k = 0; k < TYPES; k++) {
        const size_t length = strlen(name), end = strlen(suffixes[k]);
        if (length > end && strcmp(name + length - end, suffixes[k]) == 0) {
            name[length - end] = 0;
            *type = k;
            return 1;
        }
    }
    return 0;
}

static double unary(const char *op, double x, int *known) {
    if (!strcmp(op, "copy")) return x;
    if (!strcmp(op, "neg")) return -x;
    if (!strcmp(op, "exp")) return exp(x);
    if (!strcmp(op, "log")) return log(x);
    if (!strcmp(op, "tanh")) return tanh(x);
    if (!strcmp(op, "abs")) return fabs(x);
    if (!strcmp(op, "sqr")) return x * x;
    if (!strcmp(op, "sqrt")) return sqrt(x);
    if (!strcmp(op, "recip")) return 1 / x;
    *known = 0;
    return 0;
}

static double binary(const char *op, double x, double y, int *known) {
    if (!strcmp(op, "add")) return x + y;
    if (!strcmp(op, "sub")) return x - y;
    if (!strcmp(op, "mul")) return x * y;
    if (!strcmp(op, "div")) return x / y;
    if (!strcmp(op, "maximum")) return x > y || x != x ? x : y;
    if (!strcmp(op, "minimum")) return x < y || x != x ? x : y;
    *known = 0;
    return 0;
}

// Runs the kernel `full_name`; gives 0 where it is not one of those below.
int candle_kernel(const char *full_name, unsigned blocks, unsigned threads, void **p) {
    char name[64];
    enum type type, from;
    snprintf(name, sizeof name, "%s", full_name);
    if (!ends_in(name, &type)) return 0;
    int known = 1;
    if (!strncmp(name, "cast_", 5) && ends_in(name, &from)) {
        const size_t dimensions = P(size_t, 1), *info = P(size_t *, 2);
        for (size_t k = 0; k < P(size_t, 0); k++) {
            set(type, P(void *, 4), k, get(from, P(void *, 3), place(k, dimensions, info, info + dimensions)));
        }
    } else if (!strcmp(name, "affine")) {
        const size_t dimensions = P(size_t, 1), *info = P(size_t *, 2);
        for (size_t k = 0; k < P(size_t, 0); k++) {
            const double x = get(type, P(void *, 3), place(k, dimensions, info, info + dimensions));
            set(type, P(void *, 4), k, x * number(type, p[5]) + number(type, p[6]));
        }
    } else if (!strcmp(name, "const_set")) {
        const size_t dimensions = P(size_t, 1), *info = P(size_t *, 2);
        for (size_t k = 0; k < P(size_t, 0); k++) {
            set(type, P(void *, 4), place(k, dimensions, info, info + dimensions), number(type, p[3]));
        }
    } else if (!strcmp(name, "fill")) {
        for (size_t k = 0; k < P(size_t, 2); k++) set(type, P(void *, 0), k, number(type, p[1]));
    } else if (!strcmp(name, "copy2d")) {
        for (size_t i = 0; i < P(uint32_t, 2); i++) {
            for (size_t j = 0; j < P(uint32_t, 3); j++) {
                set(type, P(void *, 1), i * P(uint32_t, 5) + j, get(type, P(void *, 0), i * P(uint32_t, 4) + j));
            }
        }
    } else if (!strcmp(name, "fast_sum_small") || !strcmp(name, "fast_sum") || !strcmp(name, "fast_max")) {
        const size_t each = P(size_t, 1), dimensions = P(size_t, 2), *info = P(size_t *, 3);
        const int largest = !strcmp(name, "fast_max");
        const size_t count = !strcmp(name, "fast_sum_small") ? P(size_t, 0) : blocks;
        for (size_t r = 0; r < count; r++) {
            double result = largest ? -INFINITY : 0;
            for (size_t k = r * each; k < (r + 1) * each; k++) {
                const double x = get(type, P(void *, 4), place(k, dimensions, info, info + dimensions));
                result = largest ? fmax(result, x) : result + x;
            }
            set(type, P(void *, 5), r, result);
        }
    } else if (!strcmp(name, "is_u32")) {
        // The dimensions and strides that it takes are those of the indices, in order like the source.
        const size_t rows = P(size_t, 7), picked = P(size_t, 8), right = P(size_t, 9);
        for (size_t k = 0; k < P(size_t, 0); k++) {
            const uint32_t index = P(uint32_t *, 3)[k / right % picked];
            const size_t source = (k / (picked * right) * rows + index) * right + k % right;
            const double x = index == NONE ? 0 : get(type, P(void *, 4), source);
            set(type, P(void *, 5), k, x);
        }
    } else if (!strcmp(name, "gather_u32")) {
        const size_t rows = P(size_t, 5), picked = P(size_t, 6), right = P(size_t, 7);
        for (size_t k = 0; k < P(size_t, 0); k++) {
            const uint32_t index = P(uint32_t *, 1)[k];
            const size_t source = (k / (picked * right) * rows + index) * right + k % right;
            set(type, P(void *, 3), k, index == NONE ? 0 : get(type, P(void *, 2), source));
        }
    } else if (!strcmp(name, "sa_u32")) {
        const size_t rows = P(size_t, 4), to = P(size_t, 5), right = P(size_t, 6);
        for (size_t k = 0; k < P(size_t, 3) * rows * right; k++) {
            const uint32_t index = P(uint32_t *, 0)[k];
            if (index == NONE) continue;
            const size_t at = (k / (rows * right) * to + index) * right + k % right;
            set(type, P(void *, 2), at, get(type, P(void *, 2), at) + get(type, P(void *, 1), k));
        }
    } else if (!strcmp(name, "eq")) {
        const size_t dimensions = P(size_t, 1), *info = P(size_t *, 2);
        for (size_t k = 0; k < P(size_t, 0); k++) {
            const double x = get(type, P(void *, 3), place(k, dimensions, info, info + dimensions));
            const double y = get(type, P(void *, 4), place(k, dimensions, info, info + 2 * dimensions));
            P(uint8_t *, 5)[k] = x == y;
        }
    } else if (name[0] == 'u') {
        const size_t dimensions = P(size_t, 1), *info = P(size_t *, 2);
        for (size_t k = 0; k < P(size_t, 0); k++) {
            const double x = get(type, P(void *, 3), place(k, dimensions, info, info + dimensions));
            set(type, P(void *, 4), k, unary(name + 1, x, &known));
        }
    } else if (name[0] == 'b') {
        const size_t dimensions = P(size_t, 1), *info = P(size_t *, 2);
        for (size_t k = 0; k < P(size_t, 0); k++) {
            const double x = get(type, P(void *, 3), place(k, dimensions, info, info + dimensions));
            const double y = get(type, P(void *, 4), place(k, dimensions, info, info + 2 * dimensions));
            set(type, P(void *, 5), k, binary(name + 1, x, y, &known));
        }
    } else {
        known = 0;
    }
    (void)threads, (void)sizes;
    return known;
}
