/*
 * Planning the redirection of one function: a 5-byte jump over its first
 * instructions, and the same instructions relocated so that they run
 * elsewhere.  Plans only: nothing is written, so that every refusal comes
 * before the process is touched.
 *
 * May use: Zydis, tm_layout.h, error.h.  Must not use: Python, gdb.
 */
#ifndef TM_PLAN_H
#define TM_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "tm_layout.h"

#define TM_JUMP_BYTES 5u

/*
 * Room for the relocated instructions: at most TM_JUMP_BYTES of them, each of
 * up to 16 bytes (a conditional branch to a far place), and the jump back.
 */
#define TM_RELOCATED_BYTES 96u

struct tm_plan_request {
	const uint8_t *code;  /* from the function's entry */
	size_t code_size;     /* bytes; the whole function where possible */
	uint64_t function;    /* address of the entry */
	uint64_t size;        /* of the function's symbol; 0: unknown */
	uint64_t original_at; /* where the relocated instructions will be */
	uint64_t relay_at;    /* where the jump must lead */
};

/* An instruction's place among the patched bytes, and among the relocated ones. */
struct tm_plan_point {
	uint8_t from;
	uint8_t to;
};

/*
 * TM_JUMP_BYTES <= length <= TM_PATCH_BYTES
 * point_count <= TM_PATCH_POINTS; points ascend
 */
struct tm_plan {
	uint32_t offset;                 /* of the patch from the function: behind an endbr64 */
	uint32_t length;                 /* bytes patched: whole instructions */
	uint8_t written[TM_PATCH_BYTES]; /* the jump, then no-operations */
	uint8_t relocated[TM_RELOCATED_BYTES];
	uint32_t relocated_length;
	struct tm_plan_point points[TM_PATCH_POINTS];
	uint32_t point_count;
	bool moves_call; /* which a process with a hardware shadow stack does not survive */
};

struct tm_error *tm_plan_patch(const struct tm_plan_request *request, struct tm_plan *ret)
	__attribute__((warn_unused_result));

#endif
