/*
 * The registry of veredus.conf: one row a key. A key that stands here is read by some process;
 * `readers` says by which, and only they are given it. Rules between keys are in conf_check.c,
 * checks of single words in conf_words.c.
 */
#include "libutil/settings_rows.h"

static const struct conf_key tls_keys[] = {
    {.name = "cert",
        .type = CONF_PATH,
        .readers = FRONTS | R(KEYD) | ADMIN,
        .example = "tls/cert.pem",
        .help = "Certificate chain in PEM form, our own certificate first. Without it no TLS is "
                "offered."},
    {.name = "key",
        .type = CONF_PATH,
        .readers = R(KEYD) | ADMIN,
        .example = "tls/key.pem",
        .help = "Private key of the certificate in PEM form. Only keyd reads it."},
    {0}};
static const struct conf_schema tls_schema = {tls_keys};

static const struct conf_key listen_keys[] = {
    {.name = "protocol",
        .type = CONF_CHOICE,
        .choices = "smtp|submission|lmtp|imap|pop3",
        .readers = FRONTS | ADMIN,
        .example = "smtp",
        .help = "What is spoken here. When the block is named like a protocol, that is it."},
    {.name = "on",
        .type = CONF_LIST,
        .readers = ADMIN,
        .repeat = true,
        .required = true,
        .check = conf_word_listen,
        .example = "*:25",
        .help = "Where to listen: ADDRESS:PORT, * for every address of the host, IPv6 in brackets. "
                "A final s means TLS from the first byte, as in *:465s."},
    {.name = "tls",
        .type = CONF_CHOICE,
        .choices = "none|optional|required",
        .def = "optional",
        .readers = FRONTS | ADMIN,
        .help = "Whether STARTTLS is offered, and whether clients must use TLS. Optional means: "
                "offered when there is a certificate."},
    {.name = "auth",
        .type = CONF_CHOICE,
        .choices = "none|optional|required",
        .example = "none",
        .readers = R(SMTPD) | ADMIN,
        .help = "Whether SMTP clients may or must log in. Unset: required for submission, none "
                "for other protocols."},
    {.name = "future-release",
        .type = CONF_DURATION,
        .def = "30d",
        .min = 0,
        .max = 3650 * DAY,
        .readers = R(SMTPD),
        .help = "How far in the future clients that are logged in may have their mail delivered "
                "(FUTURERELEASE, RFC 4865). 0 turns it off."},
    {.name = "etrn",
        .type = CONF_CHOICE,
        .choices = "none|trusted|all",
        .def = "trusted",
        .readers = R(SMTPD),
        .help = "Who may ask for waiting mail to be sent now (ETRN, RFC 1985): nobody, clients in "
                "networks or logged in, or everybody; for domains with relay only."},
    {.name = "plaintext-auth",
        .type = CONF_CHOICE,
        .choices = "never|loopback|always",
        .def = "loopback",
        .readers = FRONTS,
        .help = "Whether passwords are accepted on connections without TLS: never, only from the "
                "same host, or always."},
    {.name = "timeout",
        .type = CONF_DURATION,
        .def = "5m",
        .min = SECOND,
        .max = DAY,
        .readers = FRONTS,
        .help = "How long a silent client is kept (RFC 5321 4.5.3.2 asks for five minutes). For "
                "IMAP and POP3: until login."},
    {.name = "max-errors",
        .type = CONF_INT,
        .def = "20",
        .min = 1,
        .max = 10000,
        .readers = FRONTS,
        .help = "A client that was told of this many errors is disconnected."},
    {.name = "max-recipients",
        .type = CONF_INT,
        .def = "1000",
        .min = 1,
        .max = 100000,
        .readers = R(SMTPD),
        .help = "Recipients of one message; RFC 5321 asks for at least 100."},
    {.name = "max-sessions",
        .type = CONF_INT,
        .def = "10000",
        .min = 1,
        .max = 1000000,
        .readers = FRONTS,
        .help = "Connections that one process serves at a time."},
    {.name = "max-client-sessions",
        .type = CONF_INT,
        .def = "50",
        .min = 1,
        .max = 1000000,
        .readers = R(SMTPD),
        .help = "Connections that one process serves for one client address at a time. The same "
                "host is exempt."},
    {0}};
