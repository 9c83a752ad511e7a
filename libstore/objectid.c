/* Object ids (RFC 8474 §4): a letter for the kind, so that no two kinds ever look alike. */
#include "libstore/view.h"

static void put_id(char kind, const void *bytes, size_t n, char out[STORE_OBJECTID])
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = bytes;
    size_t at = 0;
    assert(2 * n + 2 <= STORE_OBJECTID);
    out[at++] = kind;
    for (size_t i = 0; i < n; i++) {
        out[at++] = digits[p[i] >> 4];
        out[at++] = digits[p[i] & 15];
    }
    out[at] = '\0';
}

void store_email_id(const unsigned char guid[STORE_GUID], char out[STORE_OBJECTID])
{
    put_id('M', guid, STORE_EMAIL, out);
}

void store_thread_id(
    uint64_t thread, const unsigned char guid[STORE_GUID], char out[STORE_OBJECTID])
{
    /* A message without any message id is a thread of its own. */
    if (thread)
        put_id('T', &thread, sizeof(thread), out);
    else
        put_id('T', guid, STORE_EMAIL, out);
}

void store_mailbox_id(uint64_t mailbox, char out[STORE_OBJECTID])
{
    put_id('F', &mailbox, sizeof(mailbox), out);
}

uint64_t store_mailbox_number(const struct store_mailbox *mb)
{
    return mb->box->head.mailbox_id;
}
