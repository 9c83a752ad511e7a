/* hash: and btree: tables. The only file that knows Berkeley DB. No environment is used: it
 * would be shared state that a killed process could leave broken. */
#include "libutil/table_internal.h"

#include <db.h>
#include <errno.h>

static int fail(struct error *err, const char *name, int code)
{
    return error_set(
        err, code == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", name, db_strerror(code));
}

/* Berkeley DB writes reasons to standard error unless told otherwise; we return them. */
static void quiet(const DB_ENV *env, const char *prefix, const char *message)
{
    (void)env;
    (void)prefix;
    (void)message;
}

static int create(DB **db)
{
    int rc = db_create(db, NULL, 0);
    if (rc == 0)
        (*db)->set_errcall(*db, quiet);
    return rc;
}

static int open_type(struct table *t, DBTYPE type, struct error *err)
{
    DB *db = NULL;
    int back = table_enter(t->dir_fd);
    if (back < 0)
        return error_sys(err, "%s", t->name);
    int rc = create(&db);
    if (rc == 0)
        rc = db->open(db, NULL, t->name, NULL, type, DB_RDONLY, 0);
    table_leave(back);
    if (rc) {
        if (db)
            db->close(db, 0);
        return fail(err, t->name, rc);
    }
    t->state = db;
    return OK;
}

static int hash_open(struct table *t, struct error *err)
{
    return open_type(t, DB_HASH, err);
}

static int btree_open(struct table *t, struct error *err)
{
    return open_type(t, DB_BTREE, err);
}

static void bdb_close(struct table *t)
{
    DB *db = t->state;
    if (db)
        db->close(db, 0);
    t->state = NULL;
}

static DBT dbt_of(struct slice s)
{
    return (DBT){.data = (void *)(uintptr_t)s.p, .size = (u_int32_t)s.n};
}

static int bdb_get(struct table *t, struct slice key, struct buf *out, struct error *err)
{
    DB *db = t->state;
    DBT k = dbt_of(key), v = {0};
    int rc = db->get(db, NULL, &k, &v, 0);
    if (rc == DB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc)
        return fail(err, t->name, rc);
    if (v.size > TABLE_VALUE_MAX || buf_put(out, slice_from(v.data, v.size)))
        return error_set(err, ERR_LIMIT, "%s: the value is too large", t->spec);
    return OK;
}

static int bdb_each(struct table *t, int (*fn)(struct slice key, struct slice value, void *arg),
    void *arg, struct error *err)
{
    DB *db = t->state;
    DBC *cursor;
    DBT k = {0}, v = {0};
    int stop = 0, rc = db->cursor(db, NULL, &cursor, 0);
    if (rc)
        return fail(err, t->name, rc);
    while (stop == 0 && (rc = cursor->get(cursor, &k, &v, DB_NEXT)) == 0)
        stop = fn(slice_from(k.data, k.size), slice_from(v.data, v.size), arg);
    cursor->close(cursor);
    return rc && rc != DB_NOTFOUND ? fail(err, t->name, rc) : stop;
}

static int build_type(
    const char *name, const struct table_text *text, DBTYPE type, struct error *err)
{
    DB *db = NULL;
    int rc = create(&db), closed = 0;
    if (rc == 0)
        rc = db->open(db, NULL, name, NULL, type, DB_CREATE | DB_EXCL, 0600);
    for (size_t i = 0; rc == 0 && i < text->n; i++) {
        DBT k = dbt_of(text->pairs[i].key), v = dbt_of(text->pairs[i].value);
        rc = db->put(db, NULL, &k, &v, DB_NOOVERWRITE);
    }
    if (db)
        closed = db->close(db, 0); /* writes what is cached */
    return rc || closed ? fail(err, name, rc ? rc : closed) : OK;
}

static int hash_build(const char *name, const struct table_text *text, struct error *err)
{
    return build_type(name, text, DB_HASH, err);
}

static int btree_build(const char *name, const struct table_text *text, struct error *err)
{
    return build_type(name, text, DB_BTREE, err);
}

const struct table_driver table_hash_driver = {
    "hash", ".db", hash_open, bdb_close, bdb_get, bdb_each, hash_build};
const struct table_driver table_btree_driver = {
    "btree", ".db", btree_open, bdb_close, bdb_get, bdb_each, btree_build};