static const struct conf_schema listen_schema = {listen_keys};

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
    {.name = "relay",
        .type = CONF_STRING,
        .readers = R(LOOKUPD) | R(SMTPD),
        .check = conf_word_relay,
        .example = "[192.0.2.1]:25",
        .help =
            "Mail for these domains is not kept here but passed on: to DOMAIN (its MX hosts) or to "
            "[HOST]:PORT, a name or an address; with lmtp: before it, over LMTP."},
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
static const struct conf_schema domain_schema = {domain_keys};

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
static const struct conf_schema local_schema = {local_keys};

static const struct conf_key auth_keys[] = {
    {.name = "cache",
        .type = CONF_DURATION,
        .def = "60s",
        .min = 0,
        .max = HOUR,
        .readers = R(AUTHD),
        .help = "How long a verified password is remembered, so that a mail client's many logins "
                "cost one hash. A change of the users table ends it at once; 0 turns it off."},
    {.name = "delay",
        .type = CONF_DURATION,
        .def = "2s",
        .min = 0,
        .max = 20 * SECOND,
        .readers = R(AUTHD),
        .help = "How long the answer to a wrong password is held back."},
    {.name = "max-failures",
        .type = CONF_INT,
        .def = "10",
        .min = 1,
        .max = 100000,
        .readers = R(AUTHD),
        .help = "After this many failures in the window, further logins from that address (IPv6: "
                "its /64) are refused unseen; after ten times as many, logins to that account. "
                "Clients on the same host are exempt."},
    {.name = "window",
        .type = CONF_DURATION,
        .def = "10m",
        .min = SECOND,
        .max = DAY,
        .readers = R(AUTHD),
        .help = "How long a failure counts."},
    {.name = "workers",
        .type = CONF_INT,
        .def = "2",
        .min = 1,
        .max = 64,
        .readers = R(AUTHD),
        .help = "Threads that verify passwords."},
    {0}};
static const struct conf_schema auth_schema = {auth_keys};

