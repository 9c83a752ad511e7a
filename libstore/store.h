/*
 * The mailbox store: verbs, not files. Sessions, delivery agents and tools use only this header.
 *
 * A store is one user's mail directory; a mailbox is an open view of one of its folders. Folder
 * names are UTF-8 with '/' between levels; INBOX (in any case) is the mail directory itself.
 * A view is a snapshot: sequence numbers, and which messages there are, change only in
 * store_refresh. Flags change with every verb that catches up, and store_refresh tells which.
 *
 * Content is always handed out with CRLF line ends, and may be handed in with either.
 * Dates are seconds since 1970 (UTC, 0..2^32-1). Functions return 0 or an error_code:
 * ERR_NOT_FOUND (folder, message), ERR_EXISTS, ERR_SYNTAX (folder name), ERR_NO_SPACE,
 * ERR_CORRUPT (and rebuilding failed), ERR_VERSION (files of a newer release), ERR_DENIED (view
 * is read only), ERR_LIMIT (keywords), ERR_BUSY (lock), ERR_IO; for a guest ERR_TEMP (new numbers
 * are the owner's to give). After an error nothing has been changed, unless said otherwise. Not
 * thread safe; many processes may use one mail directory.
 */
#pragma once

#include "libstore/uidset.h"
#include "libutil/buf.h"
#include "libutil/error.h"

struct store;
struct store_mailbox;
struct store_append;

enum {
    STORE_SEPARATOR = '/',
    STORE_NAME_MAX = 250,
    STORE_KEYWORDS_MAX = 64,
    STORE_GUID = 16,
    STORE_EMAIL = 12,    /* the first bytes of a GUID; copies of a message share them */
    STORE_OBJECTID = 32, /* room for an object id (RFC 8474) and its NUL */
    STORE_PREVIEW = 200, /* characters (RFC 8970 §3) */
    STORE_UIDL_MAX = 70  /* RFC 1939 §7 UIDL */
};

struct store_options {
    bool coexist;       /* other tools use this Maildir: LF bodies, flags in file names */
    bool gather;        /* texts made from what arrives wait for store_flush, for one write */
    unsigned tomb_days; /* how long expunged UIDs are remembered; 0: 30 */
    bool keep_deleted;  /* expunged mail is put aside (libstore/deleted.h) */
    bool single;        /* no mail directory, but one folder that somebody shares: our INBOX */
    int maildir; /* single: 0, or where its messages lie, when that is not `path`; to be walked
                    through only (O_PATH), stays the caller's, is needed until store_close */
    bool create; /* make the directory (0700, and its parents below `at`) when it is not there */
    /* Called after each committed change that others may want to see; for notify_changed. */
    void (*changed)(void *arg, struct slice folder, uint64_t sequence);
    void *arg;
};

/* Opens the mail directory `path` relative to the directory `at` (a descriptor that stays the
 * caller's, or AT_FDCWD). Never follows a symbolic link nor leaves `at` unless it is AT_FDCWD. */
int store_open(int at, const char *path, const struct store_options *, struct store **,
    struct error *) MUST_USE;
void store_close(struct store *);

/* --- folders ----------------------------------------------------------------------------- */

enum { STORE_NOSELECT = 1, STORE_CHILDREN = 2, STORE_SUBSCRIBED = 4 };

struct store_folder {
    struct slice name;
    unsigned attrs; /* NOSELECT: only a level above other folders */
};

/* All folders sorted by name, INBOX first, levels that exist only as a prefix included. */
int store_list(struct store *, struct store_folder **folders, size_t *n, struct error *) MUST_USE;
/* Subscribed names, existing or not (then without attributes but SUBSCRIBED). */
int store_list_subscribed(
    struct store *, struct store_folder **, size_t *, struct error *) MUST_USE;
void store_list_free(struct store_folder *, size_t n);

/* OK, or ERR_SYNTAX: empty, a level empty, longer than STORE_NAME_MAX on disk, not UTF-8, or
 * with control characters. */
int store_name_check(struct slice folder) MUST_USE;
bool store_exists(struct store *, struct slice folder);
int store_create(struct store *, struct slice folder, struct error *) MUST_USE;
/* Folders below it stay (RFC 3501 §6.3.4). INBOX: ERR_DENIED. */
int store_delete(struct store *, struct slice folder, struct error *) MUST_USE;
/* With everything below it. From INBOX: its messages move to the new folder (§6.3.5). */
int store_rename(struct store *, struct slice from, struct slice to, struct error *) MUST_USE;
int store_subscribe(struct store *, struct slice folder, bool subscribed, struct error *) MUST_USE;

struct store_status {
    uint32_t messages, recent, unseen, deleted;
    uint32_t uidnext, uidvalidity;
    uint64_t highestmodseq;
    uint64_t size;    /* bytes, with CRLF */
    uint64_t mailbox; /* for store_mailbox_id */
};
/* Reads totals that the index keeps: the cost does not depend on the number of messages, unless
 * other tools put files there whose size nobody has asked for yet. */
int store_status(
    struct store *, struct slice folder, struct store_status *, struct error *) MUST_USE;

