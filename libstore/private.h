/*
 * Inside libstore: a store, and a box, the state of one folder as index and log tell it.
 *
 * A box is read by catching up: records come from the mapped index, then from the log, whose
 * changes stay in memory. It is changed by lock, transaction, commit. Positions
 * count records in UID order, expunged ones (REC_GONE) included until the box is loaded anew.
 */
#pragma once

#include "libstore/format.h"
#include "libstore/fs.h"
#include "libstore/name.h"
#include "libstore/store.h"
#include "libutil/map.h"

enum {
    UID_BLOCK = 1024,       /* UIDs reserved at a time (I8) */
    BOOT_JUMP = 1 << 24,    /* sequence numbers skipped after the machine started */
    REPAIR_JUMP = 1 << 18,  /* and by a repair: many of them must fit into a boot's */
    DELIVERIES_MAX = 2048,  /* delivery ids remembered per mailbox */
    TOMB_DAYS = 30,         /* how long expunged UIDs are remembered, unless told otherwise */
    LOG_ROTATE = 64 * 1024, /* beyond this and a part of the index the log is folded in */
    LOG_ROTATE_MAX = 1 << 20,
    CHECK_AT_ONCE = 16384, /* records checked while opening */
    FILE_NAME_MAX = 300,
    NAMES_AT_ONCE = 500, /* files renamed while others wait for the lock */
    NAME_HEAD = 3,       /* before a name in the index: length and checksum */
    NOT_COMPARED = 1,    /* instead of directory times: without coexistence files tell nothing */
    NAMES_CHANGING = 2,  /* the same: names may tell flags of ours that records do not know */
    LOCK_WAIT_MS = 30 * 1000
};

/* Base records as the log changed them. */
struct overlay {
    struct disk_rec **chunks; /* they do not move */
    uint32_t *pos;            /* of each in the base */
    uint32_t *slots;          /* hash by position, number + 1 */
    unsigned char *touched;   /* a bit for each 64 base records */
    size_t n, nslots;
    size_t fresh; /* how many came since the last rotation */
};

/* Places + 1 in a list by what the list is asked for; empty until that happens. */
struct places {
    uint32_t *slots;
    size_t nslots, from, upto; /* what it covers */
};

struct box {
    struct store *store;
    char disk[NAME_DISK_MAX]; /* directory in the store */
    int ixfd;                 /* where index, log and the like lie: ours */
    int dirfd;                /* where cur, new and tmp do: the same, but for INBOX the store's */
    int log_fd, cache_fd;
    bool locked;
    bool log_named; /* the name of the log that is open is on disk */
    bool unsynced;  /* being made the first time: what is lost with the machine is made again */
    bool keep;      /* a view looks at the records: never load anew behind its back */

    void *map; /* the index */
    size_t map_len;
    const struct disk_rec *base; /* in the map, or else (base_heap) our own */
    struct disk_rec *extra;      /* those that came since */
    size_t nbase, nextra, cap_extra;
    bool base_heap;
    struct overlay over;
    struct places guids, by_delivery, by_tomb;
    unsigned char *checked; /* a bit for each 64 base records; NULL: nothing to be checked */
    bool damaged;           /* a record did not check: time to rebuild */
    bool stale_places;      /* the cache was replaced: base records do not know where */
    bool own; /* the transaction being applied is what the caller of this view asks for */
    const struct disk_tomb *old_tombs; /* in the map */
    struct disk_tomb *tombs;           /* since */
    size_t nold_tombs, ntombs, cap_tombs;
    const char *old_names; /* in the map; `names` goes on from there */
    size_t nold_names;
    struct disk_delivery *deliveries;
    size_t ndeliveries, cap_deliveries;
    char *keywords[STORE_KEYWORDS_MAX];
    size_t nkeywords;
    struct buf names;
    size_t live;

    size_t names_pos;    /* where box_write_names goes on */
    uint32_t names_time; /* when it was called last from box_idle */