static const struct conf_key outbound_keys[] = {
    {.name = "concurrency",
        .type = CONF_INT,
        .def = "20",
        .min = 1,
        .max = 1000,
        .readers = R(QMGR),
        .help = "Deliveries to one destination at a time."},
    {.name = "rate",
        .type = CONF_INT,
        .def = "0",
        .min = 0,
        .max = 600000,
        .readers = R(QMGR),
        .help = "Deliveries to one destination begun per minute. 0: as many as it takes."},
    {.name = "host-concurrency",
        .type = CONF_INT,
        .def = "50",
        .min = 1,
        .max = 10000,
        .readers = R(QMGR),
        .help = "Deliveries to one MX host at a time, whatever domains it serves."},
    {.name = "host-rate",
        .type = CONF_INT,
        .def = "0",
        .min = 0,
        .max = 600000,
        .readers = R(QMGR),
        .help = "Deliveries to one MX host begun per minute. 0: any number."},
    {.name = "total-concurrency",
        .type = CONF_INT,
        .def = "200",
        .min = 1,
        .max = 10000,
        .readers = R(QMGR),
        .help = "Deliveries to all other servers together at a time."},
    {.name = "total-rate",
        .type = CONF_INT,
        .def = "0",
        .min = 0,
        .max = 600000,
        .readers = R(QMGR),
        .help = "Deliveries to all other servers together begun per minute. 0: any number."},
    {.name = "retry-from",
        .type = CONF_DURATION,
        .def = "5m",
        .min = 100,
        .max = DAY,
        .readers = R(QMGR),
        .help = "Wait after the first failed attempt; it doubles with every further one."},
    {.name = "retry-to",
        .type = CONF_DURATION,
        .def = "4h",
        .min = 100,
        .max = 7 * DAY,
        .readers = R(QMGR),
        .help = "The longest wait between two attempts."},
    {.name = "lifetime",
        .type = CONF_DURATION,
        .def = "5d",
        .min = SECOND,
        .max = 60 * DAY,
        .readers = R(QMGR),
        .help = "Mail that could not be delivered for so long is returned."},
    {.name = "bounce-lifetime",
        .type = CONF_DURATION,
        .def = "2d",
        .min = SECOND,
        .max = 60 * DAY,
        .readers = R(QMGR),
        .help = "The same for reports, which are then given up."},
    {.name = "delay-warning",
        .type = CONF_DURATION,
        .def = "0s",
        .min = 0,
        .max = 60 * DAY,
        .readers = R(QMGR),
        .help = "Tell the sender once when mail has waited so long; 0 sends no warnings."},
    {.name = "port",
        .type = CONF_INT,
        .def = "25",
        .min = 1,
        .max = 65535,
        .readers = R(REMOTE),
        .help = "Port of other mail servers."},
    {.name = "relay-host",
        .type = CONF_STRING,
        .readers = R(LOOKUPD),
        .check = conf_word_relay,
        .example = "[smtp.example.net]:587",
        .help = "What takes all mail for other places: DOMAIN (its MX hosts) or [HOST]:PORT. "
                "Unset: the "
                "MX hosts of the recipient's domain."},
    {.name = "connect-timeout",
        .type = CONF_DURATION,
        .def = "30s",
        .min = 100,
        .max = HOUR,
        .readers = R(REMOTE),
        .help = "How long to wait for a connection to one address."},
    {.name = "timeout",
        .type = CONF_DURATION,
        .def = "5m",
        .min = 100,
        .max = HOUR,
        .readers = R(REMOTE),
        .help = "How long to wait for each reply (RFC 5321 4.5.3.2); the reply to the end of a "
                "message gets twice that."},
    {.name = "tls",
        .type = CONF_CHOICE,
        .choices = "none|optional|required",
        .def = "optional",
        .readers = R(REMOTE),
        .help = "Whether STARTTLS is used: never, when offered, or always."},
    {.name = "helo",
        .type = CONF_STRING,
        .readers = R(REMOTE),
        .check = conf_word_domain,
        .example = "mail.example.org",
        .help = "Name given in EHLO. Unset: hostname."},
    {.name = "source",
        .type = CONF_STRING,
        .readers = R(REMOTE),
        .check = conf_word_ip,
        .example = "192.0.2.25",
        .help = "Local address that connections come from."},
    {0}};
static const struct conf_schema outbound_schema = {outbound_keys};

static const struct conf_key dns_keys[] = {
    {.name = "servers",
        .type = CONF_LIST,
        .readers = R(DNSD),
        .repeat = true,
        .check = conf_word_dns_server,
        .example = "127.0.0.1 192.0.2.53@5353",
        .help = "Name servers to ask, ADDRESS or ADDRESS@PORT. Unset: those of /etc/resolv.conf, "
                "and the root servers when it names none."},
    {.name = "trust-anchor",
        .type = CONF_PATH,
        .readers = R(DNSD),
        .example = "/usr/share/dns/root.key",
        .help = "DNSSEC trust anchor. Unset: /usr/share/dns/root.key if it is there; without one, "
                "answers are not validated."},
    {.name = "cache",
        .type = CONF_SIZE,
        .def = "4M",
        .min = 64 * KB,
        .max = 4 * GB,
        .readers = R(DNSD),
        .help = "Memory for cached answers."},
    {0}};
static const struct conf_schema dns_schema = {dns_keys};

