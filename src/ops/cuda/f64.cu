// The kernels in double precision.
#define F double
#include "kernels.cuh"
