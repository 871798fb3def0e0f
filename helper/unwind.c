/*
 * The walk over the stack: three registers, one cached rule a frame.
 *
 * Uses the kernel through stack.c alone, rows through cfi.c, modules through
 * modules.c.  Must not recurse, and must not keep more than a few words on
 * the stack: it runs on signal stacks and in small coroutines.
 */
#include "modules.h"
#include "unwind.h"

/* ---- the rule cache --------------------------------------------------- */

/*
 * check == key ^ epoch << EPOCH_SHIFT ^ rule.  Both words are written without a lock: an
 * entry whose words belong to two writers checks out for no key.
 */
struct rule_entry {
	uint64_t check;
	uint64_t rule;
};

#define RULE_ENTRIES 8192u
#define EPOCH_SHIFT 48 /* above all addresses */

static struct rule_entry rules[RULE_ENTRIES] __attribute__((aligned(64)));
uint64_t tm_rules_epoch; /* atomic */

/* Address bits 0..12 and 13..25 folded into the offset of an entry: three cycles. */
static inline struct rule_entry *rule_entry(uint64_t key)
{
	uint64_t offset = (key << 4 ^ key >> 9) & (RULE_ENTRIES - 1) * sizeof(struct rule_entry);

	return (struct rule_entry *)((uint8_t *)rules + offset);
}

void tm_unwind_forget_rules(void)
{
	uint32_t i;

	if (__atomic_add_fetch(&tm_rules_epoch, 1, __ATOMIC_ACQ_REL) << EPOCH_SHIFT)
		return;
	/* Its low bits have come around: an old entry must not pass for a new one. */
	for (i = 0; i < RULE_ENTRIES; i++)
		store_relaxed(&rules[i].check, UINT64_C(0));
}

/* ---- finding rules ---------------------------------------------------- */

/* mov $15, %rax; syscall: what a signal handler returns to, in any C library. */
static TM_NOINLINE bool is_signal_restorer(uint64_t address)
{
	const struct tm_module *module = tm_modules_find(address);

	if (!module || !tm_module_executes(module, address) || module->text_end - address < 9 ||
	    !tm_is_readable(address) || !tm_is_readable(address + 1))
		return false;
	return tm_stack_word(address) == UINT64_C(0x0f0000000fc0c748) &&
	       ((const uint8_t *)address)[8] == 0x05;
}

uint64_t tm_unwind_rule(struct tm_unwinder *unwinder)
{
	uint64_t key = unwinder->walk.key;
	uint64_t pc = key - 1;
	const struct tm_module *module = tm_modules_find(pc);
	struct tm_cfi_section section;

	if (!module || !tm_module_executes(module, pc)) {
		/* A restorer is never called: it may begin its mapping. */
		if (!unwinder->walk.exact && is_signal_restorer(key))
			return TM_RULE_SIGNAL;
		module = tm_modules_on_unknown(pc);
		if (!module || !tm_module_executes(module, pc))
			return TM_RULE_OUTSIDE;
	}
	if (module->eh_frame_hdr && tm_is_readable(module->eh_frame_hdr)) {
		section.hdr = module->eh_frame_hdr;
		section.hdr_size = module->eh_frame_hdr_size;
		section.low = module->cfi_start;
		section.high = module->cfi_end;
		if (tm_cfi_find(&unwinder->cfi, &section, pc))
			return tm_cfi_compile(&unwinder->cfi, pc);
	}
	if (!unwinder->walk.exact && is_signal_restorer(key))
		return TM_RULE_SIGNAL;
	return TM_RULE_NONE;
}

static TM_NOINLINE uint64_t find_rule(struct tm_unwinder *unwinder)
{
	uint64_t key = unwinder->walk.key;
	uint64_t rule = tm_unwind_rule(unwinder);
	struct rule_entry *entry = rule_entry(key);

	if (rule != TM_RULE_OUTSIDE && key >> EPOCH_SHIFT == 0) {
		store_relaxed(&entry->rule, rule);
		store_relaxed(&entry->check, key ^ unwinder->walk.epoch ^ rule);
	}
	return rule;
}

/* ---- relocated prologues ---------------------------------------------- */

static bool is_in_relays(uint64_t pc)
{
	const struct tm_relay_region *regions = (const struct tm_relay_region *)tm_header.relays;
	uint32_t count = load_relaxed(&tm_header.relay_count);
	uint32_t i;

	for (i = 0; regions && i < count && i < TM_MAX_RELAY_REGIONS; i++)
		if (pc - regions[i].start < regions[i].size)
			return true;
	return false;
}

#define JUMP_NEAR_BYTES 5 /* jmp rel32 */
#define JUMP_FAR_BYTES 14 /* jmp *0(%rip); .quad */

