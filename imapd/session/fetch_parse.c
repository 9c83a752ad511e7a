#include "imapd/session/fetch.h"
#include "libmail/imapstruct.h"

static const struct {
    const char *name;
    enum fetch_kind kind;
    bool seen;
} simple_items[] = {
    {"UID", FETCH_UID, false},
    {"FLAGS", FETCH_FLAGS, false},
    {"INTERNALDATE", FETCH_INTERNALDATE, false},
    {"RFC822.SIZE", FETCH_SIZE, false},
    {"ENVELOPE", FETCH_ENVELOPE, false},
    {"BODY", FETCH_BODY, false},
    {"BODYSTRUCTURE", FETCH_BODYSTRUCTURE, false},
    {"EMAILID", FETCH_EMAILID, false},
    {"THREADID", FETCH_THREADID, false},
    {"SAVEDATE", FETCH_SAVEDATE, false},
    {"PREVIEW", FETCH_PREVIEW, false},
    {"RFC822", FETCH_RFC822, true},
    {"RFC822.HEADER", FETCH_RFC822_HEADER, false},
    {"RFC822.TEXT", FETCH_RFC822_TEXT, true},
};

static const struct {
    const char *name;
    enum fetch_kind kinds[5];
    size_t n;
} macros[] = {
    {"ALL", {FETCH_FLAGS, FETCH_INTERNALDATE, FETCH_SIZE, FETCH_ENVELOPE}, 4},
    {"FAST", {FETCH_FLAGS, FETCH_INTERNALDATE, FETCH_SIZE}, 3},
    {"FULL", {FETCH_FLAGS, FETCH_INTERNALDATE, FETCH_SIZE, FETCH_ENVELOPE, FETCH_BODY}, 5},
};

static const struct {
    const char *name;
    enum section_text text;
} section_texts[] = {
    {"HEADER", SECTION_HEADER},
    {"HEADER.FIELDS", SECTION_FIELDS},
    {"HEADER.FIELDS.NOT", SECTION_FIELDS_NOT},
    {"TEXT", SECTION_TEXT},
    {"MIME", SECTION_MIME},
};

static bool take_header_list(struct args *a, struct section *s)
{
    s->fields = arena_array(a->arena, SECTION_FIELDS_MAX, sizeof(*s->fields));
    if (!s->fields)
        return args_fail(a, "Command too large");
    if (!take_space(a) || !take_char(a, '('))
        return false;
    do {
        if (s->nfields == SECTION_FIELDS_MAX)
            return args_fail(a, "Too many header names");
        if ((s->nfields && !take_space(a)) || !take_astring(a, &s->fields[s->nfields]))
            return false;
        s->nfields++;
    } while (!args_next_is(a, ')'));
    return take_char(a, ')');
}

static bool take_part_numbers(struct args *a, struct section *s)
{
    s->path = arena_array(a->arena, SECTION_DEPTH_MAX, sizeof(*s->path));
    if (!s->path)
        return args_fail(a, "Command too large");
    while (a->rest.n && a->rest.p[0] >= '0' && a->rest.p[0] <= '9') {
        uint64_t n;
        if (s->npath == SECTION_DEPTH_MAX || !take_number(a, UINT32_MAX, &n) || n == 0)
            return args_fail(a, "Malformed part number");
        s->path[s->npath++] = (uint32_t)n;
        if (args_next_is(a, ']'))
            return true;
        if (!take_char(a, '.'))
            return false;
        if (args_next_is(a, ']'))
            return args_fail(a, "Malformed section");
    }
    return true;
}

/* After "[": up to "]". */
static bool take_section(struct args *a, struct section *s)
{
    struct slice word;
    if (!take_part_numbers(a, s))
        return false;
    if (args_next_is(a, ']'))
        return take_char(a, ']');
    size_t i = 0, n = 0;
    while (n < a->rest.n && a->rest.p[n] != ']' && a->rest.p[n] != ' ')
        n++;
    word = slice_first(a->rest, n);
    while (i < ARRAY_LEN(section_texts) && !slice_iis(word, section_texts[i].name))
        i++;
    if (i == ARRAY_LEN(section_texts))
        return args_fail(a, "Unknown section");
    a->rest = slice_from_index(a->rest, n);
    s->text = section_texts[i].text;
    if (s->text == SECTION_MIME && s->npath == 0)
        return args_fail(a, "MIME needs a part number");
    if ((s->text == SECTION_FIELDS || s->text == SECTION_FIELDS_NOT) && !take_header_list(a, s))
        return false;
    return take_char(a, ']');
}