    uint32_t mount;         /* through which it was opened; 0: not known */
    struct disk_index head; /* the values after log_off */
    uint64_t log_off;
    struct buf txn;
    struct buf cached; /* the cache record read last */
    struct buf texts;  /* for the cache file from texts_at on, not yet written */
    uint64_t texts_at;
};

/* Where this process stands in veredus.journal. */
struct journal {
    int fd;
    uint64_t generation, number; /* of the next entry */
    uint64_t at, size;
};

struct store {
    int fd;
    int maildir; /* INBOX's messages: fd, or what a guest was given; -1: with the index */
    bool apart;  /* what belongs to INBOX alone lies in a directory of its own (place.c) */
    struct journal journal;
    struct store_options opt;
    struct box *box; /* used last for append and status */
    int maildrop_fd;
    int restore_fd; /* the lock of a restore, in the store that is made aside */
    uint32_t tomb_days;
    unsigned char seed[16];
    uint32_t counter;
    struct quota_state *quota; /* NULL: not asked for yet */
};

/* --- box.c: loading, catching up, committing --- */
/* Opens the folder's directory and state, making or repairing files as needed. */
int box_open(struct store *, const char *disk, struct box **, struct error *) MUST_USE;
/* Only the directory: no state is loaded. */
int box_open_dir(struct store *, const char *disk, struct box **, struct error *) MUST_USE;
void box_close(struct box *);
/* Applies what others committed. ERR_NOT_FOUND: the folder is gone or was replaced. */
int box_catch_up(struct box *, struct error *) MUST_USE;
/* One turn of it: reads to the end of the log, and of the logs that replaced it (*switched).
 * ERR_CORRUPT when it is damaged. */
int box_follow(struct box *, bool *switched, enum txn_state *, struct error *) MUST_USE;
/* Only what the log that is open has. */
int box_read_on(struct box *, struct error *) MUST_USE;
/* Locks against other writers and catches up; repairs a torn log. */
int box_lock(struct box *, struct error *) MUST_USE;
void box_unlock(struct box *);
/* Locked: starts a transaction in box->txn, for txn_op. */
void box_begin(struct box *);
/* Writes and applies it. uids: how many new UIDs it uses. visible: announce it. */
int box_commit(struct box *, uint32_t uids, bool visible, struct error *) MUST_USE;
/* Locked: makes sure that n UIDs from uidnext on may be used, whatever crashes (I8). */
int box_reserve(struct box *, uint32_t n, struct error *) MUST_USE;
void box_announce(struct box *);
/* What was read may be older than what was promised. */
bool box_outdated(const struct box *);
/* From here on it is not. */
void box_note_witness(struct box *);
/* Bit of a keyword, any case; -1 when it is not defined. */
int box_keyword(const struct box *, struct slice name);
/* Locked: bits of these keywords, adding operations for new ones to the transaction. */
int box_keywords_define(
    struct box *, const struct slice *names, size_t n, uint64_t *bits, struct error *) MUST_USE;

/* --- place.c: INBOX has all other folders in its directory, so that what belongs to it alone lies
 * in one beneath: that can be opened to others without the rest (docs/store.md, Sharing). Where
 * other programs use the Maildir nothing is shared, and such a directory would be a folder to some
 * of them: there it lies beside the messages --- */
bool place_is_apart(const struct store_options *);
/* That directory of a folder, in the store. */
const char *folder_place(const struct store *, const char *disk);
/* Sets ixfd and dirfd. With coexistence INBOX's files come out of a directory that it had before.
 */
int box_open_place(struct box *, struct error *) MUST_USE;
/* False: a process without coexistence has moved the files to where they are apart. */
bool place_holds(const struct box *);
/* Names in both directories are on disk. -1 and errno. */
int box_sync_dirs(const struct box *) MUST_USE;
/* With the directory locked: files that lie beside INBOX's messages go where they belong. */
int place_move_in(struct box *, struct error *) MUST_USE;

