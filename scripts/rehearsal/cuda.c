/* A CUDA without a GPU: preloaded, it stands before the CUDA libraries of PyTorch's CUDA build (13.0, torch 2.11).
 *
 * Memory is counted, and refused beyond REHEARSED_GIB; streams are captured under CUDA's rules, and what a capture
 * forbids fails; kernels, matrix products and convolutions are accepted and never run. What is copied to the device does
 * not arrive. What is copied from it is made of bytes 1: true, or a tiny positive number, so that no update looks bad.
 *
 * Functions are declared without their types' prototypes: the names are all that the loader looks at.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <driver_types.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FINE = 0, NO_MEMORY = 2, FORBIDDEN = 900, SPOILT = 901 };
enum { TO_DEVICE = 1, FROM_DEVICE = 2 };
enum { RELAXED = 2 };

#define ACCEPTED(name) int name() { return FINE; }
#define MADE(name) int name(void **made) { *made = handle(); return FINE; }

static __thread int last_error, relaxed;
static void *capturing; /* the stream */
static int spoilt;

static void *handle(void) {
  static size_t count = 4096;
  return (void *)__sync_add_and_fetch(&count, 64);
}

static int failing(int error) { return last_error = error; }

static int forbidden(const char *what) {
  if (!capturing || relaxed) return FINE;
  fprintf(stderr, "rehearsal: %s during a capture\n", what);
  spoilt = 1;
  return failing(FORBIDDEN);
}

#define ALLOWED_OUTSIDE_CAPTURES(name) int name() { return forbidden(#name); }

int cudaGetLastError(void) {
  int error = last_error;
  last_error = FINE;
  return error;
}
int cudaPeekAtLastError(void) { return last_error; }

/* The device: an H100, or of REHEARSED_CAPABILITY (70: a V100). */

static int capability(void) {
  const char *given = getenv("REHEARSED_CAPABILITY");
  return given ? atoi(given) : 90;
}

static size_t total(void) {
  const char *given = getenv("REHEARSED_GIB");
  return (size_t)((given ? atof(given) : 79.0) * (1 << 30));
}

static int attribute(int which) {
  switch (which) {
    case 1: case 2: case 3: return 1024;  /* threads of a block, along x, along y */
    case 4: return 64;                    /* along z */
    case 5: return 2147483647;            /* blocks along x */
    case 6: case 7: return 65535;         /* along y, z */
    case 8: return 49152;                 /* shared memory of a block */
    case 10: return 32;                   /* threads of a warp */
    case 12: case 82: return 65536;       /* registers of a block, of a multiprocessor */
    case 13: return 1755000;              /* clock, kHz */
    case 16: return 132;                  /* multiprocessors */
    case 36: return 2619000;              /* memory's clock */
    case 37: return 5120;                 /* width of its bus */
    case 38: return 50 << 20;             /* L2 cache */
    case 39: return 2048;                 /* threads of a multiprocessor */
    case 75: return capability() / 10;
    case 76: return capability() % 10;
    case 81: return 233472;               /* shared memory of a multiprocessor */
    case 97: return 232448;               /* of a block that asks for it */
    case 106: return 32;                  /* blocks of a multiprocessor */
    default: return 0;
  }
}

int cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
  memset(found, 0, sizeof *found);
  strcpy(found->name, "rehearsed GPU");
  found->totalGlobalMem = total();
  found->sharedMemPerBlock = attribute(8);
  found->sharedMemPerBlockOptin = attribute(97);
  found->sharedMemPerMultiprocessor = attribute(81);
  found->regsPerBlock = found->regsPerMultiprocessor = attribute(12);
  found->warpSize = attribute(10);
  found->maxThreadsPerBlock = attribute(1);
  found->maxThreadsPerMultiProcessor = attribute(39);
  found->maxBlocksPerMultiProcessor = attribute(106);
  for (int i = 0; i < 3; i++) {
    found->maxThreadsDim[i] = attribute(2 + i);
    found->maxGridSize[i] = attribute(5 + i);
  }
  found->major = attribute(75);
  found->minor = attribute(76);
  found->multiProcessorCount = attribute(16);
  found->l2CacheSize = attribute(38);
  found->memoryBusWidth = attribute(37);
  found->unifiedAddressing = found->concurrentKernels = 1;
  return FINE;
}

