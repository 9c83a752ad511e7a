/*
 * All commands of veredus(1) as one list of rows: to find one by its words, to print help about
 * them, and the words for shell completion.
 */
#pragma once

#include <stdio.h>

#include "ctl/ctl.h"

/* The row that argv begins with; *words is how many of them name it. NULL when there is none;
 * *noun_known then tells whether at least the first word is a noun. argc is at least 1. */
const struct ctl_verb *verbs_find(int argc, char **argv, int *words, bool *noun_known);
/* Says on standard error what the user may have meant by argv, which names no command, and returns
 * CTL_USAGE. */
int verbs_unknown(char **argv, bool noun_known);
/* The commands with this noun and this verb; NULL stands for any. False when there are none. */
bool verbs_help(FILE *out, const char *noun, const char *verb);
/* Usage, every command, and where the instance is. */
void verbs_help_all(FILE *out);
/* For shell completion, a line each: the nouns, or the verbs of one. */
void verbs_complete(const char *noun);
