/*
 * The memory layout shared by the helper (which writes it inside the traced
 * process) and by the host (which reads it from a live process or a core).
 * Declared here and nowhere else; the host's extension module derives every
 * offset and constant from this file.
 *
 * May include: freestanding headers.  Must not hold: pointers, bit-fields,
 * `long`, enums in structs.  Addresses are uint64_t, valid in the traced
 * process only.
 *
 * Readers must expect to stop the process at any instruction: the rules that
 * make each structure readable at every moment stand beside it.
 */
#ifndef TM_LAYOUT_H
#define TM_LAYOUT_H

#include <stdint.h>

#define TM_MAGIC UINT64_C(0x31656c6261746d74) /* "tmtable1", little endian */
#define TM_LAYOUT_VERSION 7u

#define TM_MAX_FRAMES 1000u
#define TM_DOMAIN_MALLOC 0u
#define TM_DOMAIN_MMAP 1u

/* ---- the trace table -------------------------------------------------- */

/*
 * A cache line of slots for live blocks.  A slot is a key and a traceback:
 *   key        bits  0..47  address of the block
 *              bits 48..62  size in bytes; TM_KEY_LARGE: it stands in the next slot
 *              bit  63      TM_KEY_FOREIGN: its domain is not 0
 *   traceback  id of its innermost node
 * A slot whose key, without its size, is TM_KEY_SIZE is no block: its size and
 * its traceback are bits 32..46 and 0..31 of the size of the block in the slot
 * before it.
 *
 * A key is 0 while its slot is free.  It is stored last when a block is
 * recorded and first set to 0 when the record goes; so who finds a key finds
 * the rest of the record.  No record is moved while its block lives.
 */
#define TM_BUCKET_SLOTS 5u

struct tm_bucket {
	uint64_t key[TM_BUCKET_SLOTS];       /* written by hooks, with its lock, … */
	uint32_t traceback[TM_BUCKET_SLOTS]; /* likewise */
	uint32_t passed;                     /* … which is a part of this; see below */
};

#define TM_ADDRESS_BITS 48
#define TM_ADDRESS_MASK ((UINT64_C(1) << TM_ADDRESS_BITS) - 1)
#define TM_KEY_SIZE_SHIFT TM_ADDRESS_BITS
#define TM_KEY_SIZE_MASK (TM_KEY_LARGE << TM_KEY_SIZE_SHIFT)
#define TM_KEY_LARGE UINT64_C(0x7fff)
#define TM_KEY_FOREIGN (UINT64_C(1) << 63)
#define TM_KEY_SIZE (TM_KEY_FOREIGN | 1)
#define TM_MAX_SIZE ((UINT64_C(1) << 47) - 1)

/*
 * A record is put into the first bucket with room on the way that the hash of
 * its address describes, once round the segment: from tm_first_bucket in steps
 * of tm_bucket_step.  In the buckets that it passed it is counted in the three
 * bits of `passed` at tm_passed_shift; a search ends where they are 0.
 * A count of TM_PASSED_MANY stays, and counts may be too high, never too low.
 *
 * The highest byte of `passed` is the bucket's lock: the number of the process one
 * of whose threads holds it, 1 … TM_PROCESSES, or 0.  A child of fork has another
 * number than its parent, so what it finds held by any other is free.  Who splits
 * a segment holds all its buckets from before the first record is copied until
 * those that went are wiped.  Readers need no lock, and may find any held.
 */
#define TM_SEGMENT_BUCKETS 128u
#define TM_PASSED_MANY 7u
#define TM_BUCKET_LOCK (UINT32_C(255) << TM_BUCKET_LOCK_SHIFT)
#define TM_BUCKET_LOCK_SHIFT 24
#define TM_PROCESSES 254u /* 255: nobody will ever unlock it */

struct tm_segment {
	struct tm_bucket bucket[TM_SEGMENT_BUCKETS];
};

/*
 * The table is TM_SHARDS independent extendible hash tables.  The directory
 * of a shard has 1 << depth entries, each the address of a segment and in its
 * low bits how many bits of the index the segment was made for, and above these
 * how often a put need not ask whether the segment is crowded; neighbours may
 * name the same one.
 *
 * A record counts if and only if the directory entry of its address names the
 * segment that holds it: tm_directory_index(address, depth).  That rule
 * makes the table readable in the middle of a split.
 *
 * `directory` carries the depth in its low bits, too (directories are 64-byte
 * aligned), so that both change with one store.
 */