int cudaGetDeviceCount(int *count) { *count = 1; return FINE; }
int cudaGetDevice(int *device) { *device = 0; return FINE; }
int cudaDriverGetVersion(int *version) { *version = 13000; return FINE; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return FINE; }
int cudaDeviceGetAttribute(int *value, int which) { *value = attribute(which); return FINE; }
int cudaDeviceCanAccessPeer(int *can) { *can = 0; return FINE; }
int cudaDeviceGetPCIBusId(char *id, int size) { snprintf(id, size, "0000:00:04.0"); return FINE; }
int cudaDeviceGetStreamPriorityRange(int *least, int *most) { *least = 0; *most = -5; return FINE; }
ACCEPTED(cudaSetDevice) ACCEPTED(cudaDeviceEnablePeerAccess) ACCEPTED(cudaProfilerStart) ACCEPTED(cudaProfilerStop)

/* Memory */

static struct { char *start; size_t size; int host; } taken[1 << 18];
static int takings;
static size_t used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int take(void **found, size_t size, int host) {
  pthread_mutex_lock(&lock);
  int fits = host || used + size <= total(), i = 0;
  if (fits) {
    *found = mmap(0, size ? size : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    while (i < takings && taken[i].start) i++;
    if (i == takings) takings++;
    taken[i].start = *found;
    taken[i].size = size;
    taken[i].host = host;
    if (!host) used += size;
  }
  pthread_mutex_unlock(&lock);
  return fits ? FINE : failing(NO_MEMORY);
}

static int give(void *start) {
  pthread_mutex_lock(&lock);
  for (int i = 0; start && i < takings; i++)
    if (taken[i].start == start) {
      munmap(start, taken[i].size ? taken[i].size : 1);
      if (!taken[i].host) used -= taken[i].size;
      taken[i].start = 0;
      break;
    }
  pthread_mutex_unlock(&lock);
  return FINE;
}

int cudaMalloc(void **found, size_t size) { return forbidden("cudaMalloc") ?: take(found, size, 0); }
int cudaHostAlloc(void **found, size_t size) { return forbidden("cudaHostAlloc") ?: take(found, size, 1); }
int cudaFree(void *start) { return forbidden("cudaFree") ?: give(start); }
int cudaFreeHost(void *start) { return give(start); }
ACCEPTED(cudaHostRegister) ACCEPTED(cudaHostUnregister)

int cudaMemGetInfo(size_t *free, size_t *all) {
  *all = total();
  *free = *all - used;
  return FINE;
}

int cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *pointer) {
  memset(found, 0, sizeof *found);
  found->type = cudaMemoryTypeUnregistered;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < takings; i++)
    if (taken[i].start && (char *)pointer >= taken[i].start && (char *)pointer < taken[i].start + taken[i].size) {
      found->type = taken[i].host ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
      found->devicePointer = (void *)pointer;
      found->hostPointer = taken[i].host ? (void *)pointer : 0;
    }
  pthread_mutex_unlock(&lock);
  return FINE;
}

static int copy(void *to, size_t size, int direction) {
  if (direction == FROM_DEVICE) memset(to, 1, size);
  return FINE;
}
int cudaMemcpy(void *to, const void *from, size_t size, int direction) {
  return forbidden("cudaMemcpy") ?: copy(to, size, direction);
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int direction) {
  int crosses = direction == TO_DEVICE || direction == FROM_DEVICE; /* a graph would read the host's memory again */
  return (crosses ? forbidden("a copy between host and device") : FINE) ?: copy(to, size, direction);
}
int cudaMemcpy2DAsync(char *to, size_t pitch, const char *from, size_t other, size_t width, size_t rows, int direction) {
  for (size_t i = 0; i < rows; i++) cudaMemcpyAsync(to + i * pitch, from + i * other, width, direction);
  return FINE;
}
ACCEPTED(cudaMemcpyToSymbol) ACCEPTED(cudaMemset) ACCEPTED(cudaMemsetAsync)

/* Streams, events, captures */

MADE(cudaStreamCreate) MADE(cudaStreamCreateWithPriority) MADE(cudaEventCreate) MADE(cudaEventCreateWithFlags)
ACCEPTED(cudaStreamDestroy) ACCEPTED(cudaStreamWaitEvent) ACCEPTED(cudaEventDestroy) ACCEPTED(cudaEventRecord)
ACCEPTED(cudaEventRecordWithFlags) ACCEPTED(cudaLaunchHostFunc) ACCEPTED(cudaStreamAddCallback)
ALLOWED_OUTSIDE_CAPTURES(cudaDeviceSynchronize) ALLOWED_OUTSIDE_CAPTURES(cudaStreamSynchronize)
ALLOWED_OUTSIDE_CAPTURES(cudaStreamQuery) ALLOWED_OUTSIDE_CAPTURES(cudaEventQuery)
ALLOWED_OUTSIDE_CAPTURES(cudaEventSynchronize)
int cudaEventElapsedTime(float *milliseconds) { *milliseconds = 1; return FINE; }
int cudaStreamGetPriority(void *stream, int *priority) { *priority = 0; return FINE; }

