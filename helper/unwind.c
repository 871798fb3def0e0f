/*
 * The walk over the stack: three registers, one cached rule a frame.
 *
 * Uses the kernel through stack.c alone, rows through cfi.c, modules through
 * modules.c.  Must not recurse, and must not keep more than a few words on
 * the stack: it runs on signal stacks and in small coroutines.
 */
#include "join.h"
#include "modules.h"

/* ---- the rule cache --------------------------------------------------- */

/*
 * check == key ^ epoch << EPOCH_SHIFT ^ rule.  Both words are written without a lock: an
 * entry whose words belong to two writers checks out for no key.
 */
struct rule_entry {
	uint64_t check;
	uint64_t rule;
};

#define RULE_BITS 13
#define RULE_ENTRIES (1u << RULE_BITS)
#define EPOCH_SHIFT 48 /* above all addresses */

static struct rule_entry rules[RULE_ENTRIES] __attribute__((aligned(64)));
uint64_t tm_rules_epoch; /* atomic */
uint64_t tm_recall_base; /* atomic */

static inline struct rule_entry *rule_entry(uint64_t key)
{
	uint32_t offset =
		(uint32_t)key * 0x9e3779b1u >> (32 - RULE_BITS - 4) & (RULE_ENTRIES - 1) * 16;

	return (struct rule_entry *)((uint8_t *)rules + offset);
}

/* Where the rule of a key is kept when another one took its entry. */
static struct rule_entry *second_entry(uint64_t key)
{
	return &rules[(key ^ key >> RULE_BITS) % RULE_ENTRIES];
}

_Static_assert(sizeof(struct rule_entry) == 16, "rule_entry() reckons with it");

static void set_entry(struct rule_entry *entry, uint64_t key, uint64_t epoch, uint64_t rule)
{
	store_relaxed(&entry->rule, rule);
	store_relaxed(&entry->check, key ^ epoch ^ rule);
}

void tm_unwind_forget_rules(void)
{
	uint32_t i;

	__atomic_add_fetch(&tm_recall_base, 1, __ATOMIC_ACQ_REL);
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
	struct tm_module module;

	if (!tm_modules_find(address, &module) || !tm_module_executes(&module, address) ||
	    module.text_end - address < 9 || !tm_is_readable(address) ||
	    !tm_is_readable(address + 1))
		return false;
	return tm_stack_word(address) == UINT64_C(0x0f0000000fc0c748) &&
	       ((const uint8_t *)address)[8] == 0x05;
}

/*
 * The call frame rows of the module that pc is executable in; hdr is 0 when it has none.
 * False when there is no such module.
 */
static TM_NOINLINE bool find_section(uint64_t pc, struct tm_cfi_section *ret)
{
	struct tm_module module;

	if (!tm_modules_find(pc, &module) || !tm_module_executes(&module, pc))
		return false;
	ret->hdr = module.eh_frame_hdr;
	ret->hdr_size = module.eh_frame_hdr_size;
	ret->low = module.cfi_start;
	ret->high = module.cfi_end;
	return true;
}

uint64_t tm_unwind_rule(struct tm_unwinder *unwinder)
{
	uint64_t key = unwinder->walk.key;
	uint64_t pc = key - 1;
	struct tm_cfi_section section;

	if (!find_section(pc, &section)) {
		/* A restorer is never called: it may begin its mapping. */
		if (!unwinder->walk.exact && is_signal_restorer(key))
			return TM_RULE_SIGNAL;
		if (!tm_modules_on_unknown(pc) || !find_section(pc, &section))
			return TM_RULE_OUTSIDE;
	}
	if (section.hdr && tm_is_readable(section.hdr) && tm_cfi_find(&unwinder->cfi, &section, pc))
		return tm_cfi_compile(&unwinder->cfi, pc);
	if (!unwinder->walk.exact && is_signal_restorer(key))
		return TM_RULE_SIGNAL;
	return TM_RULE_NONE;
}

static TM_NOINLINE uint64_t find_rule(struct tm_unwinder *unwinder)
{
	uint64_t key = unwinder->walk.key, epoch = unwinder->walk.epoch;
	struct rule_entry *entry = rule_entry(key), *second = second_entry(key);
	uint64_t rule = load_relaxed(&second->rule), old_rule, old_key;

	if ((load_relaxed(&second->check) ^ rule) == (key ^ epoch))
		return rule;
	rule = tm_unwind_rule(unwinder);
	if (rule == TM_RULE_OUTSIDE || key >> EPOCH_SHIFT)
		return rule;
	old_rule = load_relaxed(&entry->rule);
	old_key = load_relaxed(&entry->check) ^ old_rule ^ epoch;
	if (old_key >> EPOCH_SHIFT == 0 && rule_entry(old_key) == entry)
		set_entry(second_entry(old_key), old_key, epoch, old_rule);
	set_entry(entry, key, epoch, rule);
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
	if (unlikely(!log->words)) {
		log->words = log->spare;
		log->end = log->spare + TM_WORDS_A_FRAME;
	}
	log->epoch = epoch;
	log->nonzero_at = 0;
	log->next = log->words;
	log->plain = log->words;
	log->whole = true;
	log->joined = NULL;
}

static inline struct tm_word *word_add(struct tm_word *word, uint64_t at, uint64_t value)
{
	word->at = at;
	word->value = value;
	return word + 1;
}

static void log_add(struct tm_log *log, uint64_t at, uint64_t value)
{
	if (log->next == log->end)
		log->whole = false;
	else
		log->next = word_add(log->next, at, value);
}

/* rbp leads to an address: where it came from must be looked at again. */
static void log_rbp(struct tm_log *log, uint64_t *rbp_at, uint64_t rbp)
{
	if (*rbp_at)
		log_add(log, *rbp_at, rbp);
	*rbp_at = 0;
}

