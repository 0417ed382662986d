// The part of cuBLAS and cuRAND that candle calls, for driver.c's GPU: matrix products, written out, column by column as cuBLAS has
// them; and random generators that are made but never asked.

#include <stddef.h>

int cublasCreate_v2(void **handle) { return *handle = handle, 0; }
int cublasDestroy_v2(void *handle) { return (void)handle, 0; }
int cublasSetStream_v2(void *handle, void *stream) { return (void)handle, (void)stream, 0; }

#define PRODUCT(name, F) \
    static void name( \
        int ta, int tb, int m, int n, int k, const F *alpha, const F *a, int lda, const F *b, int ldb, const F *beta, F *c, int ldc \
    ) { \
        for (size_t j = 0; j < (size_t)n; j++) { \
            for (size_t i = 0; i < (size_t)m; i++) { \
                F sum = 0; \
                for (size_t l = 0; l < (size_t)k; l++) { \
                    sum += (ta ? a[l + i * lda] : a[i + l * lda]) * (tb ? b[j + l * ldb] : b[l + j * ldb]); \
                } \
                F *entry = c + i + j * ldc; \
                *entry = *beta == 0 ? *alpha * sum : *alpha * sum + *beta * *entry; \
            } \
        } \
    }
PRODUCT(single_product, float)
PRODUCT(double_product, double)

int cublasDgemmStridedBatched(
    void *handle, int ta, int tb, int m, int n, int k, const double *alpha, const double *a, int lda, long long stride_a,
    const double *b, int ldb, long long stride_b, const double *beta, double *c, int ldc, long long stride_c, int batch
) {
    (void)handle;
    for (int i = 0; i < batch; i++) {
        double_product(ta, tb, m, n, k, alpha, a + i * stride_a, lda, b + i * stride_b, ldb, beta, c + i * stride_c, ldc);
    }
    return 0;
}

int cublasGemmStridedBatchedEx(
    void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda, long long stride_a,
    const void *b, int type_b, int ldb, long long stride_b, const void *beta, void *c, int type_c, int ldc, long long stride_c,
    int batch, int compute, int algorithm
) {
    (void)handle, (void)algorithm;
    // CUDA_R_32F, and CUBLAS_COMPUTE_32F: not TF32.
    if (type_a != 0 || type_b != 0 || type_c != 0 || compute != 68) return 15;
    for (int i = 0; i < batch; i++) {
        single_product(ta, tb, m, n, k, alpha, (const float *)a + i * stride_a, lda, (const float *)b + i * stride_b, ldb, beta,
                       (float *)c + i * stride_c, ldc);
    }
    return 0;
}

int curandCreateGenerator(void **generator, int kind) { return (void)kind, *generator = generator, 0; }
int curandDestroyGenerator(void *generator) { return (void)generator, 0; }
int curandSetPseudoRandomGeneratorSeed(void *generator, unsigned long long seed) { return (void)generator, (void)seed, 0; }
int curandSetStream(void *generator, void *stream) { return (void)generator, (void)stream, 0; }
// These are named by candle and used by nothing of ours.
int curandGenerateNormal(void) { return 1; }
int curandGenerateNormalDouble(void) { return 1; }
int curandGenerateUniform(void) { return 1; }
int curandGenerateUniformDouble(void) { return 1; }