static const struct conf_key imap_keys[] = {
    {.name = "timeout",
        .type = CONF_DURATION,
        .def = "30m",
        .min = SECOND,
        .max = 7 * DAY,
        .readers = R(IMAP_SESSION),
        .help = "How long a silent client stays logged in (RFC 3501 5.4 asks for 30 minutes)."},
    {.name = "special-use",
        .type = CONF_LIST,
        .def = "Sent=sent Drafts=drafts Trash=trash Junk=junk Archive=archive",
        .repeat = true,
        .readers = R(IMAP_SESSION),
        .check = conf_word_special_use,
        .help = "What folders are for (RFC 6154) by their names, where clients did not say "
                "otherwise: FOLDER=USE, with the uses sent, drafts, trash, junk, archive."},
    {.name = "shared-folders",
        .type = CONF_BOOL,
        .def = "yes",
        .readers = R(IMAP_SESSION),
        .help = "Whether users may share folders with others (RFC 4314). Virtual users only; new "
                "shares are seen from the next login on."},
    {0}};
static const struct conf_schema imap_schema = {imap_keys};

static const struct conf_key pop3_keys[] = {
    {.name = "timeout",
        .type = CONF_DURATION,
        .def = "10m",
        .min = SECOND,
        .max = 7 * DAY,
        .readers = R(POP3_SESSION),
        .help = "How long a silent client stays logged in (RFC 1939 3 asks for ten minutes)."},
    {0}};
static const struct conf_schema pop3_schema = {pop3_keys};

static const struct conf_key log_keys[] = {{.name = "to",
                                               .type = CONF_LIST,
                                               .def = "file log/veredus.log",
                                               .readers = R(LOGD) | ADMIN,
                                               .path_word = 2,
                                               .help = "Where events go: file PATH."},
    {.name = "level",
        .type = CONF_CHOICE,
        .choices = "debug|info|notice|warn|error",
        .def = "info",
        .readers = EVERYONE,
        .help = "The least level that is logged."},
    {0}};
static const struct conf_schema log_schema = {log_keys};

#define WORKERS(role, count)                                                                 \
    {                                                                                        \
        .name = role, .type = CONF_INT, .def = count, .min = 0, .max = 64, .readers = ADMIN, \
        .help = "Processes of " role "; 0: one for each processor."                          \
    }
static const struct conf_key workers_keys[] = {WORKERS("smtpd", "0"), WORKERS("imap-login", "0"),
    WORKERS("pop3-login", "1"), WORKERS("virtual", "0"), WORKERS("remote", "1"), {0}};
static const struct conf_schema workers_schema = {workers_keys};

