/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine can do: fused multiply-adds on the path that the kernels take, and a stream through memory. */
#ifndef SK_BENCH_PEAK_H
#define SK_BENCH_PEAK_H

/* Both with `threads` threads at once, best of some tries. path: name of the table of kernels. */
double bench_peak_gflops(const char *path, int threads);
double bench_peak_stream(int threads); /* GB/s of a[i] = b[i] + s*c[i], three arrays of 64 MB each; 0: no memory */
#endif
