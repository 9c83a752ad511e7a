/* log, trace: reading the log file. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/logline.h"
#include "libutil/field.h"
#include "libutil/log.h"
#include "libutil/map.h"

struct filter {
    const char *qid, *sid, *daemon, *event;
    enum log_level least;
};

struct reading {
    FILE *file;
    ino_t inode;
    char *line;
    size_t cap;
};

static const char *log_path(struct ctl *c)
{
    const struct conf *conf = ctl_conf(c);
    return conf ? conf_list_at(conf_one(conf, "log"), "to", 1).p : NULL;
}

static bool reading_open(struct reading *r, const char *path)
{
    struct stat st;
    r->file = fopen(path, "re");
    if (!r->file)
        return false;
    r->inode = fstat(fileno(r->file), &st) == 0 ? st.st_ino : 0;
    return true;
}

/* The next complete line without its newline. A line still being written is left for later. */
static bool reading_next(struct reading *r, struct slice *line)
{
    long at = ftell(r->file);
    ssize_t n = getline(&r->line, &r->cap, r->file);
    if (n <= 0 || r->line[n - 1] != '\n') {
        clearerr(r->file);
        fseek(r->file, at, SEEK_SET);
        return false;
    }
    *line = slice_from(r->line, (size_t)n - 1);
    return true;
}

static void reading_close(struct reading *r)
{
    if (r->file)
        fclose(r->file);
    free(r->line);
}

/* A line says its level when it is not info. */
static enum log_level level_of(const struct logline *l)
{
    struct buf value;
    buf_init(&value, 64);
    enum log_level level =
        logline_get(l, "level", &value) ? log_level_of(buf_slice(&value)) : LOG_INFO;
    buf_clear(&value);
    return level;
}

static bool wanted(const struct filter *f, const struct logline *l)
{
    return (!f->daemon || slice_is(l->program, f->daemon)) &&
           (!f->qid || logline_has(l, "qid", f->qid)) &&
           (!f->sid || logline_has(l, "sid", f->sid)) &&
           (!f->event || logline_has(l, "event", f->event)) &&
           (f->least == LOG_DEBUG || level_of(l) >= f->least);
}

static void print_line(const struct ctl *c, struct slice text, const struct logline *l)
{
    if (!c->json) {
        printf("%.*s\n", SLICE_FMT(text));
        return;
    }
    struct buf b;
    buf_init(&b, 65536);
    logline_json(l, &b);
    printf("%.*s\n", SLICE_FMT(buf_slice(&b)));
    buf_clear(&b);
}

static void print_new(const struct ctl *c, struct reading *r, const struct filter *f)
{
    struct slice text;
    struct logline l;
    while (reading_next(r, &text))
        if (logline_parse(text, &l) && wanted(f, &l))
            print_line(c, text, &l);
    fflush(stdout);
}

/* Goes on when the file is moved away and a new one made. */
static void follow(const struct ctl *c, struct reading *r, const char *path, const struct filter *f)
{
    struct stat st;
    for (;;) {
        print_new(c, r, f);
        if (ferror(stdout))
            return;
        usleep(200000);
        if (stat(path, &st) != 0 || st.st_ino == r->inode)
            continue;
        print_new(c, r, f);
        fclose(r->file);
        while (!reading_open(r, path))
            usleep(200000);
    }
}

static bool take_level(const char *name, enum log_level *level)
{
    *level = log_level_of(slice_of(name));
    return *level != LOG_INFO || strcmp(name, "info") == 0;
}

static int show_log(struct ctl *c, int argc, char **argv)
{
    struct reading r = {0};
    struct filter f = {.qid = ctl_option(&argc, argv, "--qid"),
        .sid = ctl_option(&argc, argv, "--sid"),
        .daemon = ctl_option(&argc, argv, "--daemon"),
        .event = ctl_option(&argc, argv, "--event")};
    const char *level = ctl_option(&argc, argv, "--level");
    bool following = ctl_flag(&argc, argv, "--follow") || ctl_flag(&argc, argv, "-f");
    bool from_now = ctl_flag(&argc, argv, "--new");
    if (argc != 0)
        return ctl_usage(c);
    if (level && !take_level(level, &f.least))
        return ctl_fail(
            CTL_USAGE, "--level %s: debug, info, notice, warn or error is needed", level);
    const char *path = log_path(c);
    if (!path)
        return CTL_NO;
    if (!reading_open(&r, path))
        return ctl_fail(CTL_NO, "%s: %s", path, strerror(errno));
    if (from_now)
        fseek(r.file, 0, SEEK_END);
    if (following)
        follow(c, &r, path, &f);
    else
        print_new(c, &r, &f);
    reading_close(&r);
    return CTL_OK;
}

/* --- trace ---------------------------------------------------------------------------------- */

struct trace {
    const char *what;
    struct map ids; /* "qid=..." and "sid=..." that belong to the story */
};

static char known;