struct tm_shard {
	uint64_t directory;       /* address | depth; written by hooks, shard lock */
	uint64_t untracked_frees; /* likewise */
	uint64_t arena;           /* helper's own: next free byte for segments … */
	uint64_t arena_end;       /* … and the end of that memory */
	uint64_t segment_count;   /* helper's own */
	uint64_t long_walks;      /* helper's own: how many there were; table_put */
	uint64_t spare;           /* helper's own: address of an empty segment, or 0 */
	uint64_t reserved;
};

#define TM_SHARD_BITS 6
#define TM_FIRST_SHARD (1u << (TM_SHARD_BITS - 2))
#define TM_SHARDS ((1u << TM_SHARD_BITS) - TM_FIRST_SHARD)
#define TM_MAX_DEPTH 19u
#define TM_DIRECTORY_DEPTH_MASK UINT64_C(63)
#define TM_SEGMENT_DEPTH_MASK UINT64_C(4095)
#define TM_SEGMENT_BITS_MASK UINT64_C(31)
#define TM_SEGMENT_PUTS_ONE UINT64_C(32)
#define TM_SEGMENT_MAX_PUTS 127u
#define TM_SEGMENT_PUTS_MASK (TM_SEGMENT_MAX_PUTS * TM_SEGMENT_PUTS_ONE)

/*
 * Allocators hand out addresses in order, and programs use what they got together:
 * the blocks of a group, 8 KiB of memory, are looked for in one segment, in a bucket
 * for each 64 bytes: in all of its buckets.  Only the low four bits of the address,
 * which are the same for the blocks of an allocator, part a group; so a split can part
 * any blocks that fill a segment.
 *
 * With this factor the groups of a heap cover segments and buckets evenly: its
 * multiples are spread like those of the golden ratio by their highest bits and by
 * the bits that choose a bucket, and by both together.  It was found by trial
 * (unit test a_heap_is_spread_evenly).
 */
#define TM_LINE_SHIFT 6
#define TM_GROUP_MASK UINT64_C(0x1ff0)
#define TM_HASH_FACTOR UINT64_C(0x1783a124ee5298a5)

static inline uint64_t tm_hash(uint64_t address)
{
	return (address & ~TM_GROUP_MASK) * TM_HASH_FACTOR;
}

/* The hash's upper half, its highest bit set. */
static inline uint64_t tm_half(uint64_t hash)
{
	return hash >> 32 | UINT64_C(1) << 31;
}

/*
 * The hash's upper half squared: 2^62 at least.  So the first shard gets twice as
 * many blocks as the last: their segments are split at different times, and the
 * sum of the memory grows evenly.  Shard and directory take the highest bits.
 */
static inline uint64_t tm_bent(uint64_t hash)
{
	return tm_half(hash) * tm_half(hash);
}

static inline uint32_t tm_shard_of(uint64_t bent)
{
	return (uint32_t)(bent >> (64 - TM_SHARD_BITS)) - TM_FIRST_SHARD;
}

static inline uint32_t tm_entry_of(uint64_t bent, uint32_t depth)
{
	return (uint32_t)(bent << TM_SHARD_BITS >> 1 >> (63 - depth));
}

static inline uint32_t tm_shard_index(uint64_t address)
{
	return tm_shard_of(tm_bent(tm_hash(address)));
}

static inline uint32_t tm_directory_index(uint64_t address, uint32_t depth)
{
	return tm_entry_of(tm_bent(tm_hash(address)), depth);
}

/* How far from its segment's begin the first bucket is, in bytes. */
static inline uint64_t tm_first_bucket(uint64_t address, uint64_t hash)
{
	return (tm_half(hash) + (address >> (TM_LINE_SHIFT - 6))) &
	       (TM_SEGMENT_BUCKETS - 1) * sizeof(struct tm_bucket);
}

/* In bytes, too. */
static inline uint64_t tm_bucket_step(uint64_t hash)
{
	return ((hash >> 20) % TM_SEGMENT_BUCKETS | 1) * sizeof(struct tm_bucket);
}

