/*
 * What simulated histories of the mailbox store may expect: which messages were put where, what
 * was acknowledged, and what a stop of the machine may take away again. test_store_crash.c has the
 * promises; storeverbs.c does what users, tools and other mail programs do.
 *
 * A place is a folder under whatever name it has now. Names are never given twice, so a name that
 * is found tells the place.
 */
#pragma once

#include "libstore/store.h"
#include "tests/crash/simfs.h"

enum {
    MESSAGES = 512,
    PLACES = 24,
    FIXED = 3, /* the first places are there from the beginning and stay */
    NAMES = 6,
    NUMBERS = 1 << 13,
    BIG = 200 * 1024
};

/* How often a message is in a place, at least and at most. */
struct count {
    int acked, durable; /* that were put there, and those of them that a power cut leaves */
    int taken;          /* attempts to remove one */
    int may;
    int expunged; /* acknowledged, not yet synced; they are no longer counted in may */
};

enum place_state { PLACE_MAYBE, PLACE_THERE, PLACE_GONE };

struct place {
    char name[NAMES][24]; /* it may have any of these; the last is the newest */
    int nnames;
    enum place_state state;
    bool doomed;       /* somebody deletes it, or did: it has to hold nothing */
    bool restored;     /* its numbers were others' before */
    uint32_t validity; /* seen last, with the highest modseq */
    uint64_t highest;
    struct count count[MESSAGES];
};

/* What was seen under a UID. */
struct number {
    uint32_t validity, uid;
    short place;
    short message; /* + 1; 0: nothing is known */
    bool gone;     /* its expunge was acknowledged, and the machine has not stopped since */
    bool observed; /* modseq, flags and words are those of the last check */
    uint32_t flags, words;
    uint64_t modseq;
    struct {
        bool known, set; /* what this process has set was acknowledged */
    } flag[SIM_PROCESSES], word[SIM_PROCESSES];
};

struct delivery {
    bool synced, done;
    int place; /* -1: none */
};

struct world {
    uint64_t seed;
    bool coexist, keep, gather, faults;
    bool switches;  /* coexist changes while no process runs */
    bool coexisted; /* it was so once: files may be what other programs left */
    bool shared;    /* the last process is somebody else's, who sees only INBOX */
    bool cut;       /* the machine has stopped once */
    int messages, places;
    uint32_t size[MESSAGES];
    bool on_disk[MESSAGES]; /* its file once was, not only an entry of the journal */
    bool foreign[MESSAGES]; /* removed by another program */
    struct delivery delivery[MESSAGES];
    struct place place[PLACES];
    struct number number[NUMBERS];
    char problem[300];
};
extern struct world world;

#define TRACE(...) (getenv("VEREDUS_SEED") ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

/* The first one counts. Begins with the promise that was broken. */
void world_problem(const char *format, ...) PRINTF_LIKE(1, 2);
void world_begin(uint64_t seed);

/* --- messages --- */
int world_message(void); /* a new one; -1: there are enough */
void world_content(int message, struct buf *out);
/* Which one it is; -1: none of ours. */
int world_message_of(struct slice content);

/* --- places --- */
int world_place_new(const char *name); /* -1: there are enough */
void world_place_name(int place, const char *name);
int world_place_of(struct slice name);
int world_choose_place(void);
const char *world_name(int place); /* one that it may have */
int world_must(int place, int message);
/* Before a verb that puts a message somewhere, and when it was acknowledged. */
void world_may_come(int place, int message);
void world_came(int place, int message, bool durable);

/* --- numbers --- */
struct number *world_number(int place, uint32_t validity, uint32_t uid);
/* A message was seen under a number (I8). */
void world_seen(int place, uint32_t validity, uint32_t uid, int message);

/* --- what happens to all --- */
void world_power_cut(void);
/* A sync of everything: begin remembers what it covers, end says that it was acknowledged. */
struct world_sync;
struct world_sync *world_sync_begin(void);
void world_sync_end(struct world_sync *, bool good);

/* --- storeverbs.c --- */
struct session {
    int process;
    struct store *store;
    struct store_mailbox *mb;
    bool guest;
    int place, at[2]; /* at: of a guest, where INBOX lies */
    struct error err;
};
bool verbs_open(struct session *);
void verbs_leave(struct session *);
void verbs_close(struct session *);
/* Something at random. */
void verbs_one(struct session *);
/* One delivery, for the first time or again. */
void verbs_deliver(struct session *, int message);
/* Which message a file holds, with whatever line ends; -1: none of ours. */
int verbs_read_file(int dir, const char *path);
/* Whether some file below `dir` has this content. */
bool verbs_on_disk(const char *dir, int message);
/* Calls fn for each kept message that is one of ours. */
void verbs_kept(struct session *, void (*fn)(void *arg, int message), void *arg);

/* --- storestrangers.c: what another mail program does --- */
/* One of its directories. */
void world_maildir(int place, const char *part, char out[64]);
void verbs_stranger(struct session *);
