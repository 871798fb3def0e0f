/*
 * The patch planner: every kind of instruction that can be moved is moved and
 * run, and every refusal is named.
 *
 * links: gdb-plugin/native/plan.c gdb-plugin/native/error.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "plan.h"

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))

/* ---- functions that are moved, patched and run ------------------------ */

/* A function complete in itself, so that a copy of it runs anywhere. */
#define BLOB(name, body)                                                                      \
	extern const uint8_t blob_##name[], blob_##name##_end[];                              \
	__asm__(".pushsection .text\n.p2align 4\n.globl blob_" #name ", blob_" #name "_end\n" \
		"blob_" #name ":\n" body "\nblob_" #name "_end:\n.popsection\n")

BLOB(plain, "push %rbx; mov %rdi, %rbx; sub $16, %rsp; lea 3(%rbx), %rax; add $16, %rsp;"
	    "pop %rbx; ret");
BLOB(endbr, "endbr64; push %rbx; mov %rdi, %rbx; lea 4(%rbx), %rax; nop; pop %rbx; ret");
BLOB(load, "mov 1f(%rip), %rax; add %rdi, %rax; ret; .p2align 3; 1: .quad 0x123456789abc");
BLOB(compare, "cmpl $2, 1f(%rip); sete %al; movzbl %al, %eax; add %rdi, %rax; ret;"
	      ".p2align 3; 1: .quad 2");
BLOB(address, "lea 1f(%rip), %rax; movzbl (%rax, %rdi), %eax; ret; 1: .fill 128, 1, 0x5a");
BLOB(vector, "push %rbx; movdqu 1f(%rip), %xmm0; movq %xmm0, %rax;"
	     "add %rdi, %rax; pop %rbx; ret; 1: .fill 4, 8, 77");
BLOB(jump_over, "jmp 1f; nop; nop; nop; nop; 1: lea 9(%rdi), %rax; ret");
BLOB(jump_within, "jmp 1f; nop; 1: lea 11(%rdi), %rax; ret");
BLOB(jump_back, "0: dec %edi; jne 0b; mov %edi, %eax; ret");
BLOB(tail, "jmp 1f; .fill 200, 1, 0xcc; 1: lea 13(%rdi), %rax; ret");
BLOB(tail_indirect, "jmp *2f(%rip); 1: lea 14(%rdi), %rax; ret;"
		    "2: .quad 1b - blob_tail_indirect");
BLOB(short_and_padding, "ret; .nops 15");
BLOB(endbr_and_padding, "endbr64; ret; int3; int3; int3; int3; int3");
BLOB(call, "sub $8, %rsp; call 1f; add $8, %rsp; ret; 1: mov (%rsp), %rax; add %rdi, %rax; ret");
BLOB(call_indirect, "push %rbx; call *2f(%rip); pop %rbx; ret;"
		    "1: mov (%rsp), %rax; add %rdi, %rax; ret; 2: .quad 1b - blob_call_indirect");
BLOB(call_first, "call 1f; pop %rdx; jmp *%rdx; 1: mov (%rsp), %rax; ret");
BLOB(loop_to_entry, "0: push %rbx; pop %rbx; lea -1(%rdi), %rdi; test %edi, %edi; jg 0b;"
		    "mov $21, %eax; ret");

struct blob {
	const char *rule;
	const uint8_t *code, *end;
	bool pointer;   /* its last 8 bytes are an offset that must become an address */
	bool near_only; /* has an operand that must stay in reach */
	uint32_t offset, points;
	uint64_t size; /* of its symbol; 0: all of it */
};

#define CODE(name) .code = blob_##name, .end = blob_##name##_end

static const struct blob blobs[] = {
	{"plain instructions are copied", CODE(plain), .points = 3},
	{"an endbr64 stays in place", CODE(endbr), .offset = 4, .points = 3},
	{"a load relative to the instruction is adjusted", CODE(load), .near_only = true,
	 .points = 1},
	{"an immediate behind the operand counts", CODE(compare), .near_only = true, .points = 1},
	{"a lea relative to the instruction is adjusted", CODE(address), .near_only = true,
	 .points = 1},
	{"a vector operand relative to the instruction is adjusted", CODE(vector),
	 .near_only = true, .points = 2},
	{"a short jump becomes a long one", CODE(jump_over), .points = 4},
	{"a jump among the patched bytes leads to the moved ones", CODE(jump_within), .points = 3},
	{"a jump back among the patched bytes too", CODE(jump_back), .points = 3},
	{"a long jump is adjusted", CODE(tail), .points = 1},
	{"an indirect jump is adjusted", CODE(tail_indirect), .pointer = true, .near_only = true,
	 .points = 1},
	{"a ret and padding are enough", CODE(short_and_padding), .points = 1, .size = 1},
	{"an endbr64, a ret and padding are enough", CODE(endbr_and_padding), .offset = 4,
	 .points = 1, .size = 5},
	{"a moved call pushes the return address it always had", CODE(call), .points = 2},
	{"a moved indirect call too", CODE(call_indirect), .pointer = true, .near_only = true,
	 .points = 2},
	{"a call can come first", CODE(call_first), .points = 1},
	{"a loop to the first byte passes the jump each time", CODE(loop_to_entry), .points = 3},
};

/* Three places: the function, one in reach of it, and one that is not. */
struct place {
	uint8_t *function, *near, *far;
	uint64_t *passes; /* counted by the relay */
};

#define PLACE_BYTES 4096u
#define FUNCTION_AT UINT64_C(0x200000000000)
#define NEAR_AT UINT64_C(0x200040000000)
#define FAR_AT UINT64_C(0x210000000000)

static uint8_t *map_at(uint64_t address)
{
	void *memory =
		mmap((void *)(uintptr_t)address, PLACE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_equal(memory, (void *)(uintptr_t)address);
	return memory;
}

static void place_init(struct place *place)
{
	place->function = map_at(FUNCTION_AT);
	place->near = map_at(NEAR_AT);
	place->far = map_at(FAR_AT);
	place->passes = (uint64_t *)(place->near + 1024);
}

static void place_deinit(struct place *place)
{
	munmap(place->function, PLACE_BYTES);
	munmap(place->near, PLACE_BYTES);
	munmap(place->far, PLACE_BYTES);
}

/* At `near`: count a pass, then go on at `original`. */
static void write_relay(const struct place *place, uint64_t original)
{
	/* push %rax; mov $passes, %rax; incq (%rax); pop %rax; jmp *0(%rip); .quad original */
	uint8_t *at = place->near;
	uint64_t passes = (uintptr_t)place->passes;

	memcpy(at, "\x50\x48\xb8", 3);
	memcpy(at + 3, &passes, 8);
	memcpy(at + 11, "\x48\xff\x00\x58\xff\x25\0\0\0\0", 10);
	memcpy(at + 21, &original, 8);
}

static uint64_t run(const uint8_t *function, uint64_t argument)
{
	uint64_t result;

	/* Not by a pointer to a function: blobs use what registers they like. */
	__asm__ volatile("sub $128, %%rsp; xor %%eax, %%eax; call *%[function]; add $128, %%rsp"
			 : "=&a"(result), "+D"(argument)
			 : [function] "r"(function)
			 : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0");
	return result;
}

static void check_points(const struct tm_plan *plan)
{
	assert_in_range(plan->length, TM_JUMP_BYTES, TM_PATCH_BYTES);
	assert_in_range(plan->point_count, 1, TM_PATCH_POINTS);
	assert_int_equal(plan->points[0].from, 0);
	assert_int_equal(plan->points[0].to, 0);
	for (uint32_t i = 1; i < plan->point_count; i++) {
		assert_true(plan->points[i].from > plan->points[i - 1].from);
		assert_true(plan->points[i].to > plan->points[i - 1].to);
		assert_true(plan->points[i].from < plan->length);
		assert_true(plan->points[i].to < plan->relocated_length);
	}
}

static struct tm_plan must_plan(const uint8_t *code, size_t code_size, uint64_t size,
				const struct place *place, const uint8_t *original)
{
	const struct tm_plan_request request = {
		.code = code,
		.code_size = code_size,
		.function = (uintptr_t)place->function,
		.size = size,
		.original_at = (uintptr_t)original,
		.relay_at = (uintptr_t)place->near,
	};
	struct tm_plan plan;
	struct tm_error *error = tm_plan_patch(&request, &plan);

	if (error)
		fail_msg("refused: %s", error->message);
	check_points(&plan);
	return plan;
}

/* Runs the code before and after it is patched: same results, and each call passes the relay. */
static void check_runs(const uint8_t *code, size_t code_size, uint64_t size, bool far,
		       struct tm_plan *ret)
{
	static const uint64_t arguments[] = {1, 2, 7, 100};
	uint64_t before[LENGTH(arguments)];
	struct place place;
	uint8_t *original;

	place_init(&place);
	original = far ? place.far : place.near + 64;
	memcpy(place.function, code, code_size);
	for (size_t i = 0; i < LENGTH(arguments); i++)
		before[i] = run(place.function, arguments[i]);
	*ret = must_plan(place.function, code_size, size, &place, original);
	memcpy(original, ret->relocated, ret->relocated_length);
	write_relay(&place, (uintptr_t)original);
	memcpy(place.function + ret->offset, ret->written, ret->length);
	for (size_t i = 0; i < LENGTH(arguments); i++) {
		uint64_t passes = *place.passes;

		assert_int_equal(run(place.function, arguments[i]), before[i]);
		assert_true(*place.passes > passes);
	}
	place_deinit(&place);
}

static void check_blob(const struct blob *blob, bool far)
{
	size_t size = (size_t)(blob->end - blob->code);
	uint8_t copy[512];
	struct tm_plan plan;

	assert_true(size <= sizeof(copy));
	memcpy(copy, blob->code, size);
	if (blob->pointer) {
		uint64_t value;

		memcpy(&value, copy + size - 8, 8);
		value += FUNCTION_AT;
		memcpy(copy + size - 8, &value, 8);
	}
	check_runs(copy, size, blob->size ? blob->size : size, far, &plan);
	assert_int_equal(plan.offset, blob->offset);
	assert_int_equal(plan.point_count, blob->points);
	assert_int_equal(plan.moves_call, strstr(blob->rule, "call") != NULL);
}

static void test_runs_near(void **state)
{
	check_blob(*state, false);
}

static void test_runs_far(void **state)
{
	check_blob(*state, true);
}

static void test_all_conditions(void **state)
{
	static const uint8_t compare[] = {0x83, 0xff, 0x02}; /* cmp $2, %edi */
	static const uint8_t results[] = {0xb8, 1, 0, 0, 0, 0xc3, 0xb8, 2, 0, 0, 0, 0xc3};

	(void)state;
	for (uint8_t condition = 0; condition < 16; condition++) {
		const uint8_t forms[2][6] = {{0x70 | condition, 6},
					     {0x0f, 0x80 | condition, 6, 0, 0, 0}};
		const size_t sizes[2] = {2, 6};

		for (size_t form = 0; form < 2; form++) {
			uint8_t code[32];
			size_t size = 0;
			struct tm_plan plan;

			memcpy(code, compare, sizeof(compare));
			size += sizeof(compare);
			memcpy(code + size, forms[form], sizes[form]);
			size += sizes[form];
			memcpy(code + size, results, sizeof(results));
			size += sizeof(results);
			check_runs(code, size, size, false, &plan);
			check_runs(code, size, size, true, &plan);
		}
	}
}

static void test_unwritten_bytes(void **state)
{
	/* push %rbx; sub $imm32, %rsp: 8 bytes, so that 3 are left behind the jump. */
	static const uint8_t code[] = {0x53, 0x48, 0x81, 0xec, 0, 1, 0, 0, 0xc3};
	const struct tm_plan_request request = {
		.code = code,
		.code_size = sizeof(code),
		.function = 0x10000,
		.size = sizeof(code),
		.original_at = 0x20000,
		.relay_at = 0x30000,
	};
	struct tm_plan plan;
	int32_t distance;

	(void)state;
	assert_null(tm_plan_patch(&request, &plan));
	assert_int_equal(plan.length, 8);
	assert_int_equal(plan.written[0], 0xe9);
	memcpy(&distance, plan.written + 1, 4);
	assert_int_equal(0x10000 + 5 + distance, 0x30000);
	assert_memory_equal(plan.written + 5, "\x0f\x1f\x00", 3);
}

/* ---- refusals --------------------------------------------------------- */

struct refusal {
	const char *rule;
	uint64_t size; /* of the symbol; 0: unknown */
	const char *code;
	size_t code_size;
	const char *reason;
	uint64_t original_at, relay_at; /* 0: near */
};

#define BYTES(text) .code = (text), .code_size = sizeof(text) - 1
#define ALL(text) .size = sizeof(text) - 1, BYTES(text)
#define FILL "\x90\x90\x90\x90\x90\x90\x90\xc3"

static const struct refusal refusals[] = {
	{"loop is refused", ALL("\xe2\xfe" FILL), "loop or jrcxz"},
	{"loope is refused", ALL("\xe1\x06" FILL), "loop or jrcxz"},
	{"loopne is refused", ALL("\xe0\x06" FILL), "loop or jrcxz"},
	{"jrcxz is refused", ALL("\xe3\x06" FILL), "loop or jrcxz"},
	{"jecxz is refused", ALL("\x67\xe3\x06" FILL), "loop or jrcxz"},
	{"syscall is refused", ALL("\x0f\x05" FILL), "a system call"},
	{"sysenter is refused", ALL("\x0f\x34" FILL), "a system call"},
	{"int is refused", ALL("\xcd\x80" FILL), "an interrupt"},
	{"int1 is refused", ALL("\xf1" FILL), "an interrupt"},
	{"a breakpoint is refused", ALL("\x53\xcc" FILL), "a breakpoint"},
	{"a transaction is refused", ALL("\xc7\xf8\x00\x00\x00\x00" FILL), "xbegin"},
	{"a call that returns among the patched bytes is refused", ALL("\xff\xd0" FILL),
	 "a call that returns"},
	{"an indirect call by register is refused", ALL("\x48\x8b\x07\xff\x50\x10" FILL),
	 "an indirect call"},
	{"what cannot be decoded is refused", ALL("\x06" FILL), "+0 cannot be decoded"},
	{"where it cannot be decoded counts the endbr64", ALL("\xf3\x0f\x1e\xfa\x53\x06" FILL),
	 "+5 cannot be decoded"},
	{"a branch into the patched bytes is refused",
	 ALL("\x53\x51\x52\x48\x89\xfb\x90\xeb\xf8\xc3"), "branches from +7"},
	{"a long branch into the patched bytes is refused",
	 ALL("\x53\x51\x52\x48\x89\xfb\x90\x0f\x84\xf4\xff\xff\xff\xc3"), "branches from +7"},
	{"a branch into them behind data is found",
	 ALL("\x53\x51\x52\x48\x89\xfb\xc3\x06\x06\xeb\xf6"), "branches from +9"},
	{"a branch into them behind an endbr64 is refused",
	 ALL("\xf3\x0f\x1e\xfa\x53\x51\x52\x48\x89\xfb\x90\xeb\xf8\xc3"), "to +5"},
	{"a branch into the middle of an instruction is refused", ALL("\xeb\x01\x48\x89\xfb" FILL),
	 "into the middle of another instruction"},
	{"a short function without padding is refused", .size = 3,
	 BYTES("\x31\xc0\xc3\x53\x51\x52"), "3 bytes without padding"},
	{"a short function of unknown size too", .size = 0, BYTES("\x31\xc0\xc3\x53\x51\x52"),
	 "3 bytes without padding"},
	{"zeros are no padding", .size = 1, BYTES("\xc3\x00\x00\x00\x00\x00\x00"),
	 "1 bytes without padding"},
	{"a short function at the end of what can be read is refused", .size = 1, BYTES("\xc3\x90"),
	 "cannot be read"},
	{"a function that runs on into the next is refused", BYTES("\x31\xc0" FILL),
	 "runs on into what follows", .size = 2},
	{"a function that ends inside an instruction is refused",
	 BYTES("\x48\x81\xec\0\1\0\0" FILL), "longer than the function", .size = 5},
	{"a function of an endbr64 alone is refused", BYTES("\xf3\x0f\x1e\xfa" FILL),
	 "too short: 4 bytes", .size = 4},
	{"code that is cut short is refused", .size = 30, BYTES("\x53\x51"), "only 2 bytes"},
	{"no code at all is refused", .size = 30, BYTES(""), "only 0 bytes"},
	{"instructions too long for a patch are refused",
	 ALL("\x53\x51\x52\x50\x64\x67\x48\xc7\x84\xc0\1\2\3\4\5\6\7\x08" FILL),
	 "longer than 16 bytes"},
	{"a branch of 16 bits is refused", ALL("\x66\xe9\x00\x00\x90\x90" FILL), "16-bit"},
	{"an operand of 32 bits relative to the instruction is refused",
	 ALL("\x67\x48\x8b\x05\x00\x00\x00\x00" FILL), "32-bit instruction-relative"},
	{"an operand out of reach is refused", ALL("\x48\x8b\x05\x00\x00\x00\x00" FILL),
	 "out of reach of its new place", .original_at = UINT64_C(0x7f0000000000)},
	{"a relay out of reach is refused", ALL("\x53\x51\x52" FILL), "the relay at 0x7f0000000000",
	 .relay_at = UINT64_C(0x7f0000000000)},
};

static void test_refusal(void **state)
{
	const struct refusal *refusal = *state;
	const struct tm_plan_request request = {
		.code = (const uint8_t *)refusal->code,
		.code_size = refusal->code_size,
		.function = FUNCTION_AT,
		.size = refusal->size,
		.original_at = refusal->original_at ? refusal->original_at : NEAR_AT,
		.relay_at = refusal->relay_at ? refusal->relay_at : NEAR_AT + 64,
	};
	struct tm_plan plan;
	struct tm_error *error = tm_plan_patch(&request, &plan);

	assert_non_null(error);
	assert_int_equal(error->kind, TM_ERROR_PLAN);
	if (!strstr(error->message, refusal->reason))
		fail_msg("expected \"%s\", got \"%s\"", refusal->reason, error->message);
	tm_error_free(error);
}

/* Whatever the bytes are: a plan within its limits, or a refusal, and no fault. */
static void test_random_bytes(void **state)
{
	uint64_t random = 88172645463325252u;
	unsigned int planned = 0;

	(void)state;
	for (unsigned int round = 0; round < 200000; round++) {
		uint8_t code[64];
		struct tm_plan_request request = {
			.code = code,
			.function = FUNCTION_AT,
			.original_at = round & 1 ? NEAR_AT : FAR_AT,
			.relay_at = NEAR_AT + 64,
		};
		struct tm_plan plan;
		struct tm_error *error;

		for (size_t i = 0; i < sizeof(code); i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			code[i] = (uint8_t)random;
		}
		if (random >> 32 & 1)
			memcpy(code, "\xf3\x0f\x1e\xfa", 4);
		request.code_size = random >> 33 & 63;
		request.size = random >> 40 & 63;
		error = tm_plan_patch(&request, &plan);
		if (error) {
			tm_error_free(error);
			continue;
		}
		planned++;
		check_points(&plan);
		assert_in_range(plan.relocated_length, 1, TM_RELOCATED_BYTES);
	}
	assert_true(planned > 1000);
}

/* ---- all of them ------------------------------------------------------ */

static struct CMUnitTest tests[2 * LENGTH(blobs) + LENGTH(refusals) + 3] = {
	cmocka_unit_test(test_all_conditions),
	cmocka_unit_test(test_unwritten_bytes),
	cmocka_unit_test(test_random_bytes),
};

static void add_test(size_t *count, const char *name, CMUnitTestFunction function,
		     const void *state)
{
	tests[(*count)++] = (struct CMUnitTest){
		.name = name,
		.test_func = function,
		.initial_state = (void *)(uintptr_t)state,
	};
}

int main(void)
{
	static char names[LENGTH(blobs)][128];
	size_t count = 3;

	for (size_t i = 0; i < LENGTH(blobs); i++) {
		add_test(&count, blobs[i].rule, test_runs_near, &blobs[i]);
		if (blobs[i].near_only)
			continue;
		snprintf(names[i], sizeof(names[i]), "%s, far away", blobs[i].rule);
		add_test(&count, names[i], test_runs_far, &blobs[i]);
	}
	for (size_t i = 0; i < LENGTH(refusals); i++)
		add_test(&count, refusals[i].rule, test_refusal, &refusals[i]);
	return _cmocka_run_group_tests("plan", tests, count, NULL, NULL);
}