static void remember(struct trace *t, const struct logline *l, const char *key)
{
    struct buf value;
    char id[80];
    buf_init(&value, 4096);
    if (logline_get(l, key, &value) && buf_len(&value)) {
        int n = snprintf(id, sizeof(id), "%s=%.*s", key, SLICE_FMT(buf_slice(&value)));
        if (n > 0 && (size_t)n < sizeof(id))
            map_set(&t->ids, slice_of(id), &known);
    }
    buf_clear(&value);
}

static bool belongs(const struct trace *t, const struct logline *l, const char *key)
{
    struct buf value;
    char id[80];
    bool found = false;
    buf_init(&value, 4096);
    if (logline_get(l, key, &value)) {
        int n = snprintf(id, sizeof(id), "%s=%.*s", key, SLICE_FMT(buf_slice(&value)));
        found = n > 0 && (size_t)n < sizeof(id) && map_get(&t->ids, slice_of(id));
    }
    buf_clear(&value);
    return found;
}

/* A Message-ID may be given with or without its angle brackets. */
static bool is_message_id(const struct logline *l, const char *what)
{
    char bracketed[1024];
    snprintf(bracketed, sizeof(bracketed), "<%s>", what);
    return logline_has(l, "message_id", what) || logline_has(l, "message_id", bracketed);
}

static bool names_message(const struct logline *l, const char *what)
{
    return logline_has(l, "qid", what) || is_message_id(l, what) ||
           ((logline_has(l, "from", what) || logline_has(l, "to", what)) &&
               !logline_has(l, "event", "smtp.reject"));
}

/* Which messages are meant: by queue id, Message-ID, address or session. */
static void collect(struct trace *t, struct reading *r)
{
    struct slice text;
    struct logline l;
    while (reading_next(r, &text)) {
        if (!logline_parse(text, &l))
            continue;
        if (logline_has(&l, "sid", t->what))
            remember(t, &l, "sid");
        if (names_message(&l, t->what))
            remember(t, &l, "qid");
    }
    /* The session that accepted a message belongs to its story. */
    rewind(r->file);
    while (reading_next(r, &text))
        if (logline_parse(text, &l) && logline_has(&l, "event", "msg.accept") &&
            belongs(t, &l, "qid"))
            remember(t, &l, "sid");
    rewind(r->file);
}

static bool in_story(const struct trace *t, const struct logline *l)
{
    struct buf qid;
    buf_init(&qid, 4096);
    bool has_qid = logline_get(l, "qid", &qid);
    buf_clear(&qid);
    return has_qid ? belongs(t, l, "qid") : belongs(t, l, "sid");
}

/* "14:02:00.544  dlv.done  field=value ..." */
static void print_step(const struct logline *l)
{
    struct buf value;
    struct slice rest = l->fields, key;
    buf_init(&value, 16384);
    logline_get(l, "event", &value);
    struct slice clock = slice_first(slice_from_index(l->time, 11), 12);
    printf("%.*s  %-14.*s", SLICE_FMT(clock), SLICE_FMT(buf_slice(&value)));
    while (logline_next(&rest, &key, &value)) {
        if (slice_is(key, "event"))
            continue;
        struct buf quoted;
        buf_init(&quoted, 65536);
        field_print_str(&quoted, buf_slice(&value));
        printf(" %.*s=%.*s", SLICE_FMT(key), SLICE_FMT(buf_slice(&quoted)));
        buf_clear(&quoted);
    }
    putchar('\n');
    buf_clear(&value);
}

static int trace(struct ctl *c, int argc, char **argv)
{
    struct reading r = {0};
    struct slice text;
    struct logline l;
    size_t steps = 0;
    if (argc != 1)
        return ctl_usage(c);
    const char *path = log_path(c);
    if (!path)
        return CTL_NO;
    if (!reading_open(&r, path))
        return ctl_fail(CTL_NO, "%s: %s", path, strerror(errno));
    struct trace t = {.what = argv[0]};
    map_init(&t.ids);
    collect(&t, &r);
    while (reading_next(&r, &text)) {
        if (!logline_parse(text, &l) || !in_story(&t, &l))
            continue;
        steps++;
        if (c->json)
            print_line(c, text, &l);
        else
            print_step(&l);
    }
    map_clear(&t.ids);
    reading_close(&r);
    return steps ? CTL_OK : ctl_fail(CTL_NO, "%s: nothing in %s", argv[0], path);
}

const struct ctl_verb log_verbs[] = {
    {"log", NULL,
        "[--follow] [--new] [--qid ID] [--sid ID] [--daemon NAME] [--event NAME] [--level LEVEL] "
        "[--json]",
        "Print the log, filtered by message, session, daemon, event or level.", show_log},
    {"trace", NULL, "QUEUE-ID | SESSION-ID | ADDRESS | MESSAGE-ID",
        "Tell the story of a message, from connection to last recipient.", trace},
    {0}};
