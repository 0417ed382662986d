// The kernels of the fused ops for NVIDIA GPUs, in the float type F.
//
// They keep to what CUDA C++ and C have in common, so that the same text also compiles for the processor, where the tests run
// it (see on_host.rs). Shapes are those of crate::kernels: rows are time-major, step t of sequence i is row t * batch + i; n is
// n_a and v the vocabulary. Every sum is taken in an order that depends on the sizes alone, so that runs repeat to the last bit.
//
// An index that is not below v counts as NONE: it reads nothing, whatever it is.

#ifdef __cplusplus
extern "C" {
#endif

// How many threads share the rows of one column in project_input_backward.
#define ROW_LANES 16
// How many columns of such a sum a block has.
#define COLUMNS 32
// The most threads that geometry.rs gives a block: so many registers the compiler leaves to each.
#define THREADS 256
#define MOST_THREADS 512

// The launch's dynamic shared memory; a double, so that it is aligned for both types.
extern __shared__ double shared_memory[];

// The place of this thread among all threads of the launch, and how many there are.
__device__ static size_t thread_of_grid(void) { return (size_t)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ static size_t threads_of_grid(void) { return (size_t)gridDim.x * blockDim.x; }

// px = wax x + b: x (rows) of indices, wax (n, v), b (n) to px (rows, n). A thread an entry.
__global__ void __launch_bounds__(THREADS) project_input(const unsigned *x, const F *wax, const F *b, F *px, size_t rows, unsigned n, unsigned v) {
    for (size_t k = thread_of_grid(); k < rows * n; k += threads_of_grid()) {
        const unsigned i = k % n, index = x[k / n];
        px[k] = index < v ? wax[(size_t)i * v + index] + b[i] : b[i];
    }
}

// dwax (n, v) = sum of dpx_r x_r^T and db (n) = sum of dpx_r, over the rows r of dpx (rows, n). Block (c, tile) has COLUMNS
// columns of dpx, and of the sums over them that of character c, or, for c = v, db; each thread sums every ROW_LANES-th row.
__global__ void __launch_bounds__(MOST_THREADS) project_input_backward(
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
        for (unsigned other = 1; other < ROW_LANES; other++) sum += partial[other * COLUMNS + column];
        if (c == v) db[i] = sum;
        else dwax[(size_t)i * v + c] = sum;
    }
}

// Copies waa (n, n) to shared memory, where a row takes an odd number of entries: then neither neighbours in a row nor those
// in a column meet in a bank.
__device__ static unsigned load_waa(const F *waa, F *shared, unsigned n) {
    const unsigned pitch = n | 1;
    for (unsigned k = threadIdx.x; k < n * n; k += blockDim.x) shared[k / n * pitch + k % n] = waa[k];
    return pitch;
}

// The sum of w[k * stride] * a[k] over k < n, as four sums side by side, so that no addition waits for the one before.
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

// a_t = tanh(px_t + waa a_{t-1}) for t = 1 .. steps, for one sequence of batch by one block: waa (n, n), a0 (batch, n), px and a
// (steps * batch, n). waa and two states stay in shared memory, (n | 1) * n + 2 * n entries, for all steps.
__global__ void __launch_bounds__(THREADS) recurrence_forward(
    const F *px, const F *waa, const F *a0, F *a, unsigned steps, unsigned batch, unsigned n
) {
    F *shared_waa = (F *)shared_memory;
    const unsigned pitch = load_waa(waa, shared_waa, n);
    F *before = shared_waa + (size_t)pitch * n, *now = before + n;
    const size_t sequence = blockIdx.x;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) before[i] = a0[sequence * n + i];
    __syncthreads();
    for (unsigned t = 0; t < steps; t++) {
        const size_t row = ((size_t)t * batch + sequence) * n;
        for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
            now[i] = tanh(px[row + i] + dot(shared_waa + i * pitch, 1, before, n));
            a[row + i] = now[i];
        }
        // The state before the last one is read no more after this.
        __syncthreads();
        F *other = before;
        before = now;
        now = other;
    }
}

// The way back of recurrence_forward: from da, the gradient of all states, dpx_t = (1 - a_t^2) (da_t + waa^T dpx_{t+1}) for
// t = steps .. 1, and da0 = waa^T dpx_1. The memory and the blocks are those of the way forward.
__global__ void __launch_bounds__(THREADS) recurrence_backward(
    const F *waa, const F *a, const F *da, F *dpx, F *da0, unsigned steps, unsigned batch, unsigned n
) {
    F *shared_waa = (F *)shared_memory;
    const unsigned pitch = load_waa(waa, shared_waa, n);
    F *after = shared_waa + (size_t)pitch * n, *now = after + n;
    const size_t sequence = blockIdx.x;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) after[i] = 0;
    __syncthreads();
    for (unsigned t = steps; t-- > 0;) {
        const size_t row = ((size_t)t * batch + sequence) * n;
        for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
            now[i] = (1 - a[row + i] * a[row + i]) * (da[row + i] + dot(shared_waa + i, pitch, after, n));
            dpx[row + i] = now[i];
        }
        __syncthreads();
        F *other = after;
        after = now;
        now = other;
    }
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) da0[sequence * n + i] = dot(shared_waa + i, pitch, after, n);
}