int cudaThreadExchangeStreamCaptureMode(int *mode) {
  int before = relaxed ? RELAXED : 0;
  relaxed = *mode == RELAXED;
  *mode = before;
  return FINE;
}
int cudaStreamIsCapturing(void *stream, int *status) {
  *status = capturing && stream == capturing;
  return FINE;
}
int cudaStreamGetCaptureInfo(void *stream, int *status, unsigned long long *id) {
  cudaStreamIsCapturing(stream, status);
  if (id) *id = *status;
  return FINE;
}
int cudaStreamBeginCapture(void *stream, int mode) {
  if (capturing) return failing(FORBIDDEN);
  capturing = stream;
  spoilt = 0;
  return FINE;
}
int cudaStreamEndCapture(void *stream, void **graph) {
  capturing = 0;
  *graph = handle();
  return spoilt ? failing(SPOILT) : FINE;
}
MADE(cudaGraphInstantiate) MADE(cudaGraphInstantiateWithFlags)
ACCEPTED(cudaGraphLaunch) ACCEPTED(cudaGraphDestroy) ACCEPTED(cudaGraphExecDestroy)
int cudaGraphGetNodes(void *graph, void *nodes, size_t *count) { *count = 1; return FINE; }

/* Kernels */

ACCEPTED(__cudaLaunchKernel) ACCEPTED(cudaLaunchKernel) ACCEPTED(cudaLaunchKernelExC) ACCEPTED(cudaFuncSetAttribute)
MADE(__cudaGetKernel)
int cudaFuncGetAttributes(struct cudaFuncAttributes *found) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = attribute(1);
  found->numRegs = 32;
  found->binaryVersion = found->ptxVersion = capability();
  return FINE;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks) { *blocks = 2; return FINE; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks) { *blocks = 2; return FINE; }
int cudaGetSymbolAddress(void **found) { return take(found, 4096, 1); }

/* The driver, which Triton asks */

static ACCEPTED(whatever)
int cudaGetDriverEntryPointByVersion(const char *name, void **found, unsigned version, unsigned long long flags, int *how) {
  *found = dlsym(RTLD_DEFAULT, name) ?: (void *)whatever;
  if (how) *how = FINE;
  return FINE;
}
int cuGetErrorString(int error, const char **words) { *words = "rehearsed"; return FINE; }
int cuDriverGetVersion(int *version) { return cudaDriverGetVersion(version); }
int cuDeviceGetCount(int *count) { return cudaGetDeviceCount(count); }
int cuDeviceGet(int *device) { return cudaGetDevice(device); }
int cuDeviceGetAttribute(int *value, int which) { return cudaDeviceGetAttribute(value, which); }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return FINE; }
int cuCtxGetLimit(size_t *limit) { *limit = 1024; return FINE; }
int cuFuncGetAttribute(int *value, int which) { *value = which == 0 ? attribute(1) : which == 4 ? 32 : 0; return FINE; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks) { *blocks = 2; return FINE; }
int cuOccupancyMaxActiveClusters(int *clusters) { *clusters = 2; return FINE; }
int cuPointerGetAttribute(size_t *value, int which, size_t pointer) { *value = pointer; return FINE; }
MADE(cuCtxGetCurrent) MADE(cuDevicePrimaryCtxRetain) MADE(cuModuleLoad) MADE(cuModuleLoadData)
MADE(cuModuleLoadDataEx) MADE(cuModuleGetFunction)
ACCEPTED(cuInit) ACCEPTED(cuCtxSetCurrent) ACCEPTED(cuCtxSetLimit) ACCEPTED(cuModuleUnload) ACCEPTED(cuFuncSetAttribute)
ACCEPTED(cuFuncSetCacheConfig) ACCEPTED(cuLaunchKernel) ACCEPTED(cuLaunchKernelEx) ACCEPTED(cuTensorMapEncodeTiled)
ACCEPTED(cuLaunchCooperativeKernel)

