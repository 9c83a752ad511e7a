/*
 * SipHash-2-4 with 128 bits of output (Aumasson and Bernstein 2012, and its authors' 128-bit
 * variant): a keyed fingerprint for values kept in memory, under a key that no one else knows.
 */
#pragma once

#include "libutil/slice.h"

enum { SIPHASH_KEY = 16, SIPHASH_LEN = 16 };

void siphash(const uint8_t key[SIPHASH_KEY], struct slice in, uint8_t out[SIPHASH_LEN]);
