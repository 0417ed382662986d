// The kernels of the fused ops for NVIDIA GPUs, in the float type F.
//
// They use the common part of CUDA C++ and C, so that tests/cuda_kernels.rs can compile and run the
// same text on the processor. Shapes as in crate::kernels: rows are time-major, step t of sequence
// i is row t * batch + i; n is n_a, v the vocabulary. The order of every sum depends on the sizes
// alone, so that results are reproducible to the last bit.
//
// An index that is not below v counts as START or IGNORE_INDEX: nothing is read for it.

#ifdef __cplusplus
extern "C" {
#endif

// The threads that share the rows of one column in project_input_backward.
#define ROW_LANES 16
// The columns of a block there.
#define COLUMNS 32
// The most threads that geometry.rs gives to a block of the other kernels.
#define THREADS 256

// The launch's dynamic shared memory: double, so that it is aligned for both types.
extern __shared__ double shared_memory[];

// The index of this thread among all threads of the launch, and their number.
__device__ static size_t thread_of_grid(void) {
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}
__device__ static size_t threads_of_grid(void) { return (size_t)gridDim.x * blockDim.x; }

// px = wax x + b: x (rows) of indices, wax (n, v), b (n) to px (rows, n). A thread an entry.
__global__ void __launch_bounds__(THREADS) project_input(
    const unsigned *x, const F *wax, const F *b, F *px, size_t rows, unsigned n, unsigned v
) {
    for (size_t k = thread_of_grid(); k < rows * n; k += threads_of_grid()) {
        const unsigned i = k % n, index = x[k / n];
        px[k] = index < v ? wax[(size_t)i * v + index] + b[i] : b[i];
    }
}

// dwax (n, v) = sum of dpx_r x_r^T and db (n) = sum of dpx_r over the rows r of dpx (rows, n).
// Block (c, tile) sums COLUMNS columns of dpx over the rows with character c, or, for c = v, over
// all rows; each thread sums every ROW_LANES-th row.
__global__ void __launch_bounds__(ROW_LANES * COLUMNS) project_input_backward(
    const unsigned *x, const F *dpx, F *dwax, F *db, size_t rows, unsigned n, unsigned v
) {
    F *partial = (F *)shared_memory; // (ROW_LANES, COLUMNS)
    const unsigned column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    const unsigned i = blockIdx.y * COLUMNS + column, c = blockIdx.x;
    F sum = 0;
    if (i < n) {
        for (size_t r = lane; r < rows; r += ROW_LANES) {
            if (c == v || x[r] == c) sum += dpx[r * n + i];
        }
    }
    partial[threadIdx.x] = sum;
    __syncthreads();
    if (lane == 0 && i < n) {
        for (unsigned other = 1; other < ROW_LANES; other++) {
            sum += partial[other * COLUMNS + column];
        }
        if (c == v) db[i] = sum;
        else dwax[(size_t)i * v + c] = sum;
    }
}

// Copies waa (n, n) to shared memory. The pitch of its rows is odd, so that neither neighbours in a
// row nor neighbours in a column share a bank.
__device__ static unsigned load_waa(const F *waa, F *shared, unsigned n) {
    const unsigned pitch = n | 1;
    for (unsigned k = threadIdx.x; k < n * n; k += blockDim.x) {
        shared[k / n * pitch + k % n] = waa[k];
    }
    return pitch;
}

// The sum of w[k * stride] * a[k] over k < n, as four independent sums, to hide the latency of the
// additions.
__device__ static F dot(const F *w, unsigned stride, const F *a, unsigned n) {
    F sums[4] = {0, 0, 0, 0};
    unsigned k = 0;
    for (; k + 4 <= n; k += 4) {
        sums[0] += w[k * stride] * a[k];
        sums[1] += w[(k + 1) * stride] * a[k + 1];
        sums[2] += w[(k + 2) * stride] * a[k + 2];
        sums[3] += w[(k + 3) * stride] * a[k + 3];
    }
    for (; k < n; k++) sums[0] += w[k * stride] * a[k];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// a_t = tanh(px_t + waa a_{t-1}) for t = 1 .. steps: waa (n, n), a0 (batch, n), px and a
// (steps * batch, n). A block a sequence. waa and two states stay in shared memory for all steps:
// (n | 1) * n + 2 * n entries.
__global__ void __launch_bounds__(THREADS) recurrence_forward(
    const F *px, const F *waa, const F *a0, F *a, unsigned steps, unsigned batch, unsigned n
) {
    F *shared_waa = (F *)shared_memory;
    const unsigned pitch = load_waa(waa, shared_waa, n);
    F *previous = shared_waa + (size_t)pitch * n, *now = previous + n;
    const size_t sequence = blockIdx.x;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) previous[i] = a0[sequence * n + i];
    __syncthreads();
    for (unsigned t = 0; t < steps; t++) {
        const size_t row = ((size_t)t * batch + sequence) * n;
        for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
            now[i] = tanh(px[row + i] + dot(shared_waa + i * pitch, 1, previous, n));
            a[row + i] = now[i];
        }
        // After this nothing reads the previous state.
        __syncthreads();
        F *swapped = previous;
        previous = now;
        now = swapped;
    }
}

