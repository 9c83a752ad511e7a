#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/socket.h"
#include "libutil/password.h"
#include "libutil/proto/ctl.h"

enum { RESTART_TRIES = 50, RESTART_WAIT_US = 100000 };

int ctl_fail(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("veredus: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return status;
}

int ctl_usage(const struct ctl *c)
{
    const struct ctl_verb *v = c->verb;
    fprintf(stderr, "usage: veredus %s%s%s %s\n", v->noun, v->verb ? " " : "",
        v->verb ? v->verb : "", v->args);
    return CTL_USAGE;
}

int ctl_report(const struct error *err)
{
    bool temporary = err->code == ERR_TIMEOUT || err->code == ERR_TEMP || err->code == ERR_BUSY;
    return ctl_fail(temporary ? CTL_TEMPORARY : CTL_NO, "%s", err->text);
}

const struct conf *ctl_conf(struct ctl *c)
{
    if (c->conf)
        return c->conf;
    struct error err = {0};
    struct buf errors;
    buf_init(&errors, 65536);
    c->conf = conf_load(c->conf_path, &errors, &err);
    if (!c->conf && buf_len(&errors))
        fprintf(stderr, "%.*s", SLICE_FMT(buf_slice(&errors)));
    else if (!c->conf)
        ctl_fail(CTL_NO, "%s", err.text);
    buf_clear(&errors);
    return c->conf;
}

const char *ctl_directory(struct ctl *c)
{
    const struct conf *conf = ctl_conf(c);
    /* Strings of a configuration are NUL-terminated. */
    return conf ? conf_string(conf_root(conf), "directory").p : NULL;
}

bool ctl_flag(int *argc, char **argv, const char *name)
{
    for (int i = 0; i < *argc; i++)
        if (strcmp(argv[i], name) == 0) {
            memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i - 1) * sizeof(*argv));
            --*argc;
            return true;
        }
    return false;
}

const char *ctl_option(int *argc, char **argv, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < *argc; i++) {
        if (strncmp(argv[i], name, n) != 0 || (argv[i][n] != '\0' && argv[i][n] != '='))
            continue;
        int used = argv[i][n] == '=' ? 1 : 2;
        if (i + used > *argc)
            return NULL;
        const char *value = used == 1 ? argv[i] + n + 1 : argv[i + 1];
        memmove(&argv[i], &argv[i + used], (size_t)(*argc - i - used) * sizeof(*argv));
        *argc -= used;
        return value;
    }
    return NULL;
}

int ctl_connect_master(struct ctl *c, struct ipc_sync *s, struct error *err)
{
    const char *directory = ctl_directory(c);
    if (!directory)
        return error_set(err, ERR_SYNTAX, "the configuration cannot be used");
    int fd = socket_connect(directory, "control", SOCK_SEQPACKET, err);
    return fd < 0 ? fd : ipc_sync_open(s, fd, &ctl_proto, IPC_CLIENT, err);
}

bool ctl_is_running(struct ctl *c)
{
    struct ipc_sync s;
    struct error err = {0};
    if (ctl_connect_master(c, &s, &err) != OK)
        return false;
    ipc_sync_close(&s);
    return true;
}

static int connect_once(struct ctl *c, enum conversation conv, enum role role,
    const struct ipc_proto *proto, struct ipc_sync *s, struct error *err)
{
    struct ipc_sync master;
    struct ipc_in in;
    int rc = ctl_connect_master(c, &master, err);
    if (rc)
        return rc;
    struct ctl_connect want = {.conversation = conv, .role = role};
    rc = ipc_sync_call(&master, ctl_connect_type, 0, &want, -1, &in, err);
    if (rc == OK) {
        const struct ctl_connected *got = in.msg;
        if (got->code != OK || in.fd < 0)
            rc = error_set(err, (int)got->code ? (int)got->code : ERR_TEMP, "%s: %.*s",
                role_info(role)->program, SLICE_FMT(got->text));
        else
            rc = ipc_sync_open(s, in.fd, proto, IPC_CLIENT, err);
        if (rc == ERR_CLOSED) /* not the system, which has just answered */
            rc = error_set(err, ERR_TEMP, "%s has just ended", role_info(role)->program);
    }
    ipc_sync_close(&master);
    return rc;
}

int ctl_connect_daemon(struct ctl *c, enum conversation conv, enum role role,
    const struct ipc_proto *proto, struct ipc_sync *s, struct error *err)
{
    int rc = connect_once(c, conv, role, proto, s, err);
    /* A daemon that is being restarted is back in a moment. */
    for (int tries = 0; rc == ERR_TEMP && tries < RESTART_TRIES; tries++) {
        usleep(RESTART_WAIT_US);
        rc = connect_once(c, conv, role, proto, s, err);
    }
    return rc;
}

int ctl_hash_password(const char *password, struct buf *out, struct error *err)
{
    char hash[PASSWORD_HASH_MAX];
    int rc = password_hash(password, hash, err);
    return rc ? rc : buf_puts(out, hash);
}