/* --- boxrecs.c: records, names, tombstones --- */
size_t box_count(const struct box *);
/* The record as it is now; valid until the next box_push or reload. */
const struct disk_rec *box_rec(struct box *, size_t pos);
/* The same to be changed in memory, between two calls of box_tally. */
struct disk_rec *box_edit(struct box *, size_t pos);
/* Position of the first record with a UID >= uid. */
size_t box_find(struct box *, uint32_t uid);
/* The record of this UID, NULL when there is none or it is gone. */
const struct disk_rec *box_find_rec(struct box *, uint32_t uid);
/* Positions, ascending, of records with all these bits, which must be of those only in memory.
 * Free the list. */
size_t box_marked(struct box *, uint16_t bits, uint32_t **list);
bool box_is_base(const struct box *, const struct disk_rec *);
/* Checks what was not yet looked at. ERR_CORRUPT: something does not check. */
int box_check_all(struct box *) MUST_USE;
void box_recs_init(struct box *);
void box_recs_clear(struct box *);
/* A base name; empty when the place cannot be right. */
struct slice box_name_at(const struct box *, uint32_t at);
int box_put_name(struct buf *, struct slice name);
size_t box_tombs(const struct box *);
const struct disk_tomb *box_tomb(const struct box *, size_t i);

/* --- guids.c --- */
/* The live record with this GUID, or NULL. Looks at records from position `first` on, and reads
 * them the first time. */
const struct disk_rec *guids_find(struct box *, size_t first, const unsigned char guid[STORE_GUID]);
/* The last one of this id that is remembered, or NULL. */
const struct disk_delivery *deliveries_find(struct box *, uint64_t id);
/* After one was taken out of the list. */
void deliveries_moved(struct box *);
/* Whether a message of this GUID was expunged; looks at tombstones from number `first` on. */
bool tombs_have(struct box *, size_t first, const unsigned char guid[STORE_GUID]);
/* After records were loaded anew. */
void guids_clear(struct box *);

/* --- boxload.c --- */
/* ERR_NOT_FOUND: there is neither index nor log; ERR_CORRUPT: they need a rebuild. */
int box_load(struct box *, struct error *) MUST_USE;
void box_unload(struct box *);
/* Loads the new index and log of a box whose log was replaced. With `keep`, records that are not
 * there any more stay, as gone, and positions do not change. */
int box_reload(struct box *, struct error *) MUST_USE;
/* After a rotation, when no message is gone: goes on from the new index, so that what the log
 * changed need not stay in memory. Positions stay. */
void box_refold(struct box *);
/* Opens the log and reads its header. */
int box_open_log(struct box *, int *fd, struct disk_log *, struct error *) MUST_USE;
int box_map_index(struct box *, struct error *) MUST_USE;
/* Checks an index image and takes header, records and the rest from it. Lenient: whatever is
 * good, for rebuilding. */
int box_take_index(struct box *, bool lenient, struct error *) MUST_USE;
/* Adds a live record to the totals, or with -1 takes it out: around every change of one. */
void box_tally(struct box *, const struct disk_rec *, int sign);
void box_add_tomb(struct box *, const struct disk_rec *, uint32_t time);
/* The file of a record is gone, and nobody here expunged it: should it come back, by whatever way,
 * it is a message; and if it was delivered, it was not. */
void box_lose(struct box *, struct disk_rec *, uint32_t time);
bool box_has_tomb(const struct box *, const unsigned char guid[STORE_GUID]);
struct disk_rec *box_push(struct box *, const struct disk_rec *);
uint32_t box_name(struct box *, struct slice name);

/* --- boxapply.c --- */
/* Applies the operations of one transaction. */
int box_apply(struct box *, const struct disk_txn *, struct slice ops) MUST_USE;

void box_note_gap(struct box *, uint64_t from, uint64_t to);

/* --- boxwrite.c: snapshots --- */
/* Locked, or with the directory locked: writes a new index and an empty log, and goes on with
 * them. A box with `keep` keeps its records in memory as they are. `old_log`: the log that ends
 * with this, because the index has more than it tells, or -1. */
