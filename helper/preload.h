/*
 * The functions that libtm-preload.so stands in for, and how each hands over
 * its block: once, for the stubs in assembler and for their struct tm_patch.
 *
 * May use: nothing; read by the assembler's preprocessor too.
 */
#ifndef TM_PRELOAD_H
#define TM_PRELOAD_H

/* STUB(name, shape, size argument, count argument, block argument) */
#define TM_PRELOAD_C(STUB)                            \
	STUB(malloc, ALLOC, 0, NONE, NONE)            \
	STUB(calloc, ALLOC, 1, 0, NONE)               \
	STUB(realloc, REALLOC, 1, NONE, 0)            \
	STUB(reallocarray, REALLOC, 2, 1, 0)          \
	STUB(aligned_alloc, ALLOC, 1, NONE, NONE)     \
	STUB(memalign, ALLOC, 1, NONE, NONE)          \
	STUB(posix_memalign, STORE, 2, NONE, 0)       \
	STUB(valloc, ALLOC, 0, NONE, NONE)            \
	STUB(pvalloc, ALLOC, 0, NONE, NONE)           \
	STUB(free, FREE, NONE, NONE, 0)               \
	STUB(cfree, FREE, NONE, NONE, 0)              \
	STUB(free_sized, FREE, NONE, NONE, 0)         \
	STUB(free_aligned_sized, FREE, NONE, NONE, 0) \
	/* The loader's list of objects changes. */   \
	STUB(dlopen, LOADER, NONE, NONE, NONE)        \
	STUB(dlmopen, LOADER, NONE, NONE, NONE)       \
	STUB(dlclose, LOADER, NONE, NONE, NONE)

/* Operator new and delete (Itanium C++ ABI, 5.1.5 mangled names; C++17 aligned). */
#define TM_PRELOAD_CXX(STUB)                                           \
	STUB(_Znwm, ALLOC, 0, NONE, NONE)                              \
	STUB(_Znam, ALLOC, 0, NONE, NONE)                              \
	STUB(_ZnwmRKSt9nothrow_t, ALLOC, 0, NONE, NONE)                \
	STUB(_ZnamRKSt9nothrow_t, ALLOC, 0, NONE, NONE)                \
	STUB(_ZnwmSt11align_val_t, ALLOC, 0, NONE, NONE)               \
	STUB(_ZnamSt11align_val_t, ALLOC, 0, NONE, NONE)               \
	STUB(_ZnwmSt11align_val_tRKSt9nothrow_t, ALLOC, 0, NONE, NONE) \
	STUB(_ZnamSt11align_val_tRKSt9nothrow_t, ALLOC, 0, NONE, NONE) \
	STUB(_ZdlPv, FREE, NONE, NONE, 0)                              \
	STUB(_ZdaPv, FREE, NONE, NONE, 0)                              \
	STUB(_ZdlPvm, FREE, NONE, NONE, 0)                             \
	STUB(_ZdaPvm, FREE, NONE, NONE, 0)                             \
	STUB(_ZdlPvRKSt9nothrow_t, FREE, NONE, NONE, 0)                \
	STUB(_ZdaPvRKSt9nothrow_t, FREE, NONE, NONE, 0)                \
	STUB(_ZdlPvSt11align_val_t, FREE, NONE, NONE, 0)               \
	STUB(_ZdaPvSt11align_val_t, FREE, NONE, NONE, 0)               \
	STUB(_ZdlPvmSt11align_val_t, FREE, NONE, NONE, 0)              \
	STUB(_ZdaPvmSt11align_val_t, FREE, NONE, NONE, 0)              \
	STUB(_ZdlPvSt11align_val_tRKSt9nothrow_t, FREE, NONE, NONE, 0) \
	STUB(_ZdaPvSt11align_val_tRKSt9nothrow_t, FREE, NONE, NONE, 0)

#define TM_PRELOAD_FUNCTIONS(STUB) TM_PRELOAD_C(STUB) TM_PRELOAD_CXX(STUB)

/* Of struct tm_patch; preload.c checks them. */
#define TM_PRELOAD_PATCH_SIZE 192
#define TM_PRELOAD_RELAY 16
#define TM_PRELOAD_ORIGINAL 24
#define TM_PRELOAD_ENTRY 152
#define TM_PRELOAD_FILTER 184
#define TM_PRELOAD_LOAD 8
#define TM_PRELOAD_STUB 128
#define TM_PRELOAD_LEFT 0x38

#endif
