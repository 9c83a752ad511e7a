#include "imapd/session/list.h"

#include <ctype.h>

enum { NAME_MAX_WIRE = 2048 };

/* One step of the set of matched prefixes: reach[i] says that the pattern so far matches the
 * first i bytes of the name. */
static void step(char p, struct slice name, size_t fold, char separator, bool *reach)
{
    if (p == '*' || p == '%') {
        for (size_t i = 1; i <= name.n; i++)
            reach[i] = reach[i] || (reach[i - 1] && (p == '*' || name.p[i - 1] != separator));
        return;
    }
    for (size_t i = name.n; i > 0; i--) {
        char c = name.p[i - 1];
        bool same = i <= fold ? toupper((unsigned char)c) == toupper((unsigned char)p) : c == p;
        reach[i] = reach[i - 1] && same;
    }
    reach[0] = false;
}

bool list_match(struct slice pattern, struct slice name, char separator)
{
    bool reach[NAME_MAX_WIRE + 1] = {true};
    struct slice rest = name;
    if (name.n > NAME_MAX_WIRE)
        return false;
    size_t fold = slice_iis(slice_cut(&rest, separator), "INBOX") ? strlen("INBOX") : 0;
    for (size_t i = 0; i < pattern.n; i++)
        step(pattern.p[i], name, fold, separator, reach);
    return reach[name.n];
}
