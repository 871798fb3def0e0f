/*
 * Call frame information: which rules hold at one address, from .eh_frame.
 *
 * All bytes read are hostile: reads stay inside struct tm_cfi_section, loops
 * are bounded by the bytes they consume.  Includes helper.h alone and keeps
 * its working memory in struct tm_cfi, so that host programs can link it.
 */
#ifndef TM_CFI_H
#define TM_CFI_H

#include "helper.h"

/* Where the information of one module lies. */
struct tm_cfi_section {
	uint64_t hdr;      /* address of .eh_frame_hdr; of .eh_frame where there is none */
	uint64_t hdr_size; /* bytes; 0: there is none */
	uint64_t low;      /* readable bytes around it: first … */
	uint64_t high;     /* … and behind the last; .eh_frame lies in here too */
};

/* DWARF register numbers of x86-64; 16 is the return address. */
#define TM_DWARF_RAX 0
#define TM_DWARF_RDX 1
#define TM_DWARF_RCX 2
#define TM_DWARF_RBX 3
#define TM_DWARF_RBP 6
#define TM_DWARF_RSP 7
#define TM_DWARF_R8 8
#define TM_DWARF_R12 12
#define TM_DWARF_R13 13
#define TM_DWARF_R14 14
#define TM_DWARF_R15 15
#define TM_DWARF_RIP 16
#define TM_DWARF_REGISTERS 17

/* How the caller's value of a register is found. */
#define TM_CFI_UNSPECIFIED 0u    /* no rule: unchanged if the ABI preserves it */
#define TM_CFI_SAME 1u           /* unchanged */
#define TM_CFI_UNDEFINED 2u      /* lost */
#define TM_CFI_OFFSET 3u         /* stored at CFA + value */
#define TM_CFI_VAL_OFFSET 4u     /* is CFA + value */
#define TM_CFI_REGISTER 5u       /* in register number value */
#define TM_CFI_EXPRESSION 6u     /* stored at the result of the expression at address value */
#define TM_CFI_VAL_EXPRESSION 7u /* is the result of the expression at address value */

/*
 * The rules at one address.  The CFA is register cfa_register + cfa_value
 * (TM_CFI_VAL_OFFSET) or the expression at address cfa_value
 * (TM_CFI_VAL_EXPRESSION); other kinds do not occur.
 * An expression's address is that of its length (ULEB128).
 */
struct tm_cfi_row {
	int64_t cfa_value;
	int64_t value[TM_DWARF_REGISTERS];
	uint8_t cfa_kind;
	uint8_t cfa_register;
	uint8_t kind[TM_DWARF_REGISTERS];
	uint8_t reserved[5];
};

_Static_assert(sizeof(struct tm_cfi_row) == 168, "a row has no holes");

#define TM_CFI_REMEMBERED 6u
#define TM_CFI_EXPRESSION_STACK 32u
#define TM_CFI_EXPRESSION_STEPS 512u

/* Bytes being read; bad once a read would have passed the end. */
struct tm_cfi_cursor {
	uint64_t at;
	uint64_t end;
	bool bad;
};

/* Working memory of one lookup; owned by the caller, who need not clear it. */
struct tm_cfi {
	struct tm_cfi_section section;

	/* The FDE found, and its CIE. */
	uint64_t pc_start, pc_end;
	uint64_t cie_program, cie_program_end;
	uint64_t fde_program, fde_program_end;
	uint64_t code_alignment;
	int64_t data_alignment;
	uint64_t return_register;
	uint8_t encoding;
	bool has_augmentation;
	bool signal_frame;
	uint64_t row_start; /* first address that has the row */

	struct tm_cfi_row row;
	struct tm_cfi_row initial; /* as the CIE leaves it */
	struct tm_cfi_row remembered[TM_CFI_REMEMBERED];
	uint64_t stack[TM_CFI_EXPRESSION_STACK];
};

/*
 * Finds the row of the instruction at pc.  False when the section holds none,
 * or holds nonsense.
 */
bool tm_cfi_find(struct tm_cfi *cfi, const struct tm_cfi_section *section, uint64_t pc) TM_HIDDEN;

/*
 * A rule: a row in 8 bytes, for walks that follow rip, rsp and rbp alone.
 *   bit  0       the CFA is counted from rbp (else from rsp)
 *   bit  1       rbp is stored at CFA + saved offset (else unchanged)
 *   bits 2.. 7   kind; 0: the return address is stored at CFA - 8
 *   bits 8..31   saved offset of rbp, signed
 *   bits 32..63  offset of the CFA, signed; at least 8 where it is counted from rsp
 */
