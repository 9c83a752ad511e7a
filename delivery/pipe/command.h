/*
 * What is executed: the words of a command line, and its environment. No byte of a message or of an
 * envelope ever comes into a shell's command line: what the sender chose stands in the environment,
 * or in an argument of its own, with everything but letters, digits and a few marks replaced by _.
 */
#pragma once

#include "libutil/buf.h"
#include "libutil/error.h"

enum { COMMAND_WORDS = 64, COMMAND_BYTES = 8192, COMMAND_VARIABLES = 20 };

/* What a delivery knows; the names are those of the environment (upper case) and of templates. */
struct command_facts {
    struct slice sender, recipient, original;
    struct slice user; /* the recipient's local part without the extension */
    struct slice extension, domain;
    struct slice client, helo;
    uint64_t size;
};

/* argv and envp point into text. */
struct command {
    char *argv[COMMAND_WORDS + 1];
    char *envp[COMMAND_VARIABLES + 1];
    size_t nwords, nvariables, used;
    char text[COMMAND_BYTES];
};

/* A command line of a user. Without characters that mean something to a shell, and unless its first
 * word is one of the shell's own (exit 75), it is split at blanks; otherwise given to /bin/sh -c.
 * With a directory, the program is only looked for there by its last name, and there is no shell
 * (ERR_DENIED). */
int command_line(
    struct command *, struct slice line, const char *directory, struct error *) MUST_USE;
/* One word of a configured command, with ${name} replaced: sender recipient original user extension
 * domain client helo size. ERR_SYNTAX: another name. */
int command_word(
    struct command *, struct slice word, const struct command_facts *, struct error *) MUST_USE;
/* PATH, HOME and so on, and the facts. */
int command_environment(struct command *, const char *account, const char *home,
    const struct command_facts *, struct error *) MUST_USE;
