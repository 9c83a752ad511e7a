/*
 * SMTP command lines: RFC 5321 §4.1, the parameters of MAIL and RCPT (RFC 1870 SIZE, 6152 BODY,
 * 3461 DSN, 4865 FUTURERELEASE, 4954 AUTH=, 6531 SMTPUTF8, 6710 MT-PRIORITY), xtext.
 *
 * Parsing allocates nothing; decoded values live in the caller's arena.
 */
#pragma once

#include "libmail/address.h"
#include "libmail/envelope.h"
#include "libutil/arena.h"
#include "libutil/buf.h"

/* A line without its CRLF, cut into the verb and what follows the space after it. */
struct smtp_command {
    struct slice verb;
    struct slice args;
};

struct smtp_command smtp_command_split(struct slice line);

/* What a server refuses a command with. */
struct smtp_refusal {
    unsigned code;
    const char *dsn;
    const char *text;
};

/* Extensions a session has offered; a parameter of another is 555 5.5.4. */
enum smtp_extension {
    SMTP_EXT_SIZE = 1 << 0,
    SMTP_EXT_8BITMIME = 1 << 1,
    SMTP_EXT_DSN = 1 << 2,
    SMTP_EXT_AUTH = 1 << 3,
    SMTP_EXT_SMTPUTF8 = 1 << 4,
    SMTP_EXT_MT_PRIORITY = 1 << 5,
    SMTP_EXT_FUTURERELEASE = 1 << 6,
    SMTP_EXT_BINARYMIME = 1 << 7
};

struct smtp_mail {
    struct address sender;
    bool has_size;
    uint64_t size;
    enum envelope_body body;
    enum envelope_ret ret;
    struct slice envid; /* decoded */
    struct slice auth;  /* decoded AUTH= value; "<>" when so given; empty: not given */
    bool smtputf8;
    int64_t priority;
    int64_t hold_for;   /* HOLDFOR: ms; 0: not given */
    int64_t hold_until; /* HOLDUNTIL: ms since 1970; 0: not given */
};

struct smtp_rcpt {
    struct address recipient;
    unsigned notify;    /* NOTIFY_ set; 0: not given */
    struct slice orcpt; /* addr-type;decoded address */
};

/* Parses what follows "MAIL " / "RCPT ". 0, or ERR_SYNTAX with *why filled. */
int smtp_parse_mail(struct slice args, unsigned extensions, struct arena *, struct smtp_mail *out,
    struct smtp_refusal *why) MUST_USE;
int smtp_parse_rcpt(struct slice args, unsigned extensions, bool smtputf8, struct arena *,
    struct smtp_rcpt *out, struct smtp_refusal *why) MUST_USE;

/* RFC 3461 §4. Decoding refuses what xtext does not allow. */
int xtext_decode(struct slice in, struct buf *out) MUST_USE;
int xtext_encode(struct slice in, struct buf *out);
