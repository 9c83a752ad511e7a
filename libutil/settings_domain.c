/* Rows of the registry (libutil/settings.c): domains and accounts that mail is for. */
#include "libutil/settings_rows.h"

/* What a user may keep, for the domains of a block. */
#define QUOTA_KEYS(who)                                                                            \
    {.name = "quota",                                                                              \
        .type = CONF_SIZE,                                                                         \
        .def = "0",                                                                                \
        .max = (int64_t)1 << 50,                                                                   \
        .readers = (who),                                                                          \
        .help = "Bytes of mail that each user may keep; 0: no limit. A user's entry in the users " \
                "table may say otherwise (veredus quota set)."},                                   \
        {.name = "quota-messages",                                                                 \
            .type = CONF_INT,                                                                      \
            .def = "0",                                                                            \
            .max = UINT32_MAX,                                                                     \
            .readers = (who),                                                                      \
            .help = "Messages that each user may keep; 0: no limit."},                             \
        {.name = "quota-grace",                                                                    \
            .type = CONF_INT,                                                                      \
            .def = "10",                                                                           \
            .max = 1000,                                                                           \
            .readers = (who),                                                                      \
            .help = "A delivery to a mailbox that is not full yet may exceed the quota by this "   \
                    "many percent."},                                                              \
        {.name = "quota-full",                                                                     \
            .type = CONF_CHOICE,                                                                   \
            .choices = "refuse|defer",                                                             \
            .def = "refuse",                                                                       \
            .readers = (who),                                                                      \
            .help =                                                                                \
                "What becomes of mail for a full mailbox: refused (552 5.2.2), or to be tried "    \
                "again later (452 4.2.2)."},                                                       \
    {                                                                                              \
        .name = "quota-folder", .type = CONF_LIST, .repeat = true, .readers = (who),               \
        .check = conf_word_quota_folder, .example = "Trash=+10% Archive=ignore",                   \
        .help = "Rules for folders and those below them. FOLDER=ignore: mail there does not "      \
                "count. FOLDER=+N% or FOLDER=+SIZE: what is put there may exceed the quota by "    \
                "that much."                                                                       \
    }

static const struct conf_key domain_keys[] = {
    {.name = "store",
        .type = CONF_STRING,
        .def = "{domain}/{user}",
        .readers = R(LOOKUPD) | R(AUTHD) | R(CTL),
        .check = conf_word_store,
        .help = "Directory of a mailbox, relative to mail-root. {domain} and {user} stand for the "
                "two parts of the address."},
    {.name = "coexist",
        .type = CONF_BOOL,
        .def = "no",
        .readers = R(AUTHD) | R(VIRTUAL) | R(IMAP_SESSION) | R(CTL),
        .help =
            "Whether other programs, such as Dovecot, mutt or mbsync, use the mailboxes of these "
            "domains too: bodies then have LF line ends, flags follow into file names, and what "
            "those programs change is found. Nothing of such mailboxes can be shared. Cannot "
            "change while the system runs; mailboxes that are there are taken over, with their "
            "numbers and flags."},
    {.name = "relay",
        .type = CONF_STRING,
        .readers = R(LOOKUPD) | R(SMTPD),
        .check = conf_word_relay,
        .example = "[192.0.2.1]:25",
        .help =
            "Mail for these domains is not kept here but passed on: to DOMAIN (its MX hosts) or to "
            "[HOST]:PORT, a name or an address; with lmtp: before it, over LMTP. No other key of "
            "the block can be set beside it: they are about mailboxes."},
    {.name = "catch-all",
        .type = CONF_STRING,
        .readers = R(LOOKUPD),
        .check = conf_word_address,
        .example = "someone@example.org",
        .help = "Address that receives mail for users that do not exist."},
    {.name = "expire",
        .type = CONF_BLOCK,
        .min = 1,
        .max = 64,
        .repeat = true,
        .readers = R(HOUSE) | ADMIN,
        .block = &expire_schema,
        .example = "Trash",
        .help = "As expire outside, for the mailboxes of these domains only."},
    {.name = "plus-address",
        .type = CONF_BOOL,
        .def = "yes",
        .readers = R(LOOKUPD),
        .help = "Deliver user+anything to user: into the folder of that name where there is one, "
                "otherwise into INBOX."},
    {.name = "public-folders",
        .type = CONF_STRING,
        .readers = R(IMAP_SESSION),
        .check = conf_word_address,
        .example = "public@example.org",
        .help =
            "The user whose folders are the public ones of these domains: what is shared of "
            "them (veredus acl set) stands below Public/ for the others. Mail for "
            "public+NEWS@example.org goes into the folder NEWS when anyone has the right p there."},
    QUOTA_KEYS(R(AUTHD) | R(CTL)), {0}};
const struct conf_schema domain_schema = {domain_keys};

static const struct conf_key local_keys[] = {
    {.name = "domains",
        .type = CONF_LIST,
        .readers = R(LOOKUPD) | R(AUTHD),
        .repeat = true,
        .check = conf_word_domain,
        .example = "example.org",
        .help = "Domains whose users are the accounts of this host."},
    {.name = "mailbox",
        .type = CONF_STRING,
        .def = "Maildir",
        .readers = R(LOCAL) | R(AUTHD),
        .check = conf_word_mailbox,
        .help = "The Maildir, relative to the user's home directory, or an mbox file such as "
                "/var/mail/{user}. The directory of mbox files must exist. When "
                "its group may write in it (root:mail 2775), files are made with that group; where "
                "neither that nor the user may, each file must exist. IMAP and POP3 do not read "
                "mbox files."},
    {.name = "min-uid",
        .type = CONF_INT,
        .def = "1000",
        .min = 1,
        .max = UINT32_MAX - 1,
        .readers = R(LOCAL) | R(AUTHD) | R(LOOKUPD) | R(PIPE),
        .help = "Accounts with a lower user id receive no mail and cannot log in."},
    QUOTA_KEYS(R(LOCAL) | R(LOOKUPD) | R(AUTHD) | R(CTL)), {0}};
const struct conf_schema local_schema = {local_keys};
