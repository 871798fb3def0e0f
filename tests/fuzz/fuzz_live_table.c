/*
 * The readers of the live table in hostile memory: the input says which bytes of a table
 * made by hand to change, and each reader must give an answer or one line.
 *
 * links: gdb-plugin/native/image.c gdb-plugin/native/image_check.c
 * gdb-plugin/native/live_table.c gdb-plugin/native/live_blocks.c gdb-plugin/native/error.c
 */
#include "fuzz.h"

#include "fake_table.h"
#include "live_blocks.h"

#define BLOCKS 20u
#define MOST_CHANGES 16u

static struct fake fake;
static uint64_t places[12]; /* that changes are counted from */
static size_t place_count;

/* Leaves nothing to read of segments without blocks: more inputs. */
static void forget_empty_segments(void)
{
	const struct tm_shard *shards = at(&fake, fake.shards);

	for (uint32_t i = 0; i < TM_SHARDS; i++) {
		uint64_t *entries = at(&fake, shards[i].directory & ~TM_DIRECTORY_DEPTH_MASK);

		for (uint32_t entry = 0; entry < 1u << fake.depth; entry++)
			if (!fake_bucket(&fake, entries[entry], 1)->key[0])
				entries[entry] = 0;
	}
}

static void make_table(void)
{
	uint32_t root, call, leaf;

	fake_init(&fake, 1);
	fake_modules(&fake);
	root = fake_node(&fake, TM_NODE_ROOT, 0);
	call = fake_node(&fake, 0x1111, root);
	leaf = fake_node(&fake, 0x2222 | TM_NODE_EXACT, call);
	for (uint64_t i = 0; i < BLOCKS; i++)
		fake_block(&fake, 0x500000 + i * 0x1010, 16 * i, i % 3 ? leaf : call);
	fake_foreign(&fake, 0x900000, 32, call);
	forget_empty_segments();
	places[place_count++] = fake.header;
	places[place_count++] = fake.header + offsetof(struct tm_header, generation);
	places[place_count++] = fake.generation;
	places[place_count++] = fake.shards;
	places[place_count++] = fake.shards + tm_shard_index(0x500000) * sizeof(struct tm_shard);
	places[place_count++] = fake.counters;
	places[place_count++] = fake.chunks;
	places[place_count++] = fake.nodes;
	places[place_count++] = fake.modules;
	places[place_count++] = (uint64_t)((char *)fake_entry(&fake, 0x500000) - fake.bytes) + BASE;
	places[place_count++] = *fake_entry(&fake, 0x500000) & ~TM_SEGMENT_DEPTH_MASK;
	places[place_count] = places[place_count - 1] + sizeof(struct tm_bucket);
	place_count++;
}

static int take_block(void *context, const struct tm_found_block *block)
{
	uint64_t *last = context;

	FUZZ_REQUIRE(block->size <= *last && block->frame_count <= TM_MAX_FRAMES);
	*last = block->size;
	return 0;
}

static void read_all(void)
{
	static struct tm_live_status status;
	static struct tm_found_block block;
	uint64_t last = UINT64_MAX;
	struct tm_block_reader reader = {.take = take_block, .context = &last};
	struct tm_memory memory = memory_of(&fake);
	struct tm_image_buffer image;
	struct tm_image_view view;
	int found;

	if (!fuzz_failed(tm_image_take(&memory, fake.header, &image))) {
		FUZZ_REQUIRE(!tm_image_check(image.bytes, image.size, &view));
		free(image.bytes);
	}
	if (!fuzz_failed(tm_image_find_block(&memory, fake.header, 0x500008, &block, &found)) &&
	    found)
		FUZZ_REQUIRE(block.frame_count <= TM_MAX_FRAMES);
	fuzz_failed(tm_image_status(&memory, fake.header, &status));
	fuzz_failed(tm_live_blocks_read(&memory, fake.header, 10, &reader));
}

/* One change: which place, how far behind it, how many bytes, the bytes. */
struct change {
	size_t offset, length;
	uint8_t kept[16];
};

static size_t apply(const uint8_t *data, size_t size, struct change *ret)
{
	uint16_t distance;
	size_t length;

	if (size < 4)
		return 0;
	memcpy(&distance, data + 1, sizeof(distance));
	length = data[3] % sizeof(ret->kept) + 1u;
	if (length > size - 4)
		length = size - 4;
	ret->offset = places[data[0] % place_count] - BASE + distance;
	ret->length = length;
	if (ret->offset + length > fake.used)
		return 0;
	memcpy(ret->kept, fake.bytes + ret->offset, length);
	memcpy(fake.bytes + ret->offset, data + 4, length);
	return 4 + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct change changes[MOST_CHANGES];
	size_t count = 0, used;

	if (!fake.bytes)
		make_table();
	while (count < MOST_CHANGES && (used = apply(data, size, &changes[count]))) {
		data += used;
		size -= used;
		count++;
	}
	read_all();
	while (count--)
		memcpy(fake.bytes + changes[count].offset, changes[count].kept,
		       changes[count].length);
	return 0;
}
