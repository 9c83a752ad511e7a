/*
 * CRC32C (Castagnoli), the checksum of everything we keep on disk. Uses the processor's
 * instruction where there is one.
 */
#pragma once

#include "libutil/slice.h"

/* The checksum of s continued from `crc`, the result for what came before (0 at the start). */
uint32_t crc32c(uint32_t crc, struct slice s);