int box_rotate(struct box *, int old_log, struct error *) MUST_USE;
/* The same, not locked: others write meanwhile, and wait only while the logs are swapped. ERR_BUSY:
 * somebody else does it. The box stands where it stood. */
int box_fold(struct box *, struct error *) MUST_USE;
/* What was committed is on disk, and so is the log's name. */
int box_sync_log(struct box *, struct error *) MUST_USE;
/* So are index and log of a box that was made a moment ago. */
int box_settle(struct box *, struct error *) MUST_USE;

/* --- rebuild.c --- */
/* Makes index and log from the Maildir and whatever is left of them. Boxes that are open find
 * their log replaced. With `force` even when nothing is damaged. */
int box_rebuild(struct store *, const char *disk, bool force, struct error *) MUST_USE;
/* ERR_NOT_FOUND: the folder was deleted or renamed since the box was opened, and another may have
 * its name. */
int box_named(const struct box *, struct error *) MUST_USE;
/* Locks the directory of a box, so that nobody makes, folds or repairs its log until dir_unlock.
 * ERR_NOT_FOUND as box_named. */
int box_seize(struct box *, struct error *) MUST_USE;
/* Then the log, good or not, so that nobody writes to it; *fd -1 when there is none. */
int box_seize_log(struct box *, int *fd, struct error *) MUST_USE;
/* The lock of a directory: for what is there before any log. */
int dir_lock(int dirfd, struct error *) MUST_USE;
void dir_unlock(int dirfd);

/* --- maildir.c: names of message files, directory scans --- */
struct found_file {
    char *base; /* name up to the ':' */
    uint8_t flags;
    bool in_new;
    bool known; /* an index record has it */
    char *name; /* NULL, or the whole name when it is not what we would make of base and flags */
    struct found_file *next;
};
struct found {
    struct map files; /* base -> struct found_file */
    struct found_file *list;
    size_t n;
    uint64_t cur_mtime, new_mtime; /* 0: too young to be trusted */
};
/* Base name of a record's file. */
void file_base(const struct box *, const struct disk_rec *, char out[FILE_NAME_MAX]);
/* Path of a record's file under the box's directory, as we expect it. */
void file_path(const struct box *, const struct disk_rec *, char out[FILE_NAME_MAX]);
/* Opens it read only, looking through the directories when it is not where we expect it. */
int file_open(struct box *, const struct disk_rec *, int *fd, struct error *) MUST_USE;
/* Finds where it really is; ERR_NOT_FOUND. */
int file_locate(struct box *, const struct disk_rec *, char out[FILE_NAME_MAX]) MUST_USE;
/* Where it is, or should be when it is nowhere: a second name for it would be a second message. */
void file_where(struct box *, const struct disk_rec *, char out[FILE_NAME_MAX]);
/* Puts another file of this directory in its place. What it was renamed before is on disk first: if
 * a stop of the machine kept our change of names, and not the one before, the old file would be
 * back under its old name, beside ours. */
int file_replace(struct box *, const struct disk_rec *, const char *with, struct error *) MUST_USE;
/* A second name for it; others may be renaming it. */
int file_link(
    struct box *, const struct disk_rec *, int to, const char *name, struct error *) MUST_USE;
void file_unlink(struct box *, const struct disk_rec *);
/* The same for what a user expunged, which may have to be kept (deleted.c). */
void file_discard(struct box *, const struct disk_rec *);
/* Before a folder is deleted: its messages, and with no index what looks like one. */
void deleted_keep_all(struct box *, bool loaded);
/* Moves what others expunged in this shared folder to where the owner's kept mail is. */
void deleted_gather(struct store *, const char *disk);
int found_read(int dirfd, struct found *, struct error *) MUST_USE;
void found_clear(struct found *);
struct found_file *found_get(const struct found *, const char *base);
/* Whether it is in the other directory than its record, which has a file of its own: a delivery
 * that was cut off with coexistence, and repeated without, or the other way, can leave both. */