/* The address in the function of an instruction of its relocated prologue. */
static uint64_t original_of_point(const struct tm_patch *patch, uint64_t pc)
{
	uint64_t offset = pc - patch->original;
	uint64_t left = patch->original_length - offset;
	const uint8_t *code = (const uint8_t *)pc;
	uint32_t i, best = 0;

	if ((left == JUMP_NEAR_BYTES && code[0] == 0xe9) ||
	    (left == JUMP_FAR_BYTES && code[0] == 0xff && code[1] == 0x25))
		return patch->address + patch->length;
	for (i = 0; i < patch->points && i < TM_PATCH_POINTS; i++)
		if (patch->point_to[i] <= offset && patch->point_to[i] >= patch->point_to[best])
			best = i;
	return patch->address + patch->point_from[best];
}

uint64_t tm_unwind_original(uint64_t pc)
{
	const struct tm_patch *patches = (const struct tm_patch *)tm_header.patches;
	uint32_t count = load_relaxed(&tm_header.patch_count);
	uint64_t relay = 0, function = pc;
	uint32_t i;

	if (!is_in_relays(pc) || !patches)
		return pc;
	for (i = 0; i < count && i < TM_MAX_PATCHES; i++) {
		const struct tm_patch *patch = &patches[i];

		if (pc - patch->original < patch->original_length)
			return original_of_point(patch, pc);
		/* A relay leaves registers and stack as they were at the entry. */
		if (patch->relay <= pc && patch->relay > relay) {
			relay = patch->relay;
			function = patch->function;
		}
	}
	return function;
}

/* ---- the log ----------------------------------------------------------- */

static inline void log_begin(struct tm_log *log, uint64_t epoch)
{
	log->epoch = epoch;
	log->nonzero_at = 0;
	log->count = 0;
	log->whole = true;
}

static inline void log_add(struct tm_log *log, uint64_t at, uint64_t value)
{
	struct tm_word *word = &log->words[log->count];

	if (unlikely(log->count == log->room)) {
		log->whole = false;
		return;
	}
	tm_word_that_differs(word + 1);
	word->value = value;
	store_release(&word->at, at);
	log->count++;
}

/* rbp leads to an address: where it came from must be looked at again. */
static inline void log_rbp(struct tm_log *log, uint64_t *rbp_at, uint64_t rbp)
{
	if (*rbp_at)
		log_add(log, *rbp_at, rbp);
	*rbp_at = 0;
}

/*
 * The last word read is the return address of a frame that is left off: there
 * is one if it is not 0, whatever it is.
 */
static inline void log_limit(struct tm_log *log)
{
	if (log->count && log->whole)
		log->nonzero_at = log->words[--log->count].at;
}

/* ---- the walk --------------------------------------------------------- */

static bool step_signal(struct tm_unwinder *unwinder, struct tm_stack *own)
{
	struct tm_walk *walk = &unwinder->walk;
	uint64_t context = walk->rsp;
	uint64_t rip, rsp, rbp;

	unwinder->log.whole = false;
	if (!tm_stack_load(unwinder, context + TM_UCONTEXT_RIP, &rip) ||
	    !tm_stack_load(unwinder, context + TM_UCONTEXT_RSP, &rsp) ||
	    !tm_stack_load(unwinder, context + TM_UCONTEXT_RBP, &rbp) ||
	    !tm_stack_switch(unwinder, own, rsp))
		return false;
	walk->key = tm_unwind_original(rip) + 1;
	walk->rsp = rsp;
	walk->rbp = rbp;
	walk->exact = true;
	return true;
}

static bool step_realigned(struct tm_unwinder *unwinder, uint64_t rule)
{
	struct tm_walk *walk = &unwinder->walk;
	struct tm_log *log = &unwinder->log;
	uint64_t cfa_at = walk->rbp + (uint64_t)tm_rule_cfa_offset(rule), rbp_at = walk->rbp;
	uint64_t cfa, rip, rbp;

	if (!tm_stack_load(unwinder, cfa_at, &cfa) || cfa < walk->rsp + 8 ||
	    !tm_stack_load(unwinder, rbp_at, &rbp) || !tm_stack_load(unwinder, cfa - 8, &rip) ||
	    rip == 0) {
		log->whole = false;
		return false;
	}
	if (cfa_at < walk->rsp || cfa_at >= cfa || rbp_at < walk->rsp || rbp_at >= cfa)
		log->whole = false;
	log_rbp(log, &walk->rbp_at, walk->rbp);
	log_add(log, cfa_at, cfa);
	log_add(log, cfa - 8, rip);
	walk->key = rip;
	walk->rsp = cfa;
	walk->rbp = rbp;
	walk->rbp_at = rbp_at;
	walk->exact = false;
	return true;
}