// The gradients of px and a0 from da, the gradient of the states:
// dpx_t = (1 - a_t^2) (da_t + waa^T dpx_{t+1}) for t = steps .. 1, and da0 = waa^T dpx_1.
// Blocks and shared memory as in recurrence_forward.
__global__ void __launch_bounds__(THREADS) recurrence_backward(
    const F *waa, const F *a, const F *da, F *dpx, F *da0,
    unsigned steps, unsigned batch, unsigned n
) {
    F *shared_waa = (F *)shared_memory;
    const unsigned pitch = load_waa(waa, shared_waa, n);
    F *next = shared_waa + (size_t)pitch * n, *now = next + n;
    const size_t sequence = blockIdx.x;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) next[i] = 0;
    __syncthreads();
    for (unsigned t = steps; t-- > 0;) {
        const size_t row = ((size_t)t * batch + sequence) * n;
        for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
            const F from_next = dot(shared_waa + i, pitch, next, n);
            now[i] = (1 - a[row + i] * a[row + i]) * (da[row + i] + from_next);
            dpx[row + i] = now[i];
        }
        __syncthreads();
        F *swapped = next;
        next = now;
        now = swapped;
    }
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
        da0[sequence * n + i] = dot(shared_waa + i, pitch, next, n);
    }
}

// a = tanh(a + h), count entries: the end of a step after the matrix product h = waa a_{t-1}.
__global__ void __launch_bounds__(THREADS) add_tanh(F *a, const F *h, size_t count) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) a[k] = tanh(a[k] + h[k]);
}

// d = (d + h) (1 - a^2), count entries: the same for the backward pass, h = waa^T dpx_{t+1}.
__global__ void __launch_bounds__(THREADS) add_times_slope(
    F *d, const F *h, const F *a, size_t count
) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) {
        d[k] = (d[k] + h[k]) * (1 - a[k] * a[k]);
    }
}

// The sum of the values of a block's threads, for every thread. partial has blockDim.x entries, a
// power of two.
__device__ static F sum_of_block(F value, F *partial) {
    __syncthreads();
    partial[threadIdx.x] = value;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    }
    __syncthreads();
    return partial[0];
}

// The maximum, likewise.
__device__ static F max_of_block(F value, F *partial) {
    __syncthreads();
    partial[threadIdx.x] = value;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        const F other = threadIdx.x < half ? partial[threadIdx.x + half] : value;
        if (threadIdx.x < half && other > partial[threadIdx.x]) partial[threadIdx.x] = other;
    }
    __syncthreads();
    return partial[0];
}

// losses_r = -ln softmax(z_r)[y_r] and dz_r = softmax(z_r) - one-hot(y_r), both zero where y_r is
// IGNORE_INDEX: z and dz (rows, v), y and losses (rows). A block a row; shared memory of blockDim.x
// entries, a power of two.
__global__ void __launch_bounds__(THREADS) cross_entropy(
    const F *z, const unsigned *y, F *dz, F *losses, size_t rows, unsigned v
) {
    F *partial = (F *)shared_memory;
    for (size_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const F *z_r = z + r * v;
        F *dz_r = dz + r * v;
        const unsigned target = y[r];
        F z_max = z_r[0];
        for (unsigned c = threadIdx.x; c < v; c += blockDim.x) {
            z_max = z_r[c] > z_max ? z_r[c] : z_max;
        }
        z_max = max_of_block(z_max, partial);
        F sum = 0;
        for (unsigned c = threadIdx.x; c < v; c += blockDim.x) sum += exp(z_r[c] - z_max);
        sum = sum_of_block(sum, partial);
        for (unsigned c = threadIdx.x; c < v; c += blockDim.x) {
            dz_r[c] = target < v ? exp(z_r[c] - z_max) / sum - (c == target) : 0;
        }
        if (threadIdx.x == 0) {
            losses[r] = target < v ? log(sum) - (z_r[target] - z_max) : 0;
        }
    }
}

// The sum of count values in double precision, by one block: shared memory of blockDim.x doubles,
// a power of two.
__global__ void __launch_bounds__(THREADS) sum(const F *values, F *total, size_t count) {
    double sum = 0;
    for (size_t k = threadIdx.x; k < count; k += blockDim.x) sum += values[k];
    shared_memory[threadIdx.x] = sum;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            shared_memory[threadIdx.x] += shared_memory[threadIdx.x + half];
        }
    }
    if (threadIdx.x == 0) *total = shared_memory[0];
}

// g in [-clip, clip]. A NaN stays NaN.
__device__ static F clipped(F g, F clip) { return g > clip ? clip : g < -clip ? -clip : g; }

// w -= rate * clamp(g, -clip, clip), count entries.
__global__ void __launch_bounds__(THREADS) clipped_descent(
    F *w, const F *g, F rate, F clip, size_t count
) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) {
        w[k] -= rate * clipped(g[k], clip);
    }
}

// The moments of AdamW: with c = clamp(g, -clip, clip), m += fresh_1 (c - m) and
// v += fresh_2 (c^2 - v). moments holds m and then v, count entries each.
__global__ void __launch_bounds__(THREADS) adamw_moments(
    F *moments, const F *g, F clip, F fresh_1, F fresh_2, size_t count
) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) {
        const F c = clipped(g[k], clip);
        F *m = moments + k, *v = moments + count + k;
        *m += fresh_1 * (c - *m);
        *v += fresh_2 * (c * c - *v);
    }
}

// The step of AdamW: w = keep w - rate m / (sqrt(v) correction + epsilon), count entries.
__global__ void __launch_bounds__(THREADS) adamw_descent(
    F *w, const F *moments, F keep, F rate, F correction, F epsilon, size_t count
) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) {
        const F m = moments[k], v = moments[count + k];
        w[k] = w[k] * keep - rate * m / (sqrt(v) * correction + epsilon);
    }
}

#ifdef __cplusplus
}
#endif