static inline uint32_t tm_passed_shift(uint64_t hash)
{
	return (uint32_t)(hash >> 34) % 8 * 3;
}

static inline uint64_t tm_key_address(uint64_t key)
{
	return key & TM_ADDRESS_MASK;
}

/* Whether it stands for a block: it is neither free nor the rest of a size. */
static inline int tm_key_is_block(uint64_t key)
{
	return tm_key_address(key) > 1;
}

static inline int tm_key_is_size(uint64_t key)
{
	return (key & ~TM_KEY_SIZE_MASK) == TM_KEY_SIZE;
}

/* 15 bits of a size: TM_KEY_LARGE if these are not all of it. */
static inline uint64_t tm_key_size(uint64_t key)
{
	return key >> TM_KEY_SIZE_SHIFT & TM_KEY_LARGE;
}

/* The size of the block in this slot. */
static inline uint64_t tm_bucket_size(const struct tm_bucket *bucket, uint32_t slot)
{
	uint64_t size = tm_key_size(bucket->key[slot]);

	if (size == TM_KEY_LARGE && slot + 1 < TM_BUCKET_SLOTS)
		size = tm_key_size(bucket->key[slot + 1]) << 32 | bucket->traceback[slot + 1];
	return size;
}

/* ---- tracebacks ------------------------------------------------------- */

/*
 * A tree whose root nodes are the domains.  A traceback is named by the id of
 * its most recent frame; `parent` leads to the caller, and in the end to a
 * root, whose address field is the domain's number.
 * Ids are indexes into chunks of TM_NODES_PER_CHUNK nodes.  Id 0 is no node.
 * A node is complete before its id is stored anywhere, and then constant
 * (but for `next`, which belongs to the helper's index).
 */
struct tm_node {
	uint64_t address; /* bits 0..55 return address (or domain), 56..63 TM_NODE_* flags */
	uint32_t parent;  /* id of the caller's node; 0 in a root */
	uint32_t next;    /* next id in the same bucket of the helper's index */
};

#define TM_NODE_ADDRESS_MASK ((UINT64_C(1) << 56) - 1)
#define TM_NODE_ROOT (UINT64_C(1) << 63)      /* a domain, not a frame */
#define TM_NODE_TRUNCATED (UINT64_C(1) << 62) /* in a root: frames were left off at the limit */
#define TM_NODE_EXACT (UINT64_C(1) << 61) /* not a return address: the frame was interrupted here */

#define TM_NODES_PER_CHUNK 65536u
#define TM_NODE_CHUNKS 65536u

/* ---- counters --------------------------------------------------------- */

/*
 * What one thread added since it last told the generation, its delta, is
 * highest - room.  A thread tells it when that exceeds TM_COUNTER_BATCH, or is
 * that much below the highest it was; so the peak of many threads is exact to
 * TM_COUNTER_BATCH a thread, and that of one thread is exact.
 * current = generation.current + sum of the deltas
 * peak    = max(generation.peak, current, generation.current + highest of a lone thread)
 */
struct tm_counter {
	int32_t room;    /* bytes below the highest; negative: above it; written by … */
	int32_t highest; /* bytes, the highest delta since the last telling; … its thread alone */
	uint64_t reserved[7];
};

static inline int64_t tm_counter_delta(const struct tm_counter *counter)
{
	return (int64_t)counter->highest - counter->room;
}

static inline int64_t tm_counter_highest(const struct tm_counter *counter)
{
	return (int64_t)counter->highest - (counter->room < 0 ? counter->room : 0);
}

#define TM_COUNTER_BATCH 65536
#define TM_MAX_THREADS 16384u

#define TM_SAMPLE_MIN 1024u
#define TM_SAMPLE_MAX (UINT64_C(1) << 40)

/*
 * Everything that `clear` forgets.  A hook reads the header's `generation`
 * once and stays with it; clearing publishes a new one, so no thread that was
 * stopped in the middle of a hook can mix the two.
 *
 * The second cache line is that of words which threads write now and then.  What
 * they read at each operation stands in the others.
 */
