/*
 * What the oracles ask of libdwarf, alike for its releases of before and after it counted
 * versions (0.1, October 2021): opening a file, and the rows of call frame information.
 *
 * May use: libdwarf.  Must not judge: it only hands on what libdwarf says.
 */
#ifndef TM_TEST_LIBDWARF_FRAMES_H
#define TM_TEST_LIBDWARF_FRAMES_H

#include <libdwarf/dwarf.h>
#include <libdwarf/libdwarf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef DW_LIBDWARF_VERSION_MAJOR
typedef Dwarf_Small *fde_bytes;
typedef Dwarf_Unsigned row_number;
typedef Dwarf_Block row_block;
#define UNSPECIFIED DW_FRAME_SAME_VAL /* it does not tell them apart */
#else
typedef Dwarf_Ptr fde_bytes;
typedef Dwarf_Signed row_number;
typedef Dwarf_Ptr row_block;
#define UNSPECIFIED 1500 /* its number for: no rule was given */
#endif

static inline bool open_debug(int fd, Dwarf_Debug *ret)
{
#ifdef DW_LIBDWARF_VERSION_MAJOR
	return dwarf_init_b(fd, DW_GROUPNUMBER_ANY, NULL, NULL, ret, NULL) == DW_DLV_OK;
#else
	return dwarf_init(fd, DW_DLC_READ, NULL, NULL, ret, NULL) == DW_DLV_OK;
#endif
}

static inline void close_debug(Dwarf_Debug debug)
{
#ifdef DW_LIBDWARF_VERSION_MAJOR
	dwarf_finish(debug);
#else
	dwarf_finish(debug, NULL);
#endif
}

static inline void free_fdes(Dwarf_Debug debug, Dwarf_Cie *cies, Dwarf_Signed cie_count,
			     Dwarf_Fde *fdes, Dwarf_Signed fde_count)
{
#ifdef DW_LIBDWARF_VERSION_MAJOR
	dwarf_dealloc_fde_cie_list(debug, cies, cie_count, fdes, fde_count);
#else
	dwarf_fde_cie_list_dealloc(debug, cies, cie_count, fdes, fde_count);
#endif
}

static inline bool fde_range(Dwarf_Fde fde, Dwarf_Addr *low, Dwarf_Unsigned *length)
{
	Dwarf_Off cie_offset, fde_offset;
	Dwarf_Unsigned size;
	Dwarf_Signed cie;
	fde_bytes bytes;

	return dwarf_get_fde_range(fde, low, length, &bytes, &size, &cie_offset, &cie, &fde_offset,
				   NULL) == DW_DLV_OK;
}

/* The row of the address, and, when more follow in the FDE, where the next one begins. */
static inline bool row_at(Dwarf_Fde fde, Dwarf_Addr pc, Dwarf_Regtable3 *table, Dwarf_Bool *more,
			  Dwarf_Addr *next)
{
	row_number relevant, number, offset;
	Dwarf_Small type;
	Dwarf_Addr row_pc;
	row_block block;

	return dwarf_get_fde_info_for_cfa_reg3_b(fde, pc, &type, &relevant, &number, &offset,
						 &block, &row_pc, more, next, NULL) == DW_DLV_OK &&
	       dwarf_get_fde_info_for_all_regs3(fde, pc, table, &row_pc, NULL) == DW_DLV_OK;
}

/* The offset of a rule that is no expression. */
static inline int64_t rule_offset(const struct Dwarf_Regtable_Entry3_s *rule)
{
#ifdef DW_LIBDWARF_VERSION_MAJOR
	return (int64_t)rule->dw_offset;
#else
	return (int64_t)rule->dw_offset_or_block_len;
#endif
}

/* The bytes of a rule that is an expression. */
static inline const uint8_t *rule_block(const struct Dwarf_Regtable_Entry3_s *rule, uint64_t *size)
{
#ifdef DW_LIBDWARF_VERSION_MAJOR
	*size = rule->dw_block.bl_len;
	return rule->dw_block.bl_data;
#else
	*size = rule->dw_offset_or_block_len;
	return rule->dw_block_ptr;
#endif
}

#endif