// a = tanh(a + h), count entries: the end of a step whose product, h, a library has made.
__global__ void __launch_bounds__(THREADS) add_tanh(F *a, const F *h, size_t count) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) a[k] = tanh(a[k] + h[k]);
}

// d = (d + h) (1 - a^2), count entries: the same on the way back.
__global__ void __launch_bounds__(THREADS) add_times_slope(F *d, const F *h, const F *a, size_t count) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) d[k] = (d[k] + h[k]) * (1 - a[k] * a[k]);
}

// The sum of what the threads of a block bring, in partial (blockDim.x, a power of two); every thread gets it.
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

// The largest, likewise.
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

// losses_r = -ln softmax(z_r)[y_r] and dz_r = softmax(z_r) - one-hot(y_r), both zero where y_r is NONE: z and dz (rows, v), y and
// losses (rows). A block a row, blockDim.x (a power of two) entries of shared memory.
__global__ void __launch_bounds__(THREADS) cross_entropy(const F *z, const unsigned *y, F *dz, F *losses, size_t rows, unsigned v) {
    F *partial = (F *)shared_memory;
    for (size_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const F *z_r = z + r * v;
        F *dz_r = dz + r * v;
        const unsigned target = y[r];
        F largest = z_r[0];
        for (unsigned c = threadIdx.x; c < v; c += blockDim.x) largest = z_r[c] > largest ? z_r[c] : largest;
        largest = max_of_block(largest, partial);
        F sum = 0;
        for (unsigned c = threadIdx.x; c < v; c += blockDim.x) sum += exp(z_r[c] - largest);
        sum = sum_of_block(sum, partial);
        for (unsigned c = threadIdx.x; c < v; c += blockDim.x) {
            dz_r[c] = target < v ? exp(z_r[c] - largest) / sum - (c == target) : 0;
        }
        if (threadIdx.x == 0) losses[r] = target < v ? log(sum) - (z_r[target] - largest) : 0;
    }
}

// The sum of count values, added in double precision, by one block: blockDim.x (a power of two) doubles of shared memory.
__global__ void __launch_bounds__(THREADS) sum(const F *values, F *total, size_t count) {
    double sum = 0;
    for (size_t k = threadIdx.x; k < count; k += blockDim.x) sum += values[k];
    shared_memory[threadIdx.x] = sum;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) shared_memory[threadIdx.x] += shared_memory[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *total = shared_memory[0];
}

// w -= rate * clamp(g, -clip, clip), count entries. A NaN is not clamped: it reaches w.
__global__ void __launch_bounds__(THREADS) clipped_descent(F *w, const F *g, F rate, F clip, size_t count) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) {
        const F clamped = g[k] > clip ? clip : g[k] < -clip ? -clip : g[k];
        w[k] -= rate * clamped;
    }
}

// AdamW's running means: with c = clamp(g, -clip, clip), m += fresh_1 (c - m) and v += fresh_2 (c^2 - v). moments are m and then v,
// count entries each.
__global__ void __launch_bounds__(THREADS) adamw_moments(F *moments, const F *g, F clip, F fresh_1, F fresh_2, size_t count) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) {
        const F clamped = g[k] > clip ? clip : g[k] < -clip ? -clip : g[k];
        F *m = moments + k, *v = moments + count + k;
        *m += fresh_1 * (clamped - *m);
        *v += fresh_2 * (clamped * clamped - *v);
    }
}

// AdamW's step: w = keep w - rate m / (sqrt(v) correction + epsilon), count entries; moments as above.
__global__ void __launch_bounds__(THREADS) adamw_descent(F *w, const F *moments, F keep, F rate, F correction, F epsilon, size_t count) {
    for (size_t k = thread_of_grid(); k < count; k += threads_of_grid()) {
        w[k] = w[k] * keep - rate * moments[k] / (sqrt(moments[count + k]) * correction + epsilon);
    }
}