static bool step_frame_pointer(struct tm_unwinder *unwinder)
{
	struct tm_walk *walk = &unwinder->walk;
	uint64_t frame = walk->rbp;

	log_rbp(&unwinder->log, &walk->rbp_at, frame);
	if (!tm_step_frame_pointer(unwinder, walk->rsp, frame, &walk->rbp, &walk->key)) {
		if (frame % 8 == 0 && frame >= walk->rsp)
			unwinder->log.whole = false; /* something was read */
		return false;
	}
	log_add(&unwinder->log, frame + 8, walk->key);
	walk->rsp = frame + 16;
	walk->rbp_at = frame;
	walk->exact = false;
	return true;
}

/* Frames that the loop below does not step over by itself. */
static TM_NOINLINE unsigned int step_special(struct tm_unwinder *unwinder, struct tm_stack *own,
					     uint64_t rule)
{
	bool on = false;

	switch (rule & TM_RULE_KIND_MASK) {
	case TM_RULE_SIGNAL:
		on = step_signal(unwinder, own);
		break;
	case TM_RULE_REALIGNED:
		on = step_realigned(unwinder, rule);
		break;
	case TM_RULE_NONE:
		on = step_frame_pointer(unwinder);
		break;
	case TM_RULE_FULL:
		return TM_STEP_FULL;
	default:
		break;
	}
	return on ? TM_STEP_ON : TM_STEP_END;
}

/* ---- the whole walk ------------------------------------------------------ */

size_t tm_unwind(struct tm_unwinder *unwinder, const struct tm_registers *start,
		 struct tm_stack *stack, uint64_t *addresses, size_t limit, bool *complete)
{
	struct tm_walk *walk = &unwinder->walk;
	struct tm_log *log = &unwinder->log;
	uint64_t key = start->rip, rsp = start->rsp, rbp = start->rbp;
	uint64_t rbp_at = start->rbp_at; /* as in struct tm_walk */
	uint64_t address = key;          /* as it is recorded */
	uint64_t epoch, high;
	size_t count = 0;

	*complete = true;
	epoch = load_relaxed(&tm_rules_epoch);
	log_begin(log, epoch);
	epoch <<= EPOCH_SHIFT;
	walk->epoch = epoch;
	walk->exact = false;
	walk->stack = stack;
	if (unlikely(rsp < stack->low || rsp + 8 > stack->high) && !tm_stack_begin(stack, rsp)) {
		log->whole = false;
		if (limit)
			addresses[count++] = key;
		return count;
	}
	high = stack->high;
	for (;;) {
		const struct rule_entry *entry = rule_entry(key);
		uint64_t rule, cfa;

		if (unlikely(count == limit)) {
			*complete = false;
			log_limit(log);
			break;
		}
		rule = load_relaxed(&entry->rule);
		if (unlikely((load_relaxed(&entry->check) ^ rule) != (key ^ epoch))) {
			walk->key = key;
			rule = find_rule(unwinder);
		}
		if (unlikely(rule & TM_RULE_KIND_MASK)) {
			unsigned int step;

			if (rule == TM_RULE_OUTSIDE) {
				log->whole = false;
				if (count)
					break;
			}
			addresses[count++] = address;
			walk->key = key;
			walk->rsp = rsp;
			walk->rbp = rbp;
			walk->rbp_at = rbp_at;
			step = step_special(unwinder, stack, rule);
			if (step == TM_STEP_FULL) {
				log->whole = false;
				return tm_unwind_full(unwinder, start, stack, addresses, limit,
						      complete);
			}
			if (step == TM_STEP_END)
				break;
			key = walk->key;
			rsp = walk->rsp;
			rbp = walk->rbp;
			rbp_at = walk->rbp_at;
			high = walk->stack->high;
			address = walk->exact ? (key - 1) | TM_NODE_EXACT : key;
			continue;
		}
		addresses[count++] = address;
		cfa = rsp;
		if (rule & TM_RULE_FROM_RBP) {
			log_rbp(log, &rbp_at, rbp);
			cfa = rbp;
		}
		cfa += (uint64_t)tm_rule_cfa_offset(rule);
		if (unlikely(cfa < rsp + 8))
			break;
		if (unlikely(cfa > high)) {
			if (!tm_stack_reach(unwinder, cfa - 8)) {
				log->whole = false;
				break;
			}
			high = walk->stack->high;
		}
		if (rule & TM_RULE_RBP_SAVED) {
			rbp_at = cfa + (uint64_t)tm_rule_rbp_offset(rule);
			if (unlikely(rbp_at < rsp || rbp_at > cfa - 8)) {
				log->whole = false;
				if (rbp_at < walk->stack->low || rbp_at > high - 8)
					break;
			}
			rbp = tm_stack_word(rbp_at);
		}
		key = tm_stack_word(cfa - 8);
		log_add(log, cfa - 8, key);
		address = key;
		walk->exact = false;
		rsp = cfa;
		if (unlikely(key == 0))
			break;
	}
	log->high = rsp;
	log->whole &= walk->stack == stack;
	return count;
}