static const struct conf_key root_keys[] = {
    {.name = "hostname",
        .type = CONF_STRING,
        .readers = EVERYONE,
        .required = true,
        .check = conf_word_domain,
        .example = "mail.example.org",
        .help = "The full name of this host, as other servers know it."},
    {.name = "admin",
        .type = CONF_STRING,
        .readers = R(LOOKUPD) | R(BOUNCE) | R(CTL),
        .check = conf_word_address,
        .example = "admin@example.org",
        .help = "Address that receives mail for postmaster unless an alias says otherwise."},
    {.name = "directory",
        .type = CONF_PATH,
        .def = ".",
        .readers = ADMIN,
        .help = "Where this instance keeps its control socket and process id (run/)."},
    {.name = "networks",
        .type = CONF_LIST,
        .readers = R(SMTPD),
        .repeat = true,
        .check = conf_word_network,
        .example = "192.0.2.0/24 2001:db8::/32",
        .help = "Networks whose clients may send mail to anywhere without logging in."},
    {.name = "message-size",
        .type = CONF_SIZE,
        .def = "50M",
        .min = KB,
        .max = 2 * GB,
        .readers = R(SMTPD) | R(QMGR) | R(IMAP_SESSION),
        .help = "The largest message accepted."},
    {.name = "users",
        .type = CONF_TABLE,
        .def = "text:tables/users",
        .readers = R(AUTHD) | R(CTL),
        .help = "Who may log in and has a mailbox: ADDRESS: HASH, made by `veredus user add`."},
    {.name = "aliases",
        .type = CONF_TABLE,
        .readers = R(LOOKUPD) | R(CTL),
        .example = "text:/etc/aliases",
        .help = "Aliases of the local domains, in the form of aliases(5)."},
    {.name = "virtual-aliases",
        .type = CONF_TABLE,
        .readers = R(LOOKUPD) | R(CTL),
        .example = "text:tables/virtual-aliases",
        .help = "Aliases of whole addresses: ADDRESS or @DOMAIN, then the addresses that receive "
                "the mail."},
    {.name = "transport",
        .type = CONF_TABLE,
        .readers = R(LOOKUPD) | R(CTL),
        .example = "text:tables/transport",
        .help = "Where mail for an ADDRESS, DOMAIN or .DOMAIN goes: smtp:[HOST]:PORT, "
                "lmtp:[HOST]:PORT, virtual: or local:."},
    {.name = "hold",
        .type = CONF_TABLE,
        .readers = R(LOOKUPD) | R(CTL),
        .example = "text:tables/hold",
        .help = "Mail that is accepted but waits until `veredus queue release`. A key is the "
                "client's address or its beginning (192.0.2), the sender (<> for none), a "
                "recipient, or the domain of one of "
                "them; what stands behind it is for people."},
    {.name = "report-texts",
        .type = CONF_TABLE,
        .readers = R(LOOKUPD) | R(BOUNCE) | R(CTL),
        .example = "text:tables/report-texts",
        .help = "The words of reports to senders, where they are to be others than ours, in any "
                "language. Keys are failure-subject, failure-text, delay-subject, delay-text, "
                "success-subject and success-text, with a language behind (failure-text.de) for "
                "senders who name it in Accept-Language or Content-Language. In values {hostname}, "
                "{queue-id}, {sender}, {count} (recipients), {arrived} and {until} are replaced, "
                "and \\n ends a line. The file report-texts beside veredus.conf in the "
                "distribution has ours."},
    {.name = "mail-root",
        .type = CONF_PATH,
        .def = "mail",
        .readers = R(VIRTUAL) | R(HOUSE) | SESSIONS | R(CTL),
        .help = "Directory that holds all mailboxes."},
    {.name = "spool",
        .type = CONF_PATH,
        .def = "spool",
        .readers = R(QMGR) | R(CTL),
        .help = "Directory of mail that is not yet delivered."},
    {.name = "tls",
        .type = CONF_BLOCK,
        .readers = FRONTS | R(KEYD) | ADMIN,
        .block = &tls_schema,
        .help = "Certificate and key of this host."},
    {.name = "listen",
        .type = CONF_BLOCK,
        .min = 1,
        .max = 1,
        .repeat = true,
        .readers = FRONTS | ADMIN,
        .block = &listen_schema,
        .example = "smtp",
        .help = "A service: listen NAME { ... }."},
    {.name = "domain",
        .type = CONF_BLOCK,
        .min = 1,
        .max = 256,
        .repeat = true,
        .readers = R(LOOKUPD) | R(AUTHD) | R(SMTPD) | R(IMAP_SESSION) | R(HOUSE) | ADMIN,
        .block = &domain_schema,
        .example = "example.org",
        .help = "Domains that we receive mail for: domain NAME ... { ... }."},
    {.name = "mailbox",
        .type = CONF_BLOCK,
        .readers = SESSIONS | R(HOUSE) | ADMIN,
        .block = &mailbox_schema,
        .help = "What holds for every mailbox."},
    {.name = "expire",
        .type = CONF_BLOCK,
        .min = 1,
        .max = 64,
        .repeat = true,
        .readers = R(HOUSE) | ADMIN,
        .block = &expire_schema,
        .example = "Trash",
        .help = "Folders whose old messages go: expire FOLDER ... { after 30d; }, done by "
                "housekeeping. In a folder's name * stands for anything, % for anything but "
                "/. A domain that has expire blocks of its own has no others."},
    {.name = "housekeeping",
        .type = CONF_BLOCK,
        .readers = R(HOUSE) | ADMIN,
        .block = &housekeeping_schema,
        .help = "When old mail goes, as expire and keep-deleted say, and indexes are tidied: all "
                "mailboxes, one after the other, with the least priority."},
    {.name = "local",
        .type = CONF_BLOCK,
        .block = &local_schema,
        .readers = R(LOCAL) | R(LOOKUPD) | R(AUTHD) | R(PIPE) | ADMIN,
        .help = "Mail for accounts of this host."},
    {.name = "pipe",
        .type = CONF_BLOCK,
        .block = &pipe_schema,
        .readers = R(PIPE) | R(LOOKUPD) | ADMIN,
        .help = "Commands that get mail: |command in .forward files and aliases."},
    {.name = "command",
        .type = CONF_BLOCK,
        .min = 1,
        .max = 1,
        .repeat = true,
        .block = &command_schema,
        .readers = R(PIPE) | ADMIN,
        .example = "archive",
        .help = "A command that the transport table names as pipe:NAME: command NAME { ... }."},
    {.name = "auth",
        .type = CONF_BLOCK,
        .readers = R(AUTHD) | ADMIN,
        .block = &auth_schema,
        .help = "How logins are verified."},
    {.name = "outbound",
        .type = CONF_BLOCK,
        .block = &outbound_schema,
        .readers = R(QMGR) | R(REMOTE) | R(LOOKUPD) | ADMIN,
        .help = "Mail for other servers."},
    {.name = "destination",
        .type = CONF_BLOCK,
        .min = 1,
        .max = 64,
        .repeat = true,
        .block = &destination_schema,
        .readers = R(QMGR) | ADMIN,
        .example = "example.net",
        .help = "Limits of their own for next hops: destination NAME ... { ... }. A next hop is the "
                "recipient's domain, or what transport, relay or relay-host name instead, such as "
                "[192.0.2.1]:25. Unset ones are those of outbound."},
    {.name = "mx-host",
        .type = CONF_BLOCK,
        .min = 1,
        .max = 64,
        .repeat = true,
        .block = &mx_host_schema,
        .readers = R(QMGR) | ADMIN,
        .example = "mx1.provider.example",
        .help = "Limits of their own for hosts that MX records name: mx-host NAME ... { ... }. "
                "Unset ones are those of outbound."},
    {.name = "agent",
        .type = CONF_BLOCK,
        .min = 1,
        .max = 8,
        .repeat = true,
        .block = &transport_schema,
        .readers = R(QMGR) | ADMIN,
        .example = "virtual",
        .help = "Limits and retry times of an agent (remote, virtual, local, pipe): agent "
                "NAME ... { ... }. Unset ones are those of outbound."},
    {.name = "queue",
        .type = CONF_BLOCK,
        .block = &queue_schema,
        .readers = R(QMGR) | R(SMTPD) | ADMIN,
        .help = "The spool."},
    {.name = "report",
        .type = CONF_BLOCK,
        .block = &conf_report_schema,
        .readers = R(BOUNCE) | R(QMGR) | ADMIN,
        .help = "Reports to senders (delivery status notifications). Their words: report-texts."},
    {.name = "dns",
        .type = CONF_BLOCK,
        .readers = R(DNSD) | ADMIN,
        .block = &dns_schema,
        .help = "How names are looked up."},
    {.name = "imap",
        .type = CONF_BLOCK,
        .readers = R(IMAP_SESSION) | ADMIN,
        .block = &imap_schema,
        .help = "IMAP after login."},
    {.name = "pop3",
        .type = CONF_BLOCK,
        .readers = R(POP3_SESSION) | ADMIN,
        .block = &pop3_schema,
        .help = "POP3 after login."},
    {.name = "log",
        .type = CONF_BLOCK,
        .readers = EVERYONE,
        .block = &log_schema,
        .help = "What is logged, and where."},
    {.name = "workers",
        .type = CONF_BLOCK,
        .readers = ADMIN,
        .block = &workers_schema,
        .help = "How many processes share the work."},
    {0}};

const struct conf_schema conf_root_schema = {root_keys};
