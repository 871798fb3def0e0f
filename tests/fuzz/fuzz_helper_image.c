/*
 * The reader of the helper's image: what it accepts can be copied into a process.
 *
 * links: gdb-plugin/native/helper_image.c gdb-plugin/native/elf_file.c
 * gdb-plugin/native/error.c
 */
#include "elf_file.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tm_helper_image image;

	if (fuzz_failed(tm_helper_image_read(fuzz_file(data, size), &image)))
		return 0;
	FUZZ_REQUIRE(image.size % 4096 == 0 && image.build_id_size <= TM_BUILD_ID_MAX);
	FUZZ_REQUIRE(image.eh_frame <= image.size &&
		     image.eh_frame_size <= image.size - image.eh_frame);
	for (size_t i = 0; i < image.segment_count; i++) {
		const struct tm_helper_segment *segment = &image.segments[i];

		FUZZ_REQUIRE(segment->size <= segment->memsz && segment->offset <= image.size &&
			     segment->memsz <= image.size - segment->offset);
	}
	for (size_t i = 0; i < image.symbol_count; i++)
		FUZZ_REQUIRE(image.symbols[i].offset <= image.size && *image.symbols[i].name);
	tm_helper_image_deinit(&image);
	return 0;
}
