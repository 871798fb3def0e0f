/*
 * The checker of snapshot images: what it accepts can be walked by its indexes alone.
 * Starts from an image of a table made by hand.
 *
 * links: gdb-plugin/native/image.c gdb-plugin/native/image_check.c
 * gdb-plugin/native/live_table.c gdb-plugin/native/error.c
 */
#include "fuzz.h"

#include "fake_table.h"

static volatile uint64_t sink; /* so that the loads are made */

static void walk(const struct tm_image_view *view)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < view->header->row_count; i++) {
		const struct tm_row *row = &view->rows[i];
		uint32_t node = row->traceback, depth = 0;

		FUZZ_REQUIRE(row->count > 0);
		for (; node != TM_NO_NODE; node = view->nodes[node].parent) {
			FUZZ_REQUIRE(node < view->header->node_count && depth++ < TM_MAX_FRAMES);
			sum += view->nodes[node].address;
		}
	}
	for (uint32_t i = 0; i < view->header->module_count; i++)
		sum += strlen(view->names + view->modules[i].path) + view->modules[i].build_id_size;
	sink = sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tm_image_view view;
	void *bytes = malloc(size ? size : 1); /* of exactly that size, for the sanitizer */

	memcpy(bytes, data, size);
	if (!fuzz_failed(tm_image_check(bytes, size, &view)))
		walk(&view);
	free(bytes);
	return 0;
}

static void make_image(struct tm_image_buffer *ret)
{
	struct tm_image_view view;
	struct fake fake;
	uint32_t root, call, leaf;

	fake_init(&fake, 0);
	fake_modules(&fake);
	root = fake_node(&fake, TM_NODE_ROOT, 0);
	call = fake_node(&fake, 0x1111, root);
	leaf = fake_node(&fake, 0x2222 | TM_NODE_EXACT, call);
	for (uint64_t i = 0; i < 20; i++)
		fake_block(&fake, 0x500000 + i * 0x1010, 16 + i % 4, i % 3 ? leaf : call);
	take(&fake, ret, &view);
	fake_deinit(&fake);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	static struct tm_image_buffer image;

	(void)seed;
	if (!image.bytes)
		make_image(&image);
	if (size >= sizeof(struct tm_image) || image.size > max_size)
		return LLVMFuzzerMutate(data, size, max_size);
	memcpy(data, image.bytes, image.size);
	return image.size;
}
