/* sendmail(1), mailq(1), newaliases(1): the customary ways into the mail system. A letter goes
 * over the local socket as SMTP; the kernel tells the system who sends it. */
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "ctl/alias.h"
#include "ctl/ctl.h"
#include "ctl/letter.h"
#include "ctl/socket.h"
#include "ctl/submit.h"
#include "libmail/address.h"
#include "libmail/header.h"
#include "libmail/smtp_grammar.h"
#include "libutil/conf.h"
#include "libutil/log.h"
#include "libutil/table.h"

enum mode { MODE_SEND, MODE_SMTP, MODE_QUEUE, MODE_ALIASES, MODE_FLUSH };

struct sendmail {
    enum mode mode;
    bool from_header; /* -t */
    bool keep_dots;   /* -i */
    bool verbose;
    const char *sender, *full_name, *config;
    const char *notify, *ret, *envid;
    bool eight_bit;
    char conf_path[PATH_MAX], directory[PATH_MAX];
    struct conf *conf; /* NULL: not readable */
    struct letter letter;
    struct submit submit;
    struct buf recipients; /* one a line */
    unsigned nrecipients, refused;
    int status; /* of the first refusal */
};

static int complain(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int complain(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("sendmail: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return status;
}

static int usage(void)
{
    fputs("usage: sendmail [-bm|-bs|-bp|-bi|-q] [-tiv] [-f SENDER] [-F NAME] [-N CONDITIONS]\n"
          "                [-R full|hdrs] [-V ENVID] [-C FILE] [RECIPIENT ...]\n",
        stderr);
    return EX_USAGE;
}

/* --- the instance ------------------------------------------------------------------------------
 */

/* The configuration names the directory; where it cannot be read, the directory it lies in. */
static bool find_instance(struct sendmail *s)
{
    const char *dir = getenv("VEREDUS_DIR");
    struct error err = {0};
    int n;
    if (s->config || !dir || !*dir)
        n = snprintf(
            s->conf_path, sizeof(s->conf_path), "%s", s->config ? s->config : VEREDUS_CONF);
    else
        n = snprintf(s->conf_path, sizeof(s->conf_path), "%s/veredus.conf", dir);
    if (n < 0 || (size_t)n >= sizeof(s->conf_path))
        return false;
    s->conf = conf_load(s->conf_path, NULL, &err);
    if (s->conf)
        return slice_to_cstr(
            conf_string(conf_root(s->conf), "directory"), s->directory, sizeof(s->directory));
    memcpy(s->directory, s->conf_path, sizeof(s->directory));
    char *slash = strrchr(s->directory, '/');
    if (slash)
        *slash = '\0';
    return slash != NULL;
}

/* Becomes `veredus -c FILE queue VERB`, which lies beside us. */
static int run_queue(const struct sendmail *s, const char *verb)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
    path[MAX(n, 0)] = '\0';
    char *slash = strrchr(path, '/');
    if (slash) {
        memcpy(slash, "/veredus", sizeof("/veredus"));
        execl(path, path, "-c", s->conf_path, "queue", verb, (char *)NULL);
    }
    return complain(EX_OSFILE, "%s: %s", path, strerror(errno));
}

static int build_aliases(const struct sendmail *s)
{
    struct error err = {0};
    if (!s->conf)
        return complain(EX_CONFIG, "%s cannot be read", s->conf_path);
    if (!conf_isset(conf_root(s->conf), "aliases"))
        return complain(EX_CONFIG, "%s: no aliases are configured", s->conf_path);
    struct slice spec = conf_string(conf_root(s->conf), "aliases");
    int rc = table_build_aliases(spec, alias_warn_repeated, NULL, &err);
    if (rc == ERR_UNSUPPORTED) {
        printf("%.*s is read as it is: nothing to build\n", SLICE_FMT(spec));
        return EX_OK;
    }
    return rc ? complain(EX_CANTCREAT, "%s", err.text) : EX_OK;
}

/* --- envelope -----------------------------------------------------------------------------------
 */

static int add_address(struct slice local, struct slice domain, void *arg)
{
    struct sendmail *s = arg;
    struct address a;
    int rc = address_make(&a, local, domain);
    if (rc)
        return rc;
    s->nrecipients++;
    return buf_printf(&s->recipients, "%s\n", a.text);
}

/* A recipient argument may be a list, with names and comments. */
static int add_argument(struct sendmail *s, const char *text)
{
    struct letter words;
    struct error err = {0};
    letter_init(&words, -1, false);
    int rc = letter_add_field(&words, "To", slice_of(text));
    if (rc == OK)
        rc = letter_recipients(&words, add_address, s, &err);
    letter_clear(&words);
    return rc ? complain(EX_USAGE, "%s: not an address", text) : EX_OK;
}

static const char *user_name(char *room, size_t size)
{
    const struct passwd *pw = getpwuid(getuid());
    if (pw)
        snprintf(room, size, "%s", pw->pw_name);
    else
        snprintf(room, size, "uid-%u", (unsigned)getuid());
    return room;
}

/* -f as given, with or without brackets; else the account that runs us. */
static int envelope_sender(const struct sendmail *s, struct address *a)
{
    char room[128];
    struct slice text = slice_of(s->sender);
    if (!s->sender)
        text = slice_of(user_name(room, sizeof(room)));
    if (text.n == 0)
        text = SLICE_LIT("<>");
    unsigned flags = ADDRESS_NULL | ADDRESS_NO_DOMAIN | ADDRESS_UTF8;
    return text.p[0] == '<' ? address_parse_path(a, &text, flags) : address_parse(a, text, flags);
}

/* A From field with the user's name; without a name the system adds one itself. */
static int add_from(struct sendmail *s, const struct address *sender)
{
    struct header_field f;
    struct buf b;
    const char *name = s->full_name;
    if (!name || !*name || sender->len == 0 || !s->conf ||
        header_find(buf_slice(&s->letter.header), "From", &f))
        return OK;
    buf_init(&b, 2048);
    (void)buf_putc(&b, '"');
    for (; *name; name++)
        if ((unsigned char)*name >= 32 && *name != '"' && *name != '\\')
            (void)buf_putc(&b, *name);
    (void)buf_printf(&b, "\" <%s", sender->text);
    if (address_domain(sender).n == 0)
        (void)buf_printf(&b, "@%.*s", SLICE_FMT(conf_string(conf_root(s->conf), "hostname")));
    int rc = buf_putc(&b, '>');
    if (rc == OK)
        rc = letter_add_field(&s->letter, "From", buf_slice(&b));
    buf_clear(&b);
    return rc;
}

/* --- the dialogue
 * --------------------------------------------------------------------------------- */

/* What the latest failure means to our caller. */
static int exit_status(const struct sendmail *s, int rc)
{
    const struct smtp_reply *r = &s->submit.reply;
    if (rc != ERR_DENIED || r->code < 500)
        return EX_TEMPFAIL;
    if (strcmp(r->dsn, "5.1.1") == 0 || strcmp(r->dsn, "5.1.3") == 0)
        return EX_NOUSER;
    if (strcmp(r->dsn, "5.1.2") == 0)
        return EX_NOHOST;
    if (strcmp(r->dsn, "5.6.0") == 0)
        return EX_DATAERR;
    return EX_UNAVAILABLE;
}

/* Says what was refused and returns the exit status. */
static int refused(struct sendmail *s, struct slice what, int rc, const struct error *err)
{
    struct buf b;
    int status = exit_status(s, rc);
    if (rc != ERR_DENIED)
        return complain(status, "%s", err->text);
    buf_init(&b, 4096);
    smtp_reply_print(&s->submit.reply, &b);
    complain(status, "%.*s%s%.*s", SLICE_FMT(what), what.n ? ": " : "", SLICE_FMT(buf_slice(&b)));
    buf_clear(&b);
    return status;
}

static int say_mail(struct sendmail *s, const struct address *sender, struct error *err)
{
    struct buf b;
    buf_init(&b, 2048);
    if (s->eight_bit)
        (void)buf_puts(&b, " BODY=8BITMIME");
    if (!slice_is_ascii(slice_of(sender->text)) || !slice_is_ascii(buf_slice(&s->recipients)))
        (void)buf_puts(&b, " SMTPUTF8");
    if (s->ret)
        (void)buf_printf(&b, " RET=%s", s->ret);
    if (s->envid) {
        (void)buf_puts(&b, " ENVID=");
        (void)xtext_encode(slice_of(s->envid), &b);
    }
    int rc = submit_command(
        &s->submit, err, "MAIL FROM:<%s>%.*s", sender->text, SLICE_FMT(buf_slice(&b)));
    buf_clear(&b);
    return rc;
}

/* Every recipient; the letter goes to those that are taken. */
static int say_recipients(struct sendmail *s, struct error *err)
{
    struct slice rest = buf_slice(&s->recipients);
    while (rest.n) {
        struct slice to = slice_cut(&rest, '\n');
        int rc = submit_command(&s->submit, err, "RCPT TO:<%.*s>%s%s", SLICE_FMT(to),
            s->notify ? " NOTIFY=" : "", s->notify ? s->notify : "");
        if (rc == OK)
            continue;
        int status = refused(s, to, rc, err);
        if (s->refused++ == 0)
            s->status = status;
        if (rc != ERR_DENIED || s->submit.reply.code == 421)
            return ERR_CLOSED;
    }
    return s->refused == s->nrecipients ? ERR_NOT_FOUND : OK;
}

static int send_letter(struct sendmail *s, struct error *err)
{
    struct letter *l = &s->letter;
    int rc = submit_content(&s->submit, buf_slice(&l->header), err);
    if (rc == OK)
        rc = submit_content(&s->submit, SLICE_LIT("\r\n"), err);
    do {
        if (rc == OK)
            rc = submit_content(&s->submit, buf_slice(&l->text), err);
        buf_reset(&l->text);
    } while (rc == OK && letter_read(l, &rc, err));
    return rc ? rc : submit_end(&s->submit, err);
}

static int deliver(struct sendmail *s, const struct address *sender)
{
    struct error err = {0};
    struct slice none = {NULL, 0};
    int rc = submit_command(&s->submit, &err, "EHLO localhost");
    if (rc == OK)
        rc = say_mail(s, sender, &err);
    if (rc)
        return refused(s, none, rc, &err);
    if (say_recipients(s, &err) != OK)
        return s->status;
    rc = submit_command(&s->submit, &err, "DATA");
    if (rc == OK)
        rc = send_letter(s, &err);
    if (rc)
        return refused(s, none, rc, &err);
    (void)!submit_command(&s->submit, &err, "QUIT");
    return s->status;
}

static int send_mode(struct sendmail *s, int argc, char **argv)
{
    struct error err = {0};
    struct address sender;
    buf_init(&s->recipients, 64 * 1024 * 1024);
    letter_init(&s->letter, STDIN_FILENO, !s->keep_dots);
    for (int i = 0; i < argc; i++)
        if (add_argument(s, argv[i]) != EX_OK)
            return EX_USAGE;
    if (envelope_sender(s, &sender))
        return complain(EX_USAGE, "%s: not an address", s->sender);
    if (letter_read_header(&s->letter, &err))
        return complain(err.code == ERR_IO ? EX_IOERR : EX_DATAERR, "%s", err.text);
    if (s->from_header && letter_recipients(&s->letter, add_address, s, &err))
        return complain(EX_DATAERR, "%s", err.text);
    if (s->nrecipients == 0)
        return complain(EX_USAGE, "no recipients");
    if (add_from(s, &sender))
        return complain(EX_DATAERR, "the letter's header is too long");
    int fd = socket_connect(s->directory, "submit", SOCK_STREAM, &err);
    if (fd < 0)
        return complain(EX_TEMPFAIL, "%s", err.text);
    int rc = submit_open(&s->submit, fd, s->verbose, &err);
    int status = rc ? refused(s, slice_of(NULL), rc, &err) : deliver(s, &sender);
    submit_close(&s->submit);
    return status;
}

static int smtp_mode(struct sendmail *s)
{
    struct error err = {0};
    int fd = socket_connect(s->directory, "submit", SOCK_STREAM, &err);
    if (fd < 0)
        return complain(EX_TEMPFAIL, "%s", err.text);
    int rc = submit_relay(fd, &err);
    fd_close(&fd);
    return rc ? complain(EX_IOERR, "%s", err.text) : EX_OK;
}

/* --- options
 * --------------------------------------------------------------------------------------- */

static bool set_mode(struct sendmail *s, const char *arg)
{
    static const struct {
        char letter;
        enum mode mode;
    } modes[] = {{'m', MODE_SEND}, {'s', MODE_SMTP}, {'p', MODE_QUEUE}, {'i', MODE_ALIASES}};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (arg[0] == modes[i].letter && arg[1] == '\0') {
            s->mode = modes[i].mode;
            return true;
        }
    complain(0, "-b%s is not supported: see sendmail(1)", arg);
    return false;
}

/* Options of which only the spelling matters have an empty case: there is nothing here that they
 * could change. */
static bool set_option(struct sendmail *s, int opt, const char *arg)
{
    switch (opt) {
    case 'b':
        return set_mode(s, arg);
    case 'B':
        s->eight_bit = slice_iis(slice_of(arg), "8BITMIME");
        return true;
    case 'C':
        s->config = arg;
        return true;
    case 'F':
        s->full_name = arg;
        return true;
    case 'f':
    case 'r':
        s->sender = arg;
        return true;
    case 'I':
        s->mode = MODE_ALIASES;
        return true;
    case 'i':
        s->keep_dots = true;
        return true;
    case 'N':
        s->notify = arg;
        return true;
    case 'o':
        s->keep_dots |= strcmp(arg, "i") == 0;
        return true;
    case 'q':
        s->mode = MODE_FLUSH;
        return true;
    case 'R':
        s->ret = arg;
        return true;
    case 't':
        s->from_header = true;
        return true;
    case 'V':
        s->envid = arg;
        return true;
    case 'v':
        s->verbose = true;
        return true;
    default:
        return opt != '?' && strchr("AdDGhLmnOpUX", opt);
    }
}

static int run(struct sendmail *s, int argc, char **argv)
{
    if (!find_instance(s))
        return complain(EX_CONFIG, "the name of the instance's directory is too long");
    switch (s->mode) {
    case MODE_SMTP:
        return smtp_mode(s);
    case MODE_QUEUE:
        return run_queue(s, "list");
    case MODE_FLUSH:
        return run_queue(s, "flush");
    case MODE_ALIASES:
        return build_aliases(s);
    case MODE_SEND:
        break;
    }
    return send_mode(s, argc, argv);
}

int main(int argc, char **argv)
{
    struct sendmail s = {0};
    const char *name = strrchr(argv[0], '/');
    int opt;
    name = name ? name + 1 : argv[0];
    log_setup("sendmail", LOG_WARN);
    signal(SIGPIPE, SIG_IGN); /* a write that fails tells why */
    if (strcmp(name, "mailq") == 0)
        s.mode = MODE_QUEUE;
    else if (strcmp(name, "newaliases") == 0)
        s.mode = MODE_ALIASES;
    while ((opt = getopt(argc, argv, "A:B:b:C:D:d::F:f:Gh:IiL:mN:nO:o:p:q::R:r:tUV:vX:")) != -1)
        if (!set_option(&s, opt, optarg))
            return usage();
    int status = run(&s, argc - optind, argv + optind);
    letter_clear(&s.letter);
    buf_clear(&s.recipients);
    conf_free(s.conf);
    if (fflush(stdout) != 0 || ferror(stdout))
        return EX_IOERR;
    return status;
}