struct tm_generation {
	uint64_t shards;          /* address of struct tm_shard[TM_SHARDS] */
	uint64_t counters;        /* address of struct tm_counter[TM_MAX_THREADS] */
	uint64_t node_chunks;     /* address of uint64_t[TM_NODE_CHUNKS], 0 where not yet made */
	uint64_t index;           /* helper's own: the index over the nodes */
	uint64_t locks;           /* helper's own: its locks, wiped in a child of fork */
	uint64_t filter;          /* helper's own: 0 when every block is recorded; sample.h */
	uint64_t sample_period;   /* bytes, see tm_sample.h; 0: every block; constant */
	uint32_t limit;           /* frames a traceback keeps at most; constant */
	uint32_t id;              /* number of this generation; constant */
	uint64_t retired;         /* next older generation whose memory is not yet given back */
	int64_t current;          /* bytes told by all threads (sampling: estimated); atomic */
	int64_t peak;             /* bytes, likewise; atomic maximum */
	uint64_t memory;          /* bytes mapped for this generation; atomic */
	uint64_t regions;         /* helper's own: list of its mappings */
	uint32_t node_count;      /* ids given out, id 0 included; intern lock */
	uint32_t traceback_count; /* distinct tracebacks that were ever recorded; intern lock */
	uint64_t min_size;        /* bytes; smaller blocks are not recorded; constant */
	uint64_t reserved;
	uint64_t directories[TM_SHARDS]; /* helper's own: where they are, ready to use; segment.h */
};

/* ---- modules ---------------------------------------------------------- */

/*
 * A mapped object, or a run of executable memory that belongs to none; or a
 * file that was mapped there (text_end is 0), kept for the names of addresses.
 */
struct tm_module {
	uint64_t start;        /* first byte of its lowest segment */
	uint64_t end;          /* behind the last byte of its highest segment */
	uint64_t bias;         /* run-time address - address in the file's program headers */
	uint64_t eh_frame_hdr; /* run-time address of PT_GNU_EH_FRAME, or .eh_frame; 0: neither */
	uint64_t eh_frame_hdr_size; /* bytes; 0: it is .eh_frame */
	uint64_t text_start;        /* executable bytes: first … */
	uint64_t text_end;          /* … and behind the last */
	uint32_t path;              /* offset of the NUL-terminated path in the names; 0 is "" */
	uint32_t build_id_size;     /* bytes used of build_id */
	uint8_t build_id[24];
	uint64_t cfi_start; /* readable bytes around eh_frame_hdr, .eh_frame with it: first … */
	uint64_t cfi_end;   /* … and behind the last; 0 without */
};

/*
 * A list of modules sorted by start, constant while the header leads to it.
 * struct tm_module[count] follow it, then the names.
 */
struct tm_module_list {
	uint32_t count;
	uint32_t names_size; /* bytes of names, behind the array */
	uint64_t reserved;
};

/* ---- patches ---------------------------------------------------------- */

/* How a redirected function hands over its block. */
#define TM_SHAPE_ALLOC 0u   /* returns the block; size = size_argument [* count_argument] */
#define TM_SHAPE_FREE 1u    /* takes the block */
#define TM_SHAPE_REALLOC 2u /* takes the old block, returns the new one */
#define TM_SHAPE_STORE 3u   /* stores the block through a pointer, returns 0 (posix_memalign) */
#define TM_SHAPE_RESIZE 4u  /* resizes in place, returns the real size (xallocx) */
#define TM_SHAPE_LOADER 5u  /* the loader's notice that its list of objects changed */
#define TM_SHAPE_MAP 6u     /* mmap: returns the block, or all ones */
#define TM_SHAPE_UNMAP 7u   /* munmap: takes a part of a block, by address and size */
#define TM_SHAPE_REMAP 8u   /* mremap: like TM_SHAPE_REALLOC, fails with all ones */
#define TM_SHAPES 9u

#define TM_NO_ARGUMENT 0xffu
#define TM_PATCH_BYTES 16u
#define TM_PATCH_POINTS 8u

#define TM_STUB_LOAD 8u
#define TM_STUB_BYTES 128u /* what follows its first instruction uses the helper's memory */

/*
 * One redirected function.  Written by the debugger before the jump is, read
 * by the hooks, and by any later debugger that wants to undo it.
 * Length 0: the function is a stub that stands in for another one (of
 * libtm-preload.so, which writes it) and jumps to where `relay` says; `original`
 * is what it stands in for, 0 while there is nothing of that name.  TM_STUB_LOAD
 * bytes behind its entry is code that does what other functions' relays do.
 */
