/* lmdb: tables: one file, read without LMDB's lock file, since a built file never changes. */
#include "libutil/table_internal.h"

#include <errno.h>
#include <lmdb.h>

static int fail(struct error *err, const char *name, int code)
{
    return error_set(
        err, code == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", name, mdb_strerror(code));
}

struct reading {
    MDB_env *env;
    MDB_dbi dbi;
};

static void lmdb_close(struct table *t)
{
    struct reading *r = t->state;
    if (r)
        mdb_env_close(r->env);
    free(r);
    t->state = NULL;
}

static int open_environment(struct reading *r, const char *name)
{
    MDB_txn *txn;
    int rc = mdb_env_create(&r->env);
    if (rc == 0)
        rc = mdb_env_open(r->env, name, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(r->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &r->dbi);
    if (rc)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn);
    return rc;
}

static int lmdb_open(struct table *t, struct error *err)
{
    struct reading *r = NEW(struct reading);
    int back = table_enter(t->dir_fd);
    if (back < 0) {
        free(r);
        return error_sys(err, "%s", t->name);
    }
    int rc = open_environment(r, t->name);
    table_leave(back);
    t->state = r;
    if (rc)
        lmdb_close(t);
    return rc ? fail(err, t->name, rc) : OK;
}

static int lmdb_get(struct table *t, struct slice key, struct buf *out, struct error *err)
{
    struct reading *r = t->state;
    MDB_txn *txn;
    MDB_val k = {key.n, (void *)(uintptr_t)key.p}, v;
    int rc = mdb_txn_begin(r->env, NULL, MDB_RDONLY, &txn), full = OK;
    if (rc)
        return fail(err, t->name, rc);
    rc = mdb_get(txn, r->dbi, &k, &v);
    if (rc == 0)
        full = v.mv_size > TABLE_VALUE_MAX ? ERR_LIMIT
                                           : buf_put(out, slice_from(v.mv_data, v.mv_size));
    mdb_txn_abort(txn);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc)
        return fail(err, t->name, rc);
    return full ? error_set(err, full, "%s: the value is too large", t->spec) : OK;
}

static int lmdb_each(struct table *t, int (*fn)(struct slice key, struct slice value, void *arg),
    void *arg, struct error *err)
{
    struct reading *r = t->state;
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    int stop = 0, rc = mdb_txn_begin(r->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return fail(err, t->name, rc);
    rc = mdb_cursor_open(txn, r->dbi, &cursor);
    if (rc == 0) {
        while (stop == 0 && (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
            stop = fn(slice_from(k.mv_data, k.mv_size), slice_from(v.mv_data, v.mv_size), arg);
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc && rc != MDB_NOTFOUND ? fail(err, t->name, rc) : stop;
}

static int put_all(MDB_env *env, const struct table_text *text)
{
    MDB_txn *txn;
    MDB_dbi dbi;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &dbi);
    for (size_t i = 0; rc == 0 && i < text->n; i++) {
        struct slice key = text->pairs[i].key, value = text->pairs[i].value;
        MDB_val k = {key.n, (void *)(uintptr_t)key.p};
        MDB_val v = {value.n, (void *)(uintptr_t)value.p};
        rc = mdb_put(txn, dbi, &k, &v, MDB_NOOVERWRITE);
    }
    if (rc == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

static int lmdb_build(const char *name, const struct table_text *text, struct error *err)
{
    MDB_env *env;
    size_t map = (size_t)4 << 20;
    /* Long values take whole pages; the rest is generous for half-filled pages. */
    for (size_t i = 0; i < text->n; i++)
        map += 4 * text->pairs[i].key.n + 4 * text->pairs[i].value.n + 64;
    map += 8192 * (size_t)(text->n / 8);
    int rc = mdb_env_create(&env);
    if (rc)
        return fail(err, name, rc);
    rc = mdb_env_set_mapsize(env, map / 4096 * 4096);
    if (rc == 0)
        rc = mdb_env_open(env, name, MDB_NOSUBDIR | MDB_NOLOCK, 0600);
    if (rc == 0)
        rc = put_all(env, text);
    mdb_env_close(env);
    return rc ? fail(err, name, rc) : OK;
}

const struct table_driver table_lmdb_driver = {
    "lmdb", ".lmdb", lmdb_open, lmdb_close, lmdb_get, lmdb_each, lmdb_build};
