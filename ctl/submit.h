/* SMTP over the local submission socket DIR/run/submit, blocking: the client in sendmail(1). */
#pragma once

#include "libmail/smtp_data.h"
#include "libmail/smtp_reply.h"

struct submit {
    int fd;
    struct buf in, out;
    struct smtp_reply reply; /* the latest */
    bool verbose;            /* replies are printed to standard output */
    struct smtp_stuff stuff;
};

/* Takes fd (socket_connect to "submit"), and reads the greeting. A reply that is not 2xx is
 * ERR_DENIED; see reply. */
int submit_open(struct submit *, int fd, bool verbose, struct error *) MUST_USE;
void submit_close(struct submit *);
/* Sends a line (CRLF is added) and reads the reply. 0 for 2xx and 3xx, ERR_DENIED for 4xx and
 * 5xx, ERR_CLOSED or ERR_SYNTAX when the conversation broke. */
int submit_command(struct submit *, struct error *, const char *fmt, ...)
    PRINTF_LIKE(3, 4) MUST_USE;
/* Content after a 354, CRLF line ends. */
int submit_content(struct submit *, struct slice, struct error *) MUST_USE;
/* Ends the content and reads the reply. */
int submit_end(struct submit *, struct error *) MUST_USE;
/* Passes bytes between standard input and output and the socket until either ends: sendmail -bs.
 * Lines on input may end in LF. */
int submit_relay(int fd, struct error *) MUST_USE;