/* --- a view of a mailbox ------------------------------------------------------------------ */

enum {
    STORE_SEEN = 1,
    STORE_ANSWERED = 2,
    STORE_FLAGGED = 4,
    STORE_DELETED = 8,
    STORE_DRAFT = 16,
    STORE_RECENT = 32 /* of this view; cannot be set */
};

struct store_msg {
    uint32_t uid;
    uint32_t flags;
    uint64_t keywords; /* bit i: store_keyword(mb, i) */
    uint64_t modseq;
    uint64_t size;                  /* RFC822.SIZE */
    int64_t date;                   /* INTERNALDATE */
    int64_t saved;                  /* when it came into this folder (RFC 8514) */
    unsigned char guid[STORE_GUID]; /* never changes, unique */
    bool gone; /* expunged by someone; leaves the view at the next store_refresh that may */
};

int store_select(struct store *, struct slice folder, bool read_only, struct store_mailbox **,
    struct error *) MUST_USE;
/* NULL is ignored. */
void store_unselect(struct store_mailbox *);

uint32_t store_count(const struct store_mailbox *);
uint32_t store_uidvalidity(const struct store_mailbox *);
uint32_t store_uidnext(const struct store_mailbox *);
uint64_t store_highestmodseq(const struct store_mailbox *);
bool store_read_only(const struct store_mailbox *);
/* seq counts from 1. False when out of range. */
bool store_get(struct store_mailbox *, uint32_t seq, struct store_msg *);
/* Sequence number of uid, 0 when it is not in the view. */
uint32_t store_seq(const struct store_mailbox *, uint32_t uid);
/* The least sequence number whose UID is >= uid; count + 1 when there is none. */
uint32_t store_seq_from(const struct store_mailbox *, uint32_t uid);

/* Keywords of this mailbox; the name is empty for an index not in use. */
size_t store_keywords(const struct store_mailbox *);
struct slice store_keyword(const struct store_mailbox *, size_t i);

/* What others (and this view's own expunge) did since the last refresh. */
struct store_changes {
    const uint32_t *vanished;      /* sequence numbers before the change, highest first: each can
                                      be announced as it stands (EXPUNGE) */
    const uint32_t *vanished_uids; /* the same messages */
    size_t nvanished;
    const uint32_t *changed; /* sequence numbers after it, ascending: flags to be announced */
    size_t nchanged;
    uint32_t arrived; /* how many messages came in at the end */
    bool keywords;    /* the keyword list grew */
};
/* Brings the view up to date. With may_expunge false, expunged messages stay (RFC 3501 §7.4.1).
 * The lists are valid until the next call on the mailbox. ERR_NOT_FOUND: the folder is gone. */
int store_refresh(
    struct store_mailbox *, bool may_expunge, struct store_changes *, struct error *) MUST_USE;

/* Does a little of what was put off so that nobody waits for it: removes files of messages that
 * were expunged here, and with coexist writes flags into file names. True: there are more files. To
 * be called while the user does nothing. */
bool store_tidy(struct store_mailbox *);

/* A message's content. Release it before the mailbox is closed. */
struct store_body {
    struct slice content;
    void *map;
    size_t map_len;
    char *heap;
};
int store_body(struct store_mailbox *, uint32_t uid, struct store_body *, struct error *) MUST_USE;
void store_body_release(struct store_body *);

/* Made when the message arrived, so that listing a mailbox opens no message. Texts as in IMAP
 * FETCH responses, with the parentheses. Valid until the next call on the mailbox. */
struct store_cache {
    struct slice envelope, body, bodystructure;
    struct slice header;  /* Date From Sender Reply-To To Cc Bcc Subject Message-ID In-Reply-To
                             References: raw fields as they stand, ended by an empty line */
    uint32_t header_size; /* offset of the body text, after the empty line */
    struct slice preview; /* UTF-8, at most STORE_PREVIEW characters, no control characters */
    uint64_t thread;      /* for store_thread_id */
};
int store_cached(
    struct store_mailbox *, uint32_t uid, struct store_cache *, struct error *) MUST_USE;

/* The POP3 unique id of the message with this GUID: the GUID as hex, or what the server before us
 * told its clients. */
void store_uidl(
    struct store_mailbox *, const unsigned char guid[STORE_GUID], char out[STORE_UIDL_MAX + 1]);

/* Object ids (RFC 8474). The email id is part of the GUID, so it lives as long; copies and moved
 * messages keep it. The thread id is made of the first message id in References, In-Reply-To or
 * Message-ID, so messages of one thread have the same in every folder. */
void store_email_id(const unsigned char guid[STORE_GUID], char out[STORE_OBJECTID]);
void store_thread_id(
    uint64_t thread, const unsigned char guid[STORE_GUID], char out[STORE_OBJECTID]);
/* `mailbox` from store_status or store_mailbox_number: stays when the folder is renamed. */
void store_mailbox_id(uint64_t mailbox, char out[STORE_OBJECTID]);
uint64_t store_mailbox_number(const struct store_mailbox *);

/* --- changes ------------------------------------------------------------------------------ */

