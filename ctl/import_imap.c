/*
 * mailbox import from an IMAP server. The connection is made, and password and authorities are
 * read, by who called; then a child becomes the mailbox's owner, confines itself to the mail
 * directory and the descriptors it has, and only then reads what the server sends.
 */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/import.h"
#include "ctl/import_run.h"
#include "ctl/mailuser.h"
#include "libutil/file.h"
#include "libutil/net.h"
#include "libutil/sandbox.h"

enum { ANSWER_SECONDS = 300, CA_MAX = 8 << 20 };

static const char *const authorities[] = {
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

/* One line of a file, or of standard input. */
static int read_password(const char *path, char out[IMPORT_PASSWORD], struct error *err)
{
    FILE *in = path ? fopen(path, "r") : stdin;
    if (!in)
        return error_sys(err, "%s", path);
    bool got = fgets(out, IMPORT_PASSWORD, in) != NULL;
    if (path)
        fclose(in);
    out[got ? strcspn(out, "\r\n") : 0] = '\0';
    return out[0] ? OK : error_set(err, ERR_SYNTAX, "the password is empty");
}

static int connect_to(const char *host, uint16_t port, int *fd, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    int rc = getaddrinfo(host, service, &hints, &all);
    if (rc)
        return error_set(err, ERR_TEMP, "%s: %s", host, gai_strerror(rc));
    *fd = -1;
    for (const struct addrinfo *a = all; a && *fd < 0; a = a->ai_next) {
        const struct timeval limit = {.tv_sec = ANSWER_SECONDS};
        *fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (*fd < 0)
            continue;
        setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        if (connect(*fd, a->ai_addr, a->ai_addrlen))
            fd_close(fd);
    }
    freeaddrinfo(all);
    if (*fd >= 0)
        return OK;
    error_sys(err, "%s:%u", host, port);
    return err->code = ERR_TEMP;
}

static int load_tls(const char *ca, bool insecure, struct tls_context **out, struct error *err)
{
    struct buf pem;
    int rc = insecure ? OK : ERR_NOT_FOUND;
    buf_init(&pem, CA_MAX);
    if (ca && !insecure)
        rc = file_read(ca, &pem, err);
    for (size_t i = 0; !ca && rc && i < ARRAY_LEN(authorities); i++)
        rc = file_read(authorities[i], &pem, err);
    if (rc)
        error_set(err, rc, "%s: no certificate authorities to verify the server with",
            ca ? ca : authorities[0]);
    else if (!(*out = tls_client_new(buf_slice(&pem), !insecure, err)))
        rc = err->code;
    else
        rc = tls_warm_up(*out, err);
    buf_clear(&pem);
    return rc;
}

/* The child: never returns to the caller's work. */
static int confined(struct ctl *c, struct import_args *a)
{
    static const struct sandbox_profile row = {
        .name = "import", .calls = SANDBOX_FILES_READ | SANDBOX_FILES_WRITE};
    struct store *store;
    struct error err = {0};
    int rc = mailuser_open(c, a->user, true, NULL, &store, &err);
    struct sandbox_filter *filter = rc ? NULL : sandbox_filter_new(&row, &err);
    if (!rc)
        rc = filter ? sandbox_tighten(filter, store_dirfd(store), &err) : err.code;
    if (rc)
        return ctl_report(&err);
    int status = import_run(a, store);
    fflush(stdout);
    return status;
}

static int start(struct ctl *c, struct import_args *a)
{
    int status = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(confined(c, a));
    explicit_bzero(a->password, sizeof(a->password));
    if (pid < 0)
        return ctl_fail(CTL_NO, "fork: %s", strerror(errno));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return CTL_NO;
    if (WIFSIGNALED(status))
        return ctl_fail(CTL_TEMPORARY, "the import was ended by signal %d: run it again to go on",
            WTERMSIG(status));
    return WEXITSTATUS(status);
}

static int take_maps(struct import_args *a, int *argc, char **argv)
{
    const char *map;
    while ((map = ctl_option(argc, argv, "--map"))) {
        const char *to = strchr(map, '=');
        if (!to || to == map || !to[1] || a->nmaps == IMPORT_MAPS)
            return ERR_SYNTAX;
        a->maps[a->nmaps++] = map;
    }
    return OK;
}

static int take_tls(struct import_args *a, const char *tls)
{
    if (!tls)
        a->tls = a->port == 993 ? IMPORT_TLS_IMPLICIT : IMPORT_TLS_STARTTLS;
    else if (strcmp(tls, "implicit") == 0)
        a->tls = IMPORT_TLS_IMPLICIT;
    else if (strcmp(tls, "starttls") == 0)
        a->tls = IMPORT_TLS_STARTTLS;
    else if (strcmp(tls, "none") == 0)
        a->tls = IMPORT_TLS_NONE;
    else
        return ERR_SYNTAX;
    return OK;
}

int import_imap(struct ctl *c, int argc, char **argv)
{
    struct import_args a = {.fd = -1};
    struct error err = {0};
    struct slice host;
    bool bracketed;
    const char *tls = ctl_option(&argc, argv, "--tls"), *ca = ctl_option(&argc, argv, "--ca");
    const char *file = ctl_option(&argc, argv, "--password-file");
    bool from_stdin = ctl_flag(&argc, argv, "--password-stdin");
    bool insecure = ctl_flag(&argc, argv, "--insecure");
    a.dry = ctl_flag(&argc, argv, "--dry-run");
    a.json = c->json;
    a.login = ctl_option(&argc, argv, "--login");
    a.folder = ctl_option(&argc, argv, "--folder");
    a.port = tls && strcmp(tls, "implicit") != 0 ? 143 : 993;
    if (take_maps(&a, &argc, argv) || argc != 3 || !a.login || !file == !from_stdin ||
        net_hostport_parse(slice_of(argv[2]), &host, &bracketed, &a.port) ||
        !slice_to_cstr(host, a.host, sizeof(a.host)) || take_tls(&a, tls))
        return ctl_usage(c);
    a.user = argv[0];
    if (!ctl_conf(c))
        return CTL_NO;
    signal(SIGPIPE, SIG_IGN);
    int rc = read_password(file, a.password, &err);
    if (!rc && a.tls != IMPORT_TLS_NONE)
        rc = load_tls(ca, insecure, &a.context, &err);
    if (!rc)
        rc = connect_to(a.host, a.port, &a.fd, &err);
    int status = rc ? ctl_report(&err) : start(c, &a);
    explicit_bzero(a.password, sizeof(a.password));
    fd_close(&a.fd);
    tls_context_free(a.context);
    return status;
}