#define TM_RULE_FROM_RBP UINT64_C(1)
#define TM_RULE_RBP_SAVED UINT64_C(2)
#define TM_RULE_KIND_MASK UINT64_C(0xfc)
#define TM_RULE_STEP (UINT64_C(0) << 2)
#define TM_RULE_END (UINT64_C(1) << 2)       /* the outermost frame */
#define TM_RULE_SIGNAL (UINT64_C(2) << 2)    /* rsp is the address of the kernel's ucontext */
#define TM_RULE_REALIGNED (UINT64_C(3) << 2) /* CFA at rbp + CFA offset, rbp at rbp */
#define TM_RULE_FULL (UINT64_C(4) << 2)      /* needs other registers or an expression */
#define TM_RULE_NONE (UINT64_C(5) << 2)      /* executable, but no rows */
#define TM_RULE_OUTSIDE (UINT64_C(6) << 2)   /* not executable memory */

/* Offsets in the kernel's struct ucontext: r8 … r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip. */
#define TM_UCONTEXT_R8 0x28
#define TM_UCONTEXT_R12 0x48
#define TM_UCONTEXT_RBP 0x78
#define TM_UCONTEXT_RBX 0x80
#define TM_UCONTEXT_RSP 0xa0
#define TM_UCONTEXT_RIP 0xa8

static inline int64_t tm_rule_cfa_offset(uint64_t rule)
{
	return (int64_t)rule >> 32;
}

static inline int64_t tm_rule_rbp_offset(uint64_t rule)
{
	return (int32_t)(uint32_t)rule >> 8;
}

/* The rule for the row found for pc (rule.c). */
uint64_t tm_cfi_compile(const struct tm_cfi *cfi, uint64_t pc) TM_HIDDEN;

/* Reads 8 bytes of the program's memory; false when they cannot be read. */
typedef bool (*tm_cfi_load)(void *context, uint64_t address, uint64_t *ret);

/* What an expression is computed from. */
struct tm_cfi_machine {
	uint64_t registers[TM_DWARF_REGISTERS];
	uint32_t known; /* bit n: registers[n] holds a value */
	uint32_t reserved;
	tm_cfi_load load;
	void *context;
};

/*
 * Computes (expression.c) the expression whose length is at `expression`, with *initial (if
 * not NULL) on the stack.  False for nonsense or unreadable memory.
 */
bool tm_cfi_evaluate(struct tm_cfi *cfi, const struct tm_cfi_machine *machine, uint64_t expression,
		     const uint64_t *initial, uint64_t *ret) TM_HIDDEN;

/* ---- reading, for cfi.c and expression.c ------------------------------ */

/* 1, 2, 4 or 8 bytes. */
static inline uint64_t tm_cfi_read(struct tm_cfi_cursor *cursor, unsigned int bytes)
{
	const void *from = (const void *)cursor->at;
	uint64_t value = 0;

	if (cursor->bad || cursor->end - cursor->at < bytes) {
		cursor->bad = true;
		return 0;
	}
	if (bytes == 1)
		value = *(const uint8_t *)from;
	else if (bytes == 4)
		__builtin_memcpy(&value, from, 4);
	else if (bytes == 8)
		__builtin_memcpy(&value, from, 8);
	else
		__builtin_memcpy(&value, from, 2);
	cursor->at += bytes;
	return value;
}

static inline uint64_t tm_cfi_sign(uint64_t value, unsigned int bytes)
{
	unsigned int shift = 64 - 8 * bytes;

	return (uint64_t)((int64_t)(value << shift) >> shift);
}

uint64_t tm_cfi_uleb_long(struct tm_cfi_cursor *cursor) TM_HIDDEN;

/* Most are of one byte. */
static inline uint64_t tm_cfi_uleb(struct tm_cfi_cursor *cursor)
{
	if (likely(!cursor->bad && cursor->at < cursor->end && *(const uint8_t *)cursor->at < 0x80))
		return *(const uint8_t *)cursor->at++;
	return tm_cfi_uleb_long(cursor);
}

int64_t tm_cfi_sleb(struct tm_cfi_cursor *cursor) TM_HIDDEN;

/* Opens a length-prefixed block at address; bad when it leaves the section. */
void tm_cfi_open_block(const struct tm_cfi *cfi, uint64_t address,
		       struct tm_cfi_cursor *ret) TM_HIDDEN;

#endif