/*
 * How far frames may go until they fill the log, when the one that belongs at next is
 * still to be stepped from.  A log without room is begun again, in vain.
 */
static inline uint64_t *log_stop(struct tm_log *log, uint64_t *next, uint64_t *end)
{
	size_t room;

	if (unlikely(log->end - log->next < TM_WORDS_A_FRAME)) {
		log->next = log->words;
		log->whole = false;
		log->before = NULL;
	}
	room = (size_t)(log->end - log->next) / TM_WORDS_A_FRAME;
	return (size_t)(end - next) < room ? end : next + room;
}

/*
 * The last word read is the return address of a frame that is left off: there
 * is one if it is not 0, whatever it is.
 */
static inline void log_limit(struct tm_log *log)
{
	if (log->next != log->words && log->whole)
		log->nonzero_at = (--log->next)->at;
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
	uint64_t saved = 0;              /* rbp is yet to be loaded: by this rule, in a frame … */
	uint64_t saved_from = 0, saved_above = 0; /* … with this CFA, this rsp */
	uint64_t epoch, high;
	uint64_t *next = addresses, *end = addresses + limit;
	struct tm_recall *recall = log->recall;
	uint64_t *joins = recall ? addresses + TM_JOIN_FROM : end + 1;
	uint64_t *stop; /* where the log has to be asked for room again */
	struct tm_word *word;

	*complete = limit != 0;
	epoch = load_relaxed(&tm_rules_epoch);
	log_begin(log, epoch);
	if (unlikely(limit == 0))
		return 0;
	*next++ = key;
	epoch <<= EPOCH_SHIFT;
	walk->epoch = epoch;
	walk->stack = stack;
	if (unlikely(rsp < stack->low || rsp + 8 > stack->high) && !tm_stack_begin(stack, rsp)) {
		log->whole = false;
		return 1;
	}
	high = stack->high;
	stop = next;
	word = log->next;
	for (;;) {
		const struct rule_entry *entry = rule_entry(key);
		uint64_t rule = load_relaxed(&entry->rule), cfa, caller;

		if (unlikely((load_relaxed(&entry->check) ^ rule ^ key) != epoch)) {
			walk->key = key;
			walk->exact = next[-1] != key;
			rule = find_rule(unwinder);
		}
		cfa = (uint64_t)tm_rule_cfa_offset(rule);
		if (likely(!(rule & (TM_RULE_KIND_MASK | TM_RULE_FROM_RBP)))) {
			cfa += rsp; /* by 8 at least: tm_cfi_compile() */
		} else {
			if (rule == TM_RULE_END)
				break;
			if (saved) {
				rbp_at = saved_from + (uint64_t)tm_rule_rbp_offset(saved);
				/* Not in its frame, as in an epilogue that a signal interrupted. */
				if (unlikely(rbp_at < saved_above || rbp_at > saved_from - 8)) {
					log->whole = false;
					if (rbp_at < walk->stack->low || rbp_at > high - 8)
						break;
				}
				rbp = tm_stack_word(rbp_at);
				saved = 0;
			}
			if (rule & TM_RULE_KIND_MASK) {
				unsigned int step;

				if (rule == TM_RULE_OUTSIDE) {
					log->whole = false;
					if (next != addresses + 1) {
						next--;
						break;
					}
				}
				log->next = word;
				walk->key = key;
				walk->rsp = rsp;
				walk->rbp = rbp;
				walk->rbp_at = rbp_at;
				step = step_special(unwinder, stack, rule);
				if (step == TM_STEP_FULL) {
					log->whole = false;
					return tm_unwind_full(unwinder, start, stack, addresses,
							      limit, complete);
				}
				log->plain = word = log->next;
				if (step == TM_STEP_END)
					break;
				if (next == end) {
					*complete = false;
					log_limit(log);
					word = log->next;
					break;
				}
				key = walk->key;
				rsp = walk->rsp;
				rbp = walk->rbp;
				rbp_at = walk->rbp_at;
				high = walk->stack->high;
				stop = log_stop(log, next, end);
				word = log->next;
				*next++ = walk->exact ? (key - 1) | TM_NODE_EXACT : key;
				continue;
			}
			if (rbp_at)
				word = word_add(word, rbp_at, rbp);
			rbp_at = 0;
			log->plain = word;
			cfa += rbp;
			if (unlikely(cfa < rsp + 8))
				break;
		}
		if (unlikely(cfa > high)) {
			if (!tm_stack_reach(unwinder, cfa - 8)) {
				log->whole = false;
				break;
			}
			high = walk->stack->high;
		}
		if (rule & TM_RULE_RBP_SAVED) {
			saved = rule;
			saved_from = cfa;
			saved_above = rsp;
		}
		caller = tm_stack_word(cfa - 8);
		if (next >= joins && !(rule & TM_RULE_FROM_RBP)) {
			uint64_t joint = tm_joint(recall, log, key, caller, cfa, word, next);

			if (joint && walk->stack == stack) {
				uint64_t *joined =
					tm_join(unwinder, joint, cfa, word, addresses, next, limit);

				if (joined) {
					*complete = !log->nonzero_at;
					return (size_t)(joined - addresses);
				}
			}
		}
		key = caller;
		word = word_add(word, cfa - 8, key);
		rsp = cfa;
		if (unlikely(key == 0))
			break;
		if (unlikely(next == stop)) {
			log->next = word;
			if (next == end) {
				*complete = false;
				log_limit(log);
				word = log->next;
				break;
			}
			stop = log_stop(log, next, end);
			word = log->next;
		}
		*next++ = key;
	}
	log->next = word;
	log->whole &= walk->stack == stack;
	return (size_t)(next - addresses);
}