// Backpropagation through time for one sequence, from indices to gradients, by one block: a training step of a small network
// is bound by the number of launches, and this is one. The equations are those of crate::bptt.
//
// x and y (steps), wax (n, v), waa (n, n), wya (v, n), b and a0 (n), by (v). In out, one after another: the gradients of wax,
// waa, wya, b and by; the gradient of a0; the last state; the loss. work takes steps * (2 * n + v + 1) entries. Shared memory is that of
// recurrence_forward.
__global__ void __launch_bounds__(MOST_THREADS) bptt_of_one(
    const unsigned *x, const unsigned *y, const F *wax, const F *waa, const F *wya, const F *b, const F *by, const F *a0,
    F *out, F *work, unsigned steps, unsigned n, unsigned v
) {
    const unsigned first = threadIdx.x, stride = blockDim.x;
    F *dwax = out, *dwaa = dwax + (size_t)n * v, *dwya = dwaa + (size_t)n * n, *db = dwya + (size_t)v * n, *dby = db + n;
    F *da0 = dby + v, *last = da0 + n, *loss = last + n;
    F *a = work, *dp = a + (size_t)steps * n, *dz = dp + (size_t)steps * n, *sums = dz + (size_t)steps * v;
    F *shared_waa = (F *)shared_memory;
    const unsigned pitch = load_waa(waa, shared_waa, n);
    F *one = shared_waa + (size_t)pitch * n, *other = one + n;

    // Forward: all states, ...
    for (unsigned i = first; i < n; i += stride) one[i] = a0[i];
    __syncthreads();
    for (unsigned t = 0; t < steps; t++) {
        const F *before = t % 2 ? other : one;
        F *now = t % 2 ? one : other;
        for (unsigned i = first; i < n; i += stride) {
            const F from_input = x[t] < v ? wax[(size_t)i * v + x[t]] + b[i] : b[i];
            now[i] = tanh(from_input + dot(shared_waa + i * pitch, 1, before, n));
            a[(size_t)t * n + i] = now[i];
        }
        __syncthreads();
    }
    // ... all logits, for now in the place of dz, ...
    for (unsigned k = first; k < steps * v; k += stride) {
        const unsigned t = k / v, c = k % v;
        dz[k] = by[c] + dot(wya + (size_t)c * n, 1, a + (size_t)t * n, n);
    }
    __syncthreads();
    // ... the softmax but for its denominator, a thread a step, and the losses, for now in the place of dp.
    for (unsigned t = first; t < steps; t += stride) {
        F *z = dz + (size_t)t * v, largest = z[0], sum = 0;
        for (unsigned c = 1; c < v; c++) largest = z[c] > largest ? z[c] : largest;
        const F at_target = y[t] < v ? z[y[t]] - largest : 0;
        for (unsigned c = 0; c < v; c++) sum += z[c] = exp(z[c] - largest);
        sums[t] = sum;
        dp[t] = y[t] < v ? log(sum) - at_target : 0;
    }
    __syncthreads();
    if (first == 0) {
        F sum = 0;
        for (unsigned t = 0; t < steps; t++) sum += dp[t];
        *loss = sum;
    }
    // Backward: through the output, ...
    for (unsigned k = first; k < steps * v; k += stride) {
        const unsigned t = k / v, c = k % v;
        dz[k] = y[t] < v ? dz[k] / sums[t] - (c == y[t]) : 0;
    }
    __syncthreads();
    for (unsigned k = first; k < steps * n; k += stride) {
        const unsigned t = k / n, i = k % n;
        dp[k] = dot(wya + i, n, dz + (size_t)t * v, v);
    }
    for (unsigned i = first; i < n; i += stride) one[i] = 0;
    __syncthreads();
    // ... through time, ...
    for (unsigned t = steps; t-- > 0;) {
        const F *after = (steps - t) % 2 ? one : other;
        F *now = (steps - t) % 2 ? other : one;
        for (unsigned i = first; i < n; i += stride) {
            const size_t k = (size_t)t * n + i;
            now[i] = (1 - a[k] * a[k]) * (dp[k] + dot(shared_waa + i, pitch, after, n));
            dp[k] = now[i];
        }
        __syncthreads();
    }
    const F *final = steps % 2 ? other : one;
    for (unsigned i = first; i < n; i += stride) {
        da0[i] = dot(shared_waa + i, pitch, final, n);
        last[i] = a[(size_t)(steps - 1) * n + i];
    }
    // ... and to the parameters.
    for (unsigned k = first; k < n * n; k += stride) {
        const unsigned i = k / n, j = k % n;
        F sum = dp[i] * a0[j];
        for (unsigned t = 1; t < steps; t++) sum += dp[(size_t)t * n + i] * a[(size_t)(t - 1) * n + j];
        dwaa[k] = sum;
    }
    for (unsigned k = first; k < v * n; k += stride) {
        const unsigned c = k / n, i = k % n;
        F sum = 0;
        for (unsigned t = 0; t < steps; t++) sum += dz[(size_t)t * v + c] * a[(size_t)t * n + i];
        dwya[k] = sum;
    }
    for (unsigned k = first; k < n * v; k += stride) {
        const unsigned i = k / v, c = k % v;
        F sum = 0;
        for (unsigned t = 0; t < steps; t++) sum += x[t] == c ? dp[(size_t)t * n + i] : 0;
        dwax[k] = sum;
    }
    for (unsigned i = first; i < n; i += stride) {
        F sum = 0;
        for (unsigned t = 0; t < steps; t++) sum += dp[(size_t)t * n + i];
        db[i] = sum;
    }
    for (unsigned c = first; c < v; c += stride) {
        F sum = 0;
        for (unsigned t = 0; t < steps; t++) sum += dz[(size_t)t * v + c];
        dby[c] = sum;
    }
}

#ifdef __cplusplus
}
#endif
