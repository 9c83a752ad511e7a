/*
 * The words of delivery reports. The table `report-texts` of veredus.conf may have other ones, by
 * these keys, with a language (RFC 5646) behind a dot where there are several:
 *
 *     failure-subject.de: Nachricht nicht zustellbar
 *     failure-text.de: Hier ist {hostname}.\n\n
 *         Ihre Nachricht an {count} Empfänger konnte nicht zugestellt werden.
 *
 * Values are UTF-8. In them \n ends a line (blanks behind it are dropped), \\ is a backslash, and
 * names in braces are replaced: {hostname}, {queue-id}, {sender}, {count} (recipients), {arrived}
 * and {until}.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum report_text { REPORT_TEXT_SUBJECT, REPORT_TEXT_TEXT };
enum { REPORT_TEXT_MAX = 8192, REPORT_SUBJECT_MAX = 200, REPORT_LANGUAGE_MAX = 35 };

/* Ours, in English, as they are after report_text_expand. kind: enum report_kind. */
struct slice report_text_default(unsigned kind, enum report_text);
/* "failure-text", or "failure-text.de". False: the language is none. */
bool report_text_key(unsigned kind, enum report_text, struct slice language, struct buf *out);
/* One entry of the table; says what is wrong with it. */
int report_text_check(struct slice key, struct slice value, struct error *) MUST_USE;
/* A value as it stands in the table becomes lines. */
void report_text_expand(struct slice value, struct buf *out);
/* Takes the next language off a list as in Accept-Language (RFC 3282), without its weight; their
 * order counts. False at the end. */
bool report_text_language(struct slice *list, struct slice *language);