struct tm_patch {
	uint64_t function;               /* entry of the function */
	uint64_t address;                /* first patched byte (behind an endbr64) */
	uint64_t relay;                  /* where the jump leads, or a little further */
	uint64_t original;               /* relocated prologue: call this to run the function */
	uint8_t saved[TM_PATCH_BYTES];   /* bytes before patching */
	uint8_t written[TM_PATCH_BYTES]; /* bytes after patching */
	uint8_t length;                  /* bytes patched, 5 … TM_PATCH_BYTES; 0: see above */
	uint8_t active;        /* 1 while `written` is in place; written by the debugger */
	uint8_t shape;         /* TM_SHAPE_* */
	uint8_t size_argument; /* position 0 … 5, or TM_NO_ARGUMENT */
	uint8_t count_argument;
	uint8_t block_argument;  /* the pointer freed, reallocated, or stored through */
	uint8_t original_length; /* bytes of the relocated prologue, jump back included */
	uint8_t points;          /* instructions in the relocated prologue */
	uint8_t point_from[TM_PATCH_POINTS]; /* offset of each from `address` … */
	uint8_t point_to[TM_PATCH_POINTS];   /* … and from `original` */
	uint32_t domain;
	uint32_t checksum; /* CRC-32 of the patch with this and `active` 0; 0: none was made */
	char name[48];     /* NUL-terminated, cut when longer */
	uint64_t module;   /* start of the module it is in */
	uint64_t entry; /* the helper's stub that relay leads to; 0 once it is gone; see route.h */
	uint32_t is_leaf; /* 1: it is known to call no other redirected function of its domain */
	uint32_t keeps_registers; /* 1: all but what the function itself changes; see keeping.S */
	uint64_t lead;      /* of a stub: what `relay` is while it is active; 0 without a helper */
	uint64_t short_way; /* of a stub: code of its own that lets most calls pass; 0: none */
	uint64_t filter;    /* which looks for blocks here; see sample.h */
};

#define TM_MAX_PATCHES 512u

/* Memory mapped for relays near a module; kept until unload. */
struct tm_relay_region {
	uint64_t start;
	uint32_t size;
	uint32_t used;
};

#define TM_MAX_RELAY_REGIONS 64u

/* A thread that has called a hook, or one that had when it ended. */
struct tm_thread_entry {
	uint64_t thread_pointer; /* 0 free, 1 removed */
	uint64_t record;         /* helper's own: struct tm_thread */
};

/* ---- the header ------------------------------------------------------- */

#define TM_STATE_IDLE 0u /* loaded, nothing is recorded */
#define TM_STATE_TRACING 1u

/*
 * A word of each thread, at this distance from its thread pointer, that glibc keeps free
 * in its control block (unused_vgetcpu_cache of tcbhead_t, x86_64/nptl/tls.h, since 2.7):
 * what goes by before the thread's next sample point, see sample.h.  Other libraries have
 * something there, so it is used only where thread_words says so.  It may hold what a
 * thread left behind that had ended on the same stack.
 */
#define TM_WORD_LEFT 0x38u

