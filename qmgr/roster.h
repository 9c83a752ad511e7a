/*
 * The recipients of a parked message that has very many: what each is at and where in the file its
 * lines are, some thirty bytes each. Only a portion of them is in memory in full at a time
 * (struct content). A roster is read from the file in pieces and follows what updates write.
 */
#pragma once

#include "qmgr/message.h"

/* Which recipients: those that wait and are due, all that wait, or those whose failure or success
 * somebody is to hear of. */
enum roster_what { ROSTER_DUE, ROSTER_WAITING, ROSTER_FAILED, ROSTER_DELIVERED };
struct roster_choice {
    enum roster_what what;
    bool one_group; /* only those of this recipient_group */
    uint32_t group;
    int64_t now, latest; /* due: next <= now, or next > latest */
};

/* Reads it. NULL, with ERR_CORRUPT or ERR_VERSION like parked_parse, or what the disk said. */
struct roster *roster_read(struct message *, struct disk *, struct error *);
void roster_free(struct roster *);
size_t roster_total(const struct roster *);
/* The following are about those that are not in memory. */
size_t roster_open_count(const struct roster *);
bool roster_has(const struct roster *, const struct roster_choice *);
/* The group of the first of those chosen, or 0. */
uint32_t roster_group(const struct roster *, const struct roster_choice *);
/* When the first of them that waits is due; INT64_MAX: none does. */
int64_t roster_next(const struct roster *);
/* All that wait are due at once. */
void roster_hurry(struct roster *);

/* Makes the message's content a portion: up to `most` of those chosen. The roster is taken, from
 * the present content or as it was read. On failure the roster is freed and the message has no
 * content. */
int roster_load(struct message *, struct roster *, const struct roster_choice *, size_t most,
    struct disk *, struct error *) MUST_USE;
/* A copy of up to `most` of those chosen from number *from on, which goes to the one behind; the
 * message's content stays as it is. Empty: there are no more. NULL: the disk, or the file. */
struct content *roster_peek(struct message *, const struct roster_choice *, size_t *from,
    size_t most, struct disk *, struct error *);
/* All recipients of the file, without a roster; the message has no content yet. Its strings, and
 * those of the message line, live in what is returned. *end: of the last sound block. NULL as
 * above. */
struct content *roster_read_all(
    struct message *, struct parked_message *, uint64_t *end, struct disk *, struct error *);
/* Those chosen need nothing more; the next update says so. Returns how many they are. */
size_t roster_settle(struct roster *, const struct roster_choice *);
/* How many states the file does not have yet, and their lines. */
size_t roster_unwritten(const struct roster *);
void roster_take_unwritten(struct roster *, struct parked_state *);
/* Takes the roster out of the content, which is freed. What its recipients are at is kept. */
struct roster *roster_unload(struct message *);
/* An update with these lines is being written at `offset` of the file. */
void roster_follow(struct message *, struct slice text, uint64_t offset);
/* The file is not what the roster says any more: it has to be read again. */
void roster_spoil(struct roster *);
bool roster_spoilt(const struct roster *);
