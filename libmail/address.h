/*
 * Mail addresses of the SMTP envelope: Mailbox, Reverse-path and Forward-path of RFC 5321
 * §4.1.2, in a normal form that can be compared, stored and sent again.
 *
 * Normal form: domain in lower case without a final dot, address literal as written, local part
 * without quotes where it needs none and with the least quoting otherwise. The case of the
 * local part is kept. A struct address owns its text and may be copied.
 *
 * Limits: domain 255 and the whole address 254 octets (a path of 256, RFC 5321 §4.5.3.1.3). A
 * local part over 64 octets is accepted while the whole fits: reply tokens and VERP senders in
 * use today are longer, and the RFC asks only senders to keep to 64.
 */
#pragma once

#include "libutil/error.h"
#include "libutil/slice.h"

enum { ADDRESS_LOCAL_MAX = 64, ADDRESS_DOMAIN_MAX = 255, ADDRESS_MAX = 254 };

enum address_flags {
    ADDRESS_UTF8 = 1,       /* non-ASCII UTF-8 allowed (SMTPUTF8) */
    ADDRESS_NO_DOMAIN = 2,  /* a local part alone is enough: <postmaster>, sendmail(1) */
    ADDRESS_NULL = 4,       /* the null reverse-path <> is allowed */
    ADDRESS_SHORT_LOCAL = 8 /* refuse local parts over ADDRESS_LOCAL_MAX */
};

struct address {
    uint16_t len;   /* of text; 0: the null sender */
    uint16_t local; /* length of the local part; equals len without a domain */
    bool literal;   /* the domain is an address literal */
    bool utf8;      /* holds non-ASCII bytes */
    char text[ADDRESS_MAX + 1];
};

/* Parses all of s as a Mailbox without angle brackets. ERR_SYNTAX or ERR_LIMIT. */
int address_parse(struct address *out, struct slice s, unsigned flags) MUST_USE;
/* Parses "<...>" at the beginning of *rest, ignoring a source route, and leaves *rest behind
 * the '>'. */
int address_parse_path(struct address *out, struct slice *rest, unsigned flags) MUST_USE;

/* Views into a; valid while it lives. */
struct slice address_text(const struct address *a);
struct slice address_local(const struct address *a);
struct slice address_domain(const struct address *a);
bool address_equal(const struct address *a, const struct address *b);

/* The local part with quotes and backslashes resolved, into out (ADDRESS_MAX + 1 bytes); returns
 * the slice of out. */
struct slice address_local_plain(const struct address *a, char *out);
/* Builds local@domain in normal form from plain parts, quoting the local part as needed. */
int address_make(struct address *out, struct slice local, struct slice domain) MUST_USE;
/* Splits user+detail at the first sep that is not the first byte; without one, *detail is empty
 * with p == NULL and *user is all of local. */
void address_split_detail(struct slice local, char sep, struct slice *user, struct slice *detail);
/* Cuts a normal-form address at its last '@'. False without one. */
bool address_cut(struct slice text, struct slice *local, struct slice *domain);
/* Whether s is a host name: labels of letters, digits, hyphens (and underscores), at most 63
 * octets each and 253 in all. */
bool address_is_hostname(struct slice s, bool utf8);
/* Whether s is an address literal in brackets: IPv4, or IPv6 with its tag. */
bool address_is_literal(struct slice s);
