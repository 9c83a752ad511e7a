#include "libmail/aliases.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libutil/file.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* A (comment) at the beginning, or 0. */
static size_t comment_length(struct slice s)
{
    int depth = 0;
    for (size_t i = 0; i < s.n && s.p[i] != '\n'; i++) {
        depth += (s.p[i] == '(') - (s.p[i] == ')');
        if (depth == 0)
            return slice_starts(s, "(") ? i + 1 : 0;
    }
    return 0;
}

/* To where the next member begins. */
static struct slice skip_gap(struct slice s, unsigned flags)
{
    while (s.n) {
        size_t n = is_blank(s.p[0]) || s.p[0] == ',' || s.p[0] == '\n' ? 1 : comment_length(s);
        if (n == 0 && s.p[0] == '#' && (flags & ALIAS_COMMENTS)) {
            ptrdiff_t end = slice_chr(s, '\n');
            n = end < 0 ? s.n : (size_t)end + 1;
        }
        if (n == 0)
            break;
        s = slice_from_index(s, n);
    }
    return s;
}

/* How far to one of these outside of double quotes, to the end of the line, or of all. */
static size_t span(struct slice s, const char *ends)
{
    bool quoted = false;
    size_t n = 0;
    for (; n < s.n && s.p[n] != '\n' && (quoted || !s.p[n] || !strchr(ends, s.p[n])); n++) {
        if (s.p[n] == '"')
            quoted = !quoted;
        else if (quoted && s.p[n] == '\\' && n + 1 < s.n && s.p[n + 1] != '\n')
            n++;
    }
    return n;
}

static size_t member_length(struct slice s, unsigned flags)
{
    size_t n = span(s, ",");
    if (!(flags & ALIAS_BLANKS) || s.p[0] == '|')
        return n;
    struct slice part = slice_first(s, n);
    size_t open = span(part, "<");
    return open < n ? open + span(slice_from_index(part, open), " \t\r") : span(part, " \t\r");
}

/* Quotes around all of it; not those of "local part"@domain. */
static bool is_quoted(struct slice s)
{
    for (size_t i = 1; i < s.n && s.p[0] == '"'; i++)
        if (s.p[i] == '"')
            return i == s.n - 1;
        else
            i += s.p[i] == '\\';
    return false;
}

/* What stands in the quotes; where it does not fit, as it is, which is too long for anything. */
static struct slice unquote(struct slice s, char plain[ALIAS_COMMAND_MAX + 1])
{
    size_t n = 0;
    s = slice_first(slice_from_index(s, 1), s.n - 2);
    if (slice_chr(s, '\\') < 0 || s.n > ALIAS_COMMAND_MAX)
        return slice_trim(s);
    for (size_t i = 0; i < s.n; i++) {
        bool escaped = s.p[i] == '\\' && i + 1 < s.n && strchr("\"\\", s.p[i + 1]) && s.p[i + 1];
        plain[n++] = s.p[i += escaped];
    }
    return slice_trim(slice_from(plain, n));
}

/* What is behind a comment or around the <address> goes. */
static struct slice bare_address(struct slice s)
{
    size_t open = span(s, "<"), comment = span(s, "(");
    if (open < s.n && s.p[s.n - 1] == '>')
        return slice_trim(slice_first(slice_from_index(s, open + 1), s.n - open - 2));
    return comment < s.n && s.p[s.n - 1] == ')' ? slice_trim(slice_first(s, comment)) : s;
}

static enum alias_kind kind_of(struct slice *text)
{
    static const struct {
        const char *prefix;
        enum alias_kind kind;
        bool keep;
    } kinds[] = {{":include:", ALIAS_INCLUDE, false}, {"|", ALIAS_COMMAND, false},
        {"\\", ALIAS_LITERAL, false}, {"/", ALIAS_FILE, true}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (slice_istarts(*text, kinds[i].prefix)) {
            if (!kinds[i].keep)
                *text = slice_trim(slice_from_index(*text, strlen(kinds[i].prefix)));
            return kinds[i].kind;
        }
    *text = bare_address(*text);
    return ALIAS_ADDRESS;
}

bool alias_next(struct slice *rest, unsigned flags, struct alias_member *m)
{
    *rest = skip_gap(*rest, flags);
    if (rest->n == 0)
        return false;
    size_t n = member_length(*rest, flags);
    m->text = slice_trim(slice_first(*rest, n));
    *rest = slice_from_index(*rest, n);
    if (is_quoted(m->text))
        m->text = unquote(m->text, m->plain);
    m->kind = kind_of(&m->text);
    return true;
}

bool alias_may_have_owner(struct slice name)
{
    static const char request[] = "-request";
    size_t n = strlen(request);
    bool own = name.n > n && slice_iis(slice_from_index(name, name.n - n), request);
    return !own && !slice_istarts(name, "owner-") && name.n > 0;
}

/* --- included files -------------------------------------------------------------------------- */

static int judge_include(const char *name, int fd, struct error *err)
{
    char dir[PATH_MAX];
    struct stat st, above;
    const char *slash = strrchr(name, '/');
    struct slice head = slice_from(name, slash > name ? (size_t)(slash - name) : 1);
    if (fstat(fd, &st) || !slice_to_cstr(head, dir, sizeof(dir)) || stat(dir, &above))
        return error_sys(err, "%s", name);
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_DENIED, "%s: not a regular file", name);
    if (st.st_mode & 02)
        return error_set(err, ERR_DENIED, "%s: writable for all", name);
    bool ours = st.st_uid == 0 || st.st_uid == geteuid();
    if ((above.st_mode & 02) && (!ours || !(above.st_mode & S_ISVTX)))
        return error_set(err, ERR_DENIED, "%s: in a directory where all may write", name);
    return OK;
}

int alias_include(struct slice path, struct buf *out, struct error *err)
{
    char name[PATH_MAX];
    if (!slice_starts(path, "/") || !slice_to_cstr(path, name, sizeof(name)))
        return error_set(err, ERR_SYNTAX, ":include: needs an absolute path");
    int fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP)
        return error_set(err, ERR_DENIED, "%s: a symbolic link", name);
    if (fd < 0)
        return error_sys(err, "%s", name);
    int rc = judge_include(name, fd, err);
    if (!rc)
        rc = file_read_fd(fd, name, out, err);
    close(fd);
    return rc;
}
