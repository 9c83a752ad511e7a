#include "libutil/conf_internal.h"

static bool at_end(const struct conf_lexer *lx)
{
    return lx->at >= lx->text.n;
}

static char peek(const struct conf_lexer *lx)
{
    return at_end(lx) ? '\0' : lx->text.p[lx->at];
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks_and_comments(struct conf_lexer *lx)
{
    while (is_space(peek(lx)))
        lx->at++;
    if (peek(lx) == '#')
        while (!at_end(lx) && peek(lx) != '\n')
            lx->at++;
}

static enum conf_token bad(struct conf_lexer *lx, const char *why)
{
    lx->why = why;
    return CONF_BAD;
}

/* One character of a quoted word; -1 for an escape there is not. */
static int unescape(struct conf_lexer *lx)
{
    char c = lx->text.p[lx->at++];
    if (c != '\\')
        return (unsigned char)c;
    c = peek(lx);
    lx->at++;
    return c == '"' || c == '\\' ? c : c == 'n' ? '\n' : -1;
}

static enum conf_token lex_quoted(struct conf_lexer *lx)
{
    ptrdiff_t rest = slice_chr(slice_from_index(lx->text, lx->at), '\n');
    size_t room = rest < 0 ? lx->text.n - lx->at : (size_t)rest;
    char *out = arena_alloc(lx->arena, room + 1);
    size_t n = 0;
    if (!out)
        return bad(lx, "the configuration is too large");
    for (lx->at++; peek(lx) != '"';) {
        if (at_end(lx) || peek(lx) == '\n')
            return bad(lx, "a quoted word lacks its closing quote on the same line");
        int c = unescape(lx);
        if (c < 0)
            return bad(lx, "in quotes, \\ stands only before \" \\ or n");
        out[n++] = (char)c;
    }
    out[n] = '\0';
    lx->at++;
    char c = peek(lx);
    if (!at_end(lx) && !is_space(c) && !strchr("\n;{}#", c))
        return bad(lx, "a blank must follow a quoted word");
    lx->word = slice_from(out, n);
    return CONF_WORD;
}

/* Braces within a word must balance, and what they enclose may hold blanks: inline:{a=b, c=d}. */
static enum conf_token lex_bare(struct conf_lexer *lx)
{
    size_t from = lx->at;
    unsigned depth = 0;
    for (; !at_end(lx); lx->at++) {
        char c = peek(lx);
        if (c == '\n' || (depth == 0 && (is_space(c) || c == ';' || c == '}')))
            break;
        if (c == '{')
            depth++;
        if (c == '}')
            depth--;
    }
    if (depth)
        return bad(lx, "a word lacks its closing brace on the same line");
    lx->word = slice_first(slice_from_index(lx->text, from), lx->at - from);
    while (lx->word.n && is_space(lx->word.p[lx->word.n - 1]))
        lx->word.n--;
    lx->word = arena_dup(lx->arena, lx->word);
    return lx->word.p ? CONF_WORD : bad(lx, "the configuration is too large");
}

enum conf_token conf_lex(struct conf_lexer *lx, bool block_may_open)
{
    skip_blanks_and_comments(lx);
    if (at_end(lx))
        return CONF_EOF;
    char c = peek(lx);
    if (c == '\n' || c == ';') {
        lx->at++;
        if (c == '\n')
            lx->line++;
        return CONF_END_ENTRY;
    }
    if (c == '}') {
        lx->at++;
        return CONF_CLOSE;
    }
    if (c == '{' && block_may_open) {
        lx->at++;
        return CONF_OPEN;
    }
    return c == '"' ? lex_quoted(lx) : lex_bare(lx);
}

void conf_lex_skip(struct conf_lexer *lx)
{
    unsigned depth = 0;
    while (!at_end(lx)) {
        size_t before = lx->at;
        enum conf_token t = conf_lex(lx, true);
        if (t == CONF_OPEN)
            depth++;
        if (t == CONF_CLOSE && depth == 0) {
            lx->at = before;
            return;
        }
        if (t == CONF_CLOSE && --depth == 0)
            return;
        if (t == CONF_END_ENTRY && depth == 0)
            return;
        if (t == CONF_BAD)
            while (!at_end(lx) && peek(lx) != '\n')
                lx->at++;
    }
}