enum store_how { STORE_ADD, STORE_REMOVE, STORE_REPLACE };

struct store_flags {
    enum store_how how;
    uint32_t flags;
    const struct slice *keywords; /* names, compared ignoring case; new ones are defined */
    size_t nkeywords;
    uint64_t unchanged_since; /* RFC 7162; 0: always */
};
/* Changes the messages of `uids` that are in the view. `changed` gets those that are different
 * now (store_refresh will not report them again), `refused` those changed by others after
 * unchanged_since. Either may be NULL. When this returns 0 the change survives our death. */
int store_change(struct store_mailbox *, const struct uidset *uids, const struct store_flags *,
    struct uidset *changed, struct uidset *refused, struct error *) MUST_USE;

/* Expunges: with deleted_only those flagged \Deleted (uids NULL: of all in the view), otherwise
 * exactly `uids`. `expunged` (may be NULL) gets them; they leave the view at the next refresh. */
int store_expunge(struct store_mailbox *, const struct uidset *uids, bool deleted_only,
    struct uidset *expunged, struct error *) MUST_USE;

struct store_append_options {
    uint32_t flags;
    const struct slice *keywords;
    size_t nkeywords;
    int64_t date;      /* 0: now */
    int64_t saved;     /* 0: now */
    bool durable;      /* survives power loss when this returns (I9) */
    uint64_t delivery; /* not 0: the same id is appended once, however often it is asked for */
    bool import;       /* one of many whose ids may have been appended long ago */
    /* For restoring: taken when it is above all UIDs used so far, otherwise a new one is given. */
    uint32_t uid;
    /* STORE_GUID bytes, or NULL. When a message here has or had it, only the email id is kept. */
    const unsigned char *guid;
};
struct store_appended {
    uint32_t uidvalidity, uid;
    bool duplicate; /* this delivery id was there already */
};
/* A new message. size_hint 0: unknown. Nothing is visible before the commit. */
int store_append_begin(struct store *, struct slice folder, uint64_t size_hint,
    struct store_append **, struct error *) MUST_USE;
int store_append_write(struct store_append *, struct slice, struct error *) MUST_USE;
/* Reads the descriptor from offset 0 for `size` bytes. */
int store_append_fd(struct store_append *, int fd, uint64_t size, struct error *) MUST_USE;
/* Both end the append, whatever they return. */
int store_append_commit(struct store_append *, const struct store_append_options *,
    struct store_appended *, struct error *) MUST_USE;
void store_append_abort(struct store_append *);

/* COPYUID: from[i] became to[i]. */
struct store_copied {
    uint32_t uidvalidity;
    uint32_t *from, *to;
    size_t n;
};
/* All of `uids` that are in the view, or nothing. Durable when it returns. The copies
 * share the file and the internal date and have GUIDs of their own. */
int store_copy(struct store_mailbox *, const struct uidset *uids, struct slice folder,
    struct store_copied *, struct error *) MUST_USE;
/* The same into a folder of another store of this process, on the same file system; of the flags,
 * and of all keywords together, only what is permitted goes along. */
struct store_permitted {
    uint32_t flags;
    bool keywords;
};
int store_copy_to(struct store_mailbox *, const struct uidset *uids, struct store *to,
    struct slice folder, const struct store_permitted *, struct store_copied *,
    struct error *) MUST_USE;
void store_copied_clear(struct store_copied *);

/* What happened after modseq: messages of the view changed or new since, and UIDs expunged
 * since. complete false: tombstones that old are forgotten, so any UID missing from the mailbox
 * may be one of them. */
int store_changes_since(struct store_mailbox *, uint64_t modseq, struct uidset *changed,
    struct uidset *vanished, bool *complete, struct error *) MUST_USE;

/* --- the rest ----------------------------------------------------------------------------- */

/* One POP3 session at a time (RFC 1939 §4): ERR_BUSY when another has it. Lasts until
 * store_close. */
int store_lock_maildrop(struct store *, struct error *) MUST_USE;

/* Opens the directory where the files of a folder lie that are no messages. To be closed. */
int store_open_place(struct store *, struct slice folder, int *fd, struct error *) MUST_USE;
/* The mail directory; stays the store's. */
int store_dirfd(const struct store *);
/* With `gather`: writes the texts that wait. Those that are never written are made again. */
void store_flush(struct store *);
/* Makes everything written to the file system of `dirfd` durable. */
int store_sync(int dirfd, struct error *) MUST_USE;

/* With coexist: flags follow into the names of files a few hundred at a time, whenever a session
 * is idle or leaves the mailbox. This does one such step; *more: there are others. For
 * housekeeping. */
int store_settle(struct store *, struct slice folder, bool *more, struct error *) MUST_USE;

/* Reads the Maildir again and makes index, log and cache anew. UIDs are kept wherever the damaged
 * files still tell them, otherwise UIDVALIDITY changes. Done by itself when damage is found. */
int store_rebuild(struct store *, struct slice folder, struct error *) MUST_USE;
/* Checks everything; appends a line for each problem. Returns how many, or an error code. */
int store_verify(struct store *, struct slice folder, struct buf *report, struct error *) MUST_USE;