bool found_elsewhere(const struct box *, const struct found_file *, const struct disk_rec *);
/* A record for a file no index knows. The name goes into the operation. */
void found_record(const struct found_file *, int dirfd, struct op *op);
/* Records for the files not `known`, oldest first; free the array. */
struct op *found_records(const struct found *, int dirfd, size_t *n);
/* The letters of flags as in file names. */
void info_of(uint8_t flags, char out[8]);
/* The three directories, made where missing. */
int maildir_make(int dirfd, struct error *) MUST_USE;
/* What was named in new/ or cur/ (part), and what the index was given, is on disk. */
int maildir_sync(const struct box *, const char *part, struct error *) MUST_USE;

/* --- scan.c: coexisting with other tools --- */
/* Compares with the directories when their times changed. */
int box_scan(struct box *, struct error *) MUST_USE;
/* Without coexistence: once, when there was coexistence before. */
int box_scan_last(struct box *, struct error *) MUST_USE;
/* In a transaction after which files of expunged messages may lie about for a while: without
 * coexistence. The next comparison then knows. */
void box_note_mode(struct box *);
/* Locked, before flags are changed: when whoever changed names did not come to the end of it, they
 * are compared as long as flags are those that the names were given. */
int box_know_names(struct box *, struct error *) MUST_USE;
/* Writes flags of at most NAMES_AT_ONCE messages into file names; with `seen` also moves files out
 * of new/. */
int box_write_names(struct box *, bool seen, bool *more, struct error *) MUST_USE;
/* The same when nobody waits, at most once a second. */
void box_idle(struct box *);

/* --- preview.c --- */
struct arena;
struct mime_part;
/* Appends at most STORE_PREVIEW characters of UTF-8 without control characters. */
void preview_put(struct slice content, const struct mime_part *root, struct arena *, struct buf *);

/* --- sweep.c --- */
/* Removes files of expunged messages that died or ended sessions have left. */
void box_sweep(struct box *);

/* --- cache.c --- */
/* Makes the texts of a message (either line end). */
void cache_build(struct slice content, struct buf *out);
/* Locked: writes built texts, completing them, or with `gather` keeps them; *place and *end are for
 * the operation. */
int cache_put(struct box *, const struct disk_rec *of, struct buf *built, uint32_t *place,
    uint32_t *end, struct error *) MUST_USE;
/* Writes those that wait. */
void cache_flush(struct box *);
/* The record's texts from the file into box->cached; ERR_NOT_FOUND when there are none. */
int cache_get(struct box *, const struct disk_rec *, struct store_cache *) MUST_USE;
int cache_parse(struct slice built, struct store_cache *) MUST_USE;
/* Locked, while rotating: when most of the file is dead, records move to a new one. `to` has its
 * descriptor, or -1: nothing is to be moved. */
int cache_compact_begin(struct box *, struct box *to, struct error *) MUST_USE;
int cache_compact_one(struct box *, struct box *to, struct disk_rec *, struct error *) MUST_USE;
/* good: an index that speaks of the new file is in place. */
void cache_compact_end(struct box *, struct box *to, bool good);
/* The file was replaced, and records in memory do not know where things are now. */
void cache_forget_places(struct box *);

/* --- io.c --- */
/* The write lock of a file, waited for with patience that ends: ERR_BUSY. */
int io_lock(int fd, struct error *) MUST_USE;
int io_write(int fd, struct slice, int64_t offset, struct error *, const char *what) MUST_USE;
/* Reads exactly n bytes at offset; ERR_CORRUPT when the file is shorter. */
int io_read(int fd, void *out, size_t n, uint64_t offset, struct error *) MUST_USE;
/* Writes a file whole under a temporary name, syncs it and renames it into place. */
int io_replace(int dirfd, const char *name, struct slice content, struct error *) MUST_USE;
/* The same without syncing: a stop of the machine can leave an empty file. */
int io_replace_lazy(int dirfd, const char *name, struct slice content, struct error *) MUST_USE;
/* Reads the directory of a descriptor, which stays the caller's. NULL and errno; also of -1. */
struct fs_dir *io_walk(int fd);
/* A whole small file; ERR_NOT_FOUND, ERR_LIMIT. */
int io_slurp(int dirfd, const char *name, struct buf *out, struct error *) MUST_USE;
/* The rest of one that is open. */
int io_drain(int fd, const char *name, struct buf *out, struct error *) MUST_USE;

