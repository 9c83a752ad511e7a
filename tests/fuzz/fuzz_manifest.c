/* Manifests of backups (ctl/manifest.h), from anyone's disk. A line that is an entry must be one
 * again when it is written; names must be one word. The first byte chooses a whole file or a line.
 */
#include "ctl/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_entry(const struct entry *e)
{
    struct entry again;
    struct buf line, back;
    buf_init(&line, (size_t)4 * MANIFEST_LINE);
    buf_init(&back, (size_t)4 * MANIFEST_LINE);
    entry_print(e, &line);
    struct slice text = buf_slice(&line);
    if (line.failed || slice_chr(text, '\n') != (ssize_t)text.n - 1 ||
        entry_parse(slice_first(text, text.n - 1), &again) || again.type != e->type ||
        strcmp(again.name, e->name) != 0)
        abort();
    entry_print(&again, &back);
    if (!slice_eq(buf_slice(&back), text))
        abort();
    buf_clear(&line);
    buf_clear(&back);
}

static void one_line(struct slice line)
{
    struct entry e;
    if (entry_parse(line, &e) == OK)
        check_entry(&e);
}

static void whole_file(const uint8_t *data, size_t size)
{
    struct manifest *m;
    struct entry e;
    struct error err;
    FILE *in = fmemopen((void *)(uintptr_t)data, size, "r");
    if (!in)
        abort();
    if (manifest_open(in, "fuzz", &m, &err))
        return;
    int rc;
    while ((rc = manifest_next(m, &e, &err)) == 1)
        check_entry(&e);
    manifest_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    if (data[0] == 'L')
        one_line(slice_from((const char *)data + 1, size - 1));
    else
        whole_file(data + 1, size - 1);
    return 0;
}