/* Begins a page of anonymous private memory: found in maps and in cores by its magic. */
struct tm_header {
	uint64_t magic;         /* TM_MAGIC, written last at injection */
	uint32_t version;       /* TM_LAYOUT_VERSION */
	uint32_t header_size;   /* sizeof(struct tm_header) */
	uint64_t self;          /* its own address */
	uint64_t image_start;   /* the helper: first byte … */
	uint64_t image_end;     /* … and behind the last */
	uint32_t state;         /* TM_STATE_*; written by control functions */
	uint32_t pid;           /* process that was injected (a child of fork has its own) */
	uint64_t generation;    /* address of struct tm_generation; written by control functions */
	uint64_t modules;       /* address of struct tm_module_list; atomic */
	uint64_t start_time;    /* CLOCK_REALTIME of `start`, nanoseconds */
	uint64_t dropped;       /* records lost; atomic */
	uint64_t memory;        /* bytes mapped apart from generations; atomic */
	uint64_t patches;       /* address of struct tm_patch[TM_MAX_PATCHES] */
	uint64_t relays;        /* address of struct tm_relay_region[TM_MAX_RELAY_REGIONS] */
	uint64_t threads;       /* helper's own: the thread records */
	uint32_t patch_count;   /* written by the debugger */
	uint32_t relay_count;   /* written by the debugger */
	uint32_t loader_events; /* counts TM_SHAPE_LOADER calls */
	uint32_t quiet;         /* 1: no system calls but for memory; written by the debugger */
	uint8_t helper_build_id[24]; /* of the helper's file; written by the debugger */
	uint64_t sample_seed;        /* what the random gaps begin with; written by `start` */
	uint32_t
		thread_words; /* 1: TM_WORD_LEFT is tm's; written by the debugger, before `start` */
	uint32_t reserved32;
	uint64_t thread_entries; /* address of struct tm_thread_entry[TM_MAX_THREADS] */
	uint64_t reserved[3];
};

_Static_assert(sizeof(struct tm_bucket) == 64, "a bucket is a cache line");
_Static_assert(sizeof(struct tm_segment) % 4096 == 0, "directory entries keep bits for a depth");
_Static_assert(sizeof(struct tm_shard) == 64, "shards do not share cache lines");
_Static_assert(sizeof(struct tm_node) == 16, "a node is 16 bytes");
_Static_assert(sizeof(struct tm_counter) == 64, "threads do not share counter lines");
_Static_assert(sizeof(struct tm_generation) == 512, "layout version 5");
_Static_assert(sizeof(struct tm_module) == 104, "layout version 2");
_Static_assert(sizeof(struct tm_patch) == 192, "layout version 5");
_Static_assert(sizeof(struct tm_relay_region) == 16, "layout version 2");
_Static_assert(sizeof(struct tm_header) == 200, "layout version 2");

/* ---- the snapshot image ----------------------------------------------- */

/*
 * What a snapshot is, in memory and (compressed) in a dump file: this header,
 * then rows, nodes, modules and names, at the offsets given, little endian.
 */
#define TM_IMAGE_MAGIC UINT64_C(0x3130676d69706e73) /* "snpimg01" */
#define TM_IMAGE_VERSION 1u

struct tm_image {
	uint64_t magic;
	uint32_t version;
	uint32_t header_size;
	uint64_t size;  /* bytes of the whole image */
	uint32_t limit; /* frames */
	uint32_t pid;
	uint64_t time;       /* CLOCK_REALTIME of the snapshot, nanoseconds */
	uint64_t start_time; /* likewise, of `start` */
	uint64_t current;    /* bytes */
	uint64_t peak;       /* bytes */
	uint64_t dropped;
	uint64_t untracked_frees; /* 0 when not every block is recorded */
	uint64_t sample_period;   /* as in tm_generation */
	uint64_t min_size;        /* likewise */
	uint64_t rows;            /* offset of struct tm_row[row_count] */
	uint64_t row_count;
	uint64_t nodes; /* offset of struct tm_image_node[node_count] */
	uint64_t node_count;
	uint64_t modules; /* offset of struct tm_module[module_count] */
	uint64_t module_count;
	uint64_t names;      /* offset of the modules' paths */
	uint64_t names_size; /* bytes */
};

/* Blocks of one size, one domain and one traceback. */
struct tm_row {
	uint64_t size;      /* bytes of each */
	uint64_t count;     /* blocks */
	uint32_t traceback; /* index of its most recent frame's node; TM_NO_NODE: no frames */
	uint32_t domain;
	uint32_t truncated; /* 1: frames were left off at the limit */
	uint32_t reserved;
};

/* A node of the tree; a parent's index is lower than its children's. */
struct tm_image_node {
	uint64_t address; /* as in tm_node, without root flags */
	uint32_t parent;  /* index, or TM_NO_NODE */
	uint32_t depth;   /* frames from here to the oldest, this one included */
};

#define TM_NO_NODE 0xffffffffu

_Static_assert(sizeof(struct tm_image) == 160, "image version 1");
_Static_assert(sizeof(struct tm_row) == 32, "image version 1");
_Static_assert(sizeof(struct tm_image_node) == 16, "image version 1");

#endif