/* cuBLAS */

MADE(cublasCreate_v2) MADE(cublasLtCreate) MADE(cublasLtMatmulDescCreate) MADE(cublasLtMatrixLayoutCreate)
MADE(cublasLtMatmulPreferenceCreate)
int cublasGetMathMode(void *of, int *mode) { *mode = 0; return FINE; }
int cublasGetPointerMode_v2(void *of, int *mode) { *mode = 0; return FINE; }
int cublasLtMatmulAlgoGetHeuristic(
    void *of, void *operation, void *a, void *b, void *c, void *d, void *preference, int most, void *results, int *count) {
  memset(results, 0, 96);
  *count = 1;
  return FINE;
}
ACCEPTED(cublasDestroy_v2) ACCEPTED(cublasSetStream_v2) ACCEPTED(cublasSetWorkspace_v2) ACCEPTED(cublasSetMathMode)
ACCEPTED(cublasSetPointerMode_v2) ACCEPTED(cublasSgemm_v2) ACCEPTED(cublasDgemm_v2) ACCEPTED(cublasGemmEx)
ACCEPTED(cublasSgemmEx) ACCEPTED(cublasGemmStridedBatchedEx) ACCEPTED(cublasSgemmStridedBatched)
ACCEPTED(cublasDgemmStridedBatched) ACCEPTED(cublasSgemv_v2) ACCEPTED(cublasDgemv_v2) ACCEPTED(cublasSdot_v2)
ACCEPTED(cublasDdot_v2) ACCEPTED(cublasDotEx) ACCEPTED(cublasLtMatmul) ACCEPTED(cublasLtMatmulDescDestroy)
ACCEPTED(cublasLtMatmulDescSetAttribute) ACCEPTED(cublasLtMatmulPreferenceDestroy)
ACCEPTED(cublasLtMatmulPreferenceSetAttribute) ACCEPTED(cublasLtMatrixLayoutDestroy)
ACCEPTED(cublasLtMatrixLayoutSetAttribute)

/* cuDNN's older interface (TORCH_CUDNN_V8_API_DISABLED=1), which has no bf16: PyTorch has kernels of its own for that. */

enum { WORKSPACE = 16 << 20 };

struct algorithm { int number, status; float time; size_t memory; int deterministic, math, reserved[3]; };

static int one(int most, int *count, struct algorithm *found) {
  if ((*count = most > 0)) *found = (struct algorithm){.number = 1, .time = 1, .memory = WORKSPACE, .deterministic = 1};
  return FINE;
}
#define CONVOLUTION(name, algorithms, workspace)                                                                  \
  ACCEPTED(name)                                                                                                  \
  int algorithms(void *of, void *a, void *b, void *c, void *d, int most, int *count, struct algorithm *found) {   \
    return one(most, count, found);                                                                               \
  }                                                                                                               \
  int workspace(void *of, void *a, void *b, void *c, void *d, int which, size_t *size) {                          \
    *size = WORKSPACE;                                                                                            \
    return FINE;                                                                                                  \
  }
CONVOLUTION(cudnnConvolutionForward, cudnnGetConvolutionForwardAlgorithm_v7, cudnnGetConvolutionForwardWorkspaceSize)
CONVOLUTION(
    cudnnConvolutionBackwardData, cudnnGetConvolutionBackwardDataAlgorithm_v7,
    cudnnGetConvolutionBackwardDataWorkspaceSize)
CONVOLUTION(
    cudnnConvolutionBackwardFilter, cudnnGetConvolutionBackwardFilterAlgorithm_v7,
    cudnnGetConvolutionBackwardFilterWorkspaceSize)
#define DESCRIPTOR(kind, set)                                                                                     \
  int cudnnCreate##kind##Descriptor(void **made) { *made = calloc(1, 256); return FINE; }                         \
  int cudnnDestroy##kind##Descriptor(void *made) { free(made); return FINE; }                                     \
  ACCEPTED(set)
DESCRIPTOR(Tensor, cudnnSetTensorNdDescriptor) DESCRIPTOR(Filter, cudnnSetFilterNdDescriptor)
DESCRIPTOR(Convolution, cudnnSetConvolutionNdDescriptor) DESCRIPTOR(Activation, cudnnSetActivationDescriptor)
MADE(cudnnCreate) ACCEPTED(cudnnSetStream) ACCEPTED(cudnnSetConvolutionGroupCount) ACCEPTED(cudnnSetConvolutionMathType)
