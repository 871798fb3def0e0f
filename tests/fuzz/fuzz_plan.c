/*
 * The patch planner on any bytes for code: a plan that it makes keeps its own rules.
 *
 * links: gdb-plugin/native/plan.c gdb-plugin/native/error.c
 */
#include "fuzz.h"
#include "plan.h"

/* The input: how long the symbol is, and whether the relay is far; then code. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tm_plan_request request = {.function = UINT64_C(0x555555554321)};
	struct tm_plan plan;
	uint8_t *code;

	if (size < 2)
		return 0;
	code = malloc(size - 2); /* of exactly that size, for the sanitizer */
	memcpy(code, data + 2, size - 2);
	request.code = code;
	request.code_size = size - 2;
	request.size = data[0] == 255 ? size - 2 : data[0];
	request.original_at = request.function + (data[1] & 1 ? UINT64_C(1) << 33 : 0x100000);
	request.relay_at = request.function - (data[1] & 2 ? UINT64_C(1) << 33 : 0x200000);
	if (!fuzz_failed(tm_plan_patch(&request, &plan))) {
		uint64_t from = request.function + plan.offset + TM_JUMP_BYTES;
		int32_t distance;

		FUZZ_REQUIRE(plan.length >= TM_JUMP_BYTES && plan.length <= TM_PATCH_BYTES);
		FUZZ_REQUIRE(plan.relocated_length <= TM_RELOCATED_BYTES);
		FUZZ_REQUIRE(plan.offset + plan.length <= request.code_size);
		memcpy(&distance, plan.written + 1, sizeof(distance));
		FUZZ_REQUIRE(plan.written[0] == 0xe9 &&
			     from + (uint64_t)(int64_t)distance == request.relay_at);
		FUZZ_REQUIRE(plan.point_count <= TM_PATCH_POINTS);
		for (uint32_t i = 0; i < plan.point_count; i++) {
			FUZZ_REQUIRE(plan.points[i].from < plan.length &&
				     plan.points[i].to < plan.relocated_length);
			FUZZ_REQUIRE(!i || plan.points[i - 1].from < plan.points[i].from);
		}
	}
	free(code);
	return 0;
}
