#include "libutil/role.h"

#include <string.h>

#define ROLE_ROW(id, program, account, count) {program, account, count},
static const struct role_info roles[] = {ROLES(ROLE_ROW){"master", "root", 1}, {"ctl", "", 1}};

const struct role_info *role_info(enum role role)
{
    assert(role < ROLE_ANY_COUNT);
    return &roles[role];
}

int role_find(const char *program)
{
    for (int i = 0; i < ROLE_ANY_COUNT; i++)
        if (strcmp(roles[i].program, program) == 0)
            return i;
    return -1;
}
