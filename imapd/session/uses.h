/* Special uses of our folders (RFC 6154): what was assigned; where nothing was, what the
 * configuration says of the name (imap.special-use), unless another folder has that use. */
#pragma once

#include "imapd/session/session.h"
#include "libstore/metadata.h"

struct uses_finder {
    struct session *s;
    unsigned taken; /* assigned to some folder */
};

void uses_begin(struct uses_finder *, struct session *);
/* First each folder is noted, then asked about. */
void uses_note(struct uses_finder *, struct slice folder);
unsigned uses_of(struct uses_finder *, struct slice folder);
