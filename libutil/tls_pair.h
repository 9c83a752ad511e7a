/* Whether a certificate and a key can be used together, before anybody relies on them. */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

/* Reads both files in PEM form. The error names the file. */
int tls_check_pair(const char *cert_path, const char *key_path, struct error *) MUST_USE;
