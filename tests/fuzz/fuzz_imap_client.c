/* What an IMAP server may send to an import: the first byte says how many bytes come at a time. */
#include "ctl/imapclient.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct feed {
    struct slice rest;
    size_t step;
    int open; /* begin without end */
    uint64_t bytes;
};

static ssize_t more(void *arg, void *room, size_t n, struct error *err)
{
    struct feed *f = arg;
    (void)err;
    n = MIN(MIN(n, f->step), f->rest.n);
    if (n)
        memcpy(room, f->rest.p, n);
    f->rest = slice_from_index(f->rest, n);
    return (ssize_t)n;
}

static void see(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == 'x')
            return;
}

static void list(void *arg, const struct imap_list *l)
{
    (void)arg;
    if (l->name.n == 0)
        abort();
    see(l->name);
}

static void namespace(void *arg, struct slice prefix, char separator)
{
    (void)arg;
    (void)separator;
    see(prefix);
}

static void capability(void *arg, struct slice word)
{
    (void)arg;
    see(word);
}

static void number(void *arg, const char *what, uint64_t value)
{
    (void)arg;
    if (!*what || value > UINT32_MAX)
        abort();
}

static int begin(void *arg, struct error *err)
{
    struct feed *f = arg;
    (void)err;
    if (f->open++)
        abort();
    return OK;
}

static int piece(void *arg, struct slice s, struct error *err)
{
    struct feed *f = arg;
    (void)err;
    if (!f->open)
        abort();
    f->bytes += s.n;
    see(s);
    return OK;
}

static int end(void *arg, const struct imap_message *m, struct error *err)
{
    struct feed *f = arg;
    (void)err;
    if (!f->open--)
        abort();
    for (size_t i = 0; i < m->nkeywords; i++)
        see(m->keywords[i]);
    return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct feed f = {.rest = slice_from(data + 1, size - 1), .step = data[0] + 1U};
    const struct imap_events on = {.more = more,
        .list = list,
        .namespace = namespace,
        .capability = capability,
        .number = number,
        .begin = begin,
        .piece = piece,
        .end = end,
        .arg = &f};
    struct imap_client *c = imap_client_new(&on);
    enum imap_result result;
    struct slice text;
    struct error err;
    const char *tag = NULL;
    for (int i = 0; i < 100 && imap_client_read(c, tag, &result, &text, &err) == OK; i++) {
        see(text);
        tag = "a";
    }
    imap_client_free(c);
    return 0;
}
