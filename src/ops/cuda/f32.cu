// The kernels in single precision.
#define F float
#include "kernels.cuh"
