#include "qmgr/offline.h"

#include <fcntl.h>
#include <unistd.h>

#include "libmail/proto/queue.h"
#include "qmgr/message.h"

struct offline {
    struct disk *disk;
    bool failed;
};

static void write_entry(
    struct offline *o, const struct message *m, struct slice state, struct slice trouble)
{
    struct queue_entry e = {.qid = m->qid,
        .size = m->size,
        .sender = SLICE_LIT(""),
        .recipient = SLICE_LIT(""),
        .state = state,
        .reason = trouble};
    message_describe(m, m->content, &e);
    struct buf record, out;
    buf_init(&record, 65536);
    buf_init(&out, 65536);
    if (record_put(&record, &queue_entry_record, &e) == OK &&
        buf_lv(&out, buf_slice(&record)) == OK)
        o->failed |= fwrite(out.data, 1, buf_len(&out), stdout) != buf_len(&out);
    buf_clear(&record);
    buf_clear(&out);
}

static void found_message(struct spool_found *found, void *arg)
{
    struct message *m = message_new(found->qid, found->accept.size);
    struct error err = {.text = ""};
    bool good = message_load_record(m, &found->record, &err) == OK;
    for (size_t i = 0; good && i < found->ndone; i++)
        if (found->done[i] < m->content->count)
            m->content->rcpts[found->done[i]].st.state = RCPT_DONE;
    write_entry(arg, m, good ? SLICE_LIT("active") : SLICE_LIT("damaged"), slice_of(err.text));
    message_free(m);
}

static void found_parked(uint64_t qid, uint64_t size, int64_t due, void *arg)
{
    struct offline *o = arg;
    struct message *m = message_new(qid, size);
    struct error err = {.text = ""};
    m->parked = true;
    m->due_wall = due;
    bool good = message_load_parked(m, o->disk, &err) == OK;
    write_entry(o, m,
        !good     ? SLICE_LIT("damaged")
        : m->held ? SLICE_LIT("held")
                  : SLICE_LIT("deferred"),
        slice_of(err.text));
    message_free(m);
}

static void found_trouble(const char *what, const char *reason, void *arg)
{
    (void)arg;
    fprintf(stderr, "qmgr: %s: %s\n", what, reason);
}

int offline_list(const char *directory)
{
    static const struct spool_found_ops ops = {found_message, found_parked, found_trouble};
    struct error err = {.text = ""};
    struct offline o = {.failed = false};
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        error_sys(&err, "%s", directory);
    } else {
        o.disk = disk_posix_read_only(fd);
        if (spool_peek(o.disk, &ops, &o, &err) == OK)
            err.text[0] = '\0';
        disk_posix_free(o.disk);
    }
    if (err.text[0])
        fprintf(stderr, "qmgr: %s\n", err.text);
    return err.text[0] || o.failed || fflush(stdout) != 0;
}