/* --- likeness.c --- */
enum { LIKENESS_MAX = 64 << 20 };
enum likeness {
    LIKENESS_SAME,   /* in this form or the other (line ends) */
    LIKENESS_BROKEN, /* what the stop of a machine can have left of it */
    LIKENESS_OTHER
};
enum likeness likeness_of(struct slice theirs, struct slice ours);

/* --- append.c, mailbox.c --- */
void guid_new(struct store *, unsigned char guid[STORE_GUID]);
/* The GUID of a copy: the same email id, an end of its own. */
void guid_copy(
    struct store *, const unsigned char from[STORE_GUID], unsigned char guid[STORE_GUID]);
void guid_hex(const unsigned char guid[STORE_GUID], char out[2 * STORE_GUID + 1]);
/* The box of a folder, kept open for the next time. */
int store_box(struct store *, struct slice folder, struct box **, struct error *) MUST_USE;
void store_drop_box(struct store *);
/* The directory of a folder: the one others made with a name in UTF-8 where only that is there,
 * else the one that we would make. ERR_SYNTAX as store_name_check. */
int store_folder_dir(
    struct store *, struct slice folder, char disk[NAME_DISK_MAX], struct error *) MUST_USE;
/* Finds the size by reading, into the record in memory; it stays unknown when that fails. */
void body_size(struct box *, size_t pos);
/* Content of a message with CRLF line ends. */
int body_read(struct box *, const struct disk_rec *, struct store_body *, struct error *) MUST_USE;
/* The same of a file that no record tells of. */
int body_read_file(struct box *, int fd, struct store_body *, struct error *) MUST_USE;
/* A new UIDVALIDITY, greater than any this store gave. */
int store_new_uidvalidity(struct store *, uint32_t *, struct error *) MUST_USE;
/* A UIDVALIDITY that another server gave: new ones will be greater. */
int store_note_uidvalidity(struct store *, uint32_t, struct error *) MUST_USE;

/* --- folders.c --- */
/* store_create for who must not wait for others that change the set of folders: they may wait for
 * what is locked here. */
int store_create_locked(struct store *, struct slice folder, struct error *) MUST_USE;

/* --- adopt.c: taking over from another server --- */
struct foreign;
struct foreign_msg;
/* Reads what it left. *numbers: UIDVALIDITY and UIDs are taken over, and the box's head has
 * them; only when there is nothing of ours, and only once. */
int adopt_begin(struct box *, bool fresh, struct foreign *, bool *numbers, struct error *) MUST_USE;
/* Completes a record; its uid becomes the one it had, or 0. */
void adopt_record(struct box *, const struct foreign *, const struct found_file *, struct op *);
/* The GUID of a message: unchanged when the other server told none. */
void adopt_guid(const struct box *, const struct foreign *, const struct foreign_msg *,
    unsigned char guid[STORE_GUID]);
/* Saves unique ids, and that numbers were taken over; before the index is written. */
int adopt_end(struct box *, const struct foreign *, const struct found *, bool numbers,
    struct error *) MUST_USE;

/* --- quota.c --- */
void quota_free(struct quota_state *);

/* --- uidl.c --- */
/* Saves the unique ids of messages that are there. */
int uidl_save(struct box *, const struct foreign *, const struct found *, struct error *) MUST_USE;
/* A GUID that tells the unique id Dovecot makes of UIDVALIDITY and UID. */
void uidl_guid(
    const struct box *, uint32_t uidvalidity, uint32_t uid, unsigned char guid[STORE_GUID]);