/* "<offset.count>" */
static bool take_partial(struct args *a, struct fetch_item *item)
{
    if (!args_next_is(a, '<'))
        return true;
    item->partial = true;
    if (!take_char(a, '<') || !take_number(a, UINT32_MAX, &item->offset) || !take_char(a, '.') ||
        !take_number(a, UINT32_MAX, &item->count) || !take_char(a, '>'))
        return false;
    return item->count > 0 || args_fail(a, "Malformed partial range");
}

static struct fetch_item *add_item(struct args *a, struct fetch_items *list, enum fetch_kind kind)
{
    if (list->n == FETCH_ITEMS_MAX) {
        args_fail(a, "Too many items");
        return NULL;
    }
    struct fetch_item *item = &list->items[list->n++];
    *item = (struct fetch_item){.kind = kind};
    list->flags = list->flags || kind == FETCH_FLAGS;
    list->uid = list->uid || kind == FETCH_UID;
    return item;
}

/* The letters, digits and dots of an item's name: what follows may be "[". */
static struct slice item_word(struct args *a)
{
    size_t n = 0;
    while (n < a->rest.n && is_atom_char(a->rest.p[n]) && a->rest.p[n] != '[')
        n++;
    struct slice word = slice_first(a->rest, n);
    a->rest = slice_from_index(a->rest, n);
    return word;
}

/* RFC 8970 §3.1: "PREVIEW (LAZY)" asks for what is there already; ours is always there. */
static bool take_preview_modifiers(struct args *a)
{
    struct slice word;
    if (!slice_starts(a->rest, " ("))
        return true;
    if (!take_space(a) || !take_char(a, '(') || !take_atom(a, &word))
        return false;
    return slice_iis(word, "LAZY") ? take_char(a, ')') : args_fail(a, "Unknown PREVIEW modifier");
}

static bool take_item(struct args *a, struct fetch_items *list)
{
    struct slice word = item_word(a);
    bool peek = slice_iis(word, "BODY.PEEK");
    if (args_next_is(a, '[')) {
        struct fetch_item *item = NULL;
        if (!peek && !slice_iis(word, "BODY"))
            return args_fail(a, "Unknown FETCH item");
        if (!(item = add_item(a, list, FETCH_SECTION)))
            return false;
        list->seen = list->seen || !peek;
        return take_char(a, '[') && take_section(a, &item->section) && take_partial(a, item);
    }
    for (size_t i = 0; i < ARRAY_LEN(simple_items); i++)
        if (slice_iis(word, simple_items[i].name)) {
            list->seen = list->seen || simple_items[i].seen;
            return add_item(a, list, simple_items[i].kind) != NULL &&
                   (simple_items[i].kind != FETCH_PREVIEW || take_preview_modifiers(a));
        }
    return args_fail(a, "Unknown FETCH item");
}

bool take_fetch_items(struct args *a, struct fetch_items *list)
{
    *list = (struct fetch_items){
        .items = arena_array(a->arena, FETCH_ITEMS_MAX, sizeof(struct fetch_item))};
    if (!list->items)
        return args_fail(a, "Command too large");
    if (args_next_is(a, '(')) {
        take_char(a, '(');
        do {
            if ((list->n && !take_space(a)) || !take_item(a, list))
                return false;
        } while (!args_next_is(a, ')'));
        return take_char(a, ')');
    }
    for (size_t i = 0; i < ARRAY_LEN(macros); i++) {
        if (!slice_iis(a->rest, macros[i].name))
            continue;
        for (size_t k = 0; k < macros[i].n; k++)
            add_item(a, list, macros[i].kinds[k]);
        a->rest = slice_from_index(a->rest, a->rest.n);
        return true;
    }
    return take_item(a, list);
}

void section_put_name(const struct fetch_item *item, struct buf *out)
{
    const struct section *s = &item->section;
    buf_puts(out, "BODY[");
    for (size_t i = 0; i < s->npath; i++)
        buf_printf(out, i ? ".%u" : "%u", s->path[i]);
    for (size_t i = 0; i < ARRAY_LEN(section_texts); i++)
        if (s->text == section_texts[i].text)
            buf_printf(out, "%s%s", s->npath ? "." : "", section_texts[i].name);
    for (size_t i = 0; i < s->nfields; i++) {
        bool atom = is_keyword(s->fields[i]);
        buf_puts(out, i ? " " : " (");
        if (atom)
            buf_put(out, s->fields[i]);
        else
            imap_put_string(out, s->fields[i]);
    }
    buf_puts(out, s->nfields ? ")]" : "]");
    if (item->partial)
        buf_printf(out, "<%llu>", (unsigned long long)item->offset);
}
