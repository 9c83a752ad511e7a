/* Mailbox names and text in UTF-8: RFC 9755 (UTF8=ACCEPT), RFC 6855, RFC 5161, RFC 3501 §5.1.3. */
#include "tests/unit/imapd/session/dialog.h"

#define UE "\xc3\xbc"
#define NAME "Entw" UE "rfe"
#define UTF7 "Entw&APw-rfe"

static void test_names_are_modified_utf7_until_utf8_is_enabled(void **state)
{
    dialog(client_a(state), "C: a CREATE \"" UTF7 "/x & y\"\n"
                            "S: a BAD ~\n"
                            "C: a CREATE \"" UTF7 "/x &- y\"\n"
                            "S: a OK ~\n"
                            "C: b LIST \"\" *\n"
                            "S: * LIST ~\n"
                            "S: * LIST (\\Noselect \\HasChildren) \"/\" \"" UTF7 "\"\n"
                            "S: * LIST (\\HasNoChildren) \"/\" \"" UTF7 "/x &- y\"\n"
                            "S: b OK ~\n"
                            "C: c ENABLE X-UNKNOWN UTF8=ACCEPT\n"
                            "S: * ENABLED UTF8=ACCEPT\n"
                            "S: c OK ~\n"
                            "C: d LIST \"\" " NAME "/%\n"
                            "S: * LIST (\\HasNoChildren) \"/\" \"" NAME "/x & y\"\n"
                            "S: d OK ~\n"
                            "C: e STATUS \"" NAME "/x & y\" (MESSAGES)\n"
                            "S: * STATUS \"" NAME "/x & y\" (MESSAGES 0)\n"
                            "S: e OK ~\n"
                            "C: f SUBSCRIBE {15+}\n"
                            "C: " NAME "/x & y\n"
                            "S: f OK ~\n"
                            "C: g LSUB \"\" *\n"
                            "S: * LSUB () \"/\" \"" NAME "/x & y\"\n"
                            "S: g OK ~\n"
                            "C: h STATUS \"" UTF7 "/x &- y\" (MESSAGES)\n"
                            "S: h NO [NONEXISTENT] ~\n"
                            "C: i GETQUOTAROOT \"" NAME "/x & y\"\n"
                            "S: * QUOTAROOT \"" NAME "/x & y\" \"\"\n"
                            "S: * QUOTA~\n"
                            "S: i OK ~\n");
}

static void test_enable_of_nothing_known(void **state)
{
    dialog(client_a(state), "C: a ENABLE X-A X-B\n"
                            "S: * ENABLED\n"
                            "S: a OK ~\n"
                            "C: b ENABLE\n"
                            "S: b BAD ~\n"
                            "C: c CREATE " UTF7 "\n"
                            "S: c OK ~");
}

/* Not allowed, but sent. */
static void test_raw_utf8_is_understood_without_being_enabled(void **state)
{
    dialog(client_a(state), "C: a CREATE \"" NAME " & mehr\"\n"
                            "S: a OK ~\n"
                            "C: b SELECT " NAME "\n"
                            "S: b NO [NONEXISTENT] ~\n"
                            "C: c RENAME \"" NAME " & mehr\" {9+}\n"
                            "C: " NAME "\n"
                            "S: c OK ~\n"
                            "C: d LIST \"\" \"" NAME "\"\n"
                            "S: * LIST (\\HasNoChildren) \"/\" \"" UTF7 "\"\n"
                            "S: d OK ~\n"
                            "C: e LIST \"Entw" UE "\" %\n"
                            "S: * LIST ~ \"" UTF7 "\"\n"
                            "S: e OK ~\n"
                            "C: f DELETE " UTF7 "\n"
                            "S: f OK ~");
}

static void test_names_that_no_mailbox_can_have(void **state)
{
    dialog(client_a(state), "C: a ENABLE UTF8=ACCEPT\n"
                            "S: * ENABLED UTF8=ACCEPT\n"
                            "S: a OK ~\n"
                            "C: b CREATE \"\xc3\"\n"
                            "S: b BAD ~\n"
                            "C: b CREATE \"a\xed\xa0\x80\"\n"
                            "S: b BAD ~\n"
                            "C: c CREATE \"a\x01\"\n"
                            "S: c BAD ~\n"
                            "C: c CREATE \"a\x7f\"\n"
                            "S: c BAD ~\n"
                            "C: c CREATE \"a\xc2\x85\"\n"
                            "S: c NO [CANNOT] ~\n"
                            "C: c CREATE \"a\xe2\x80\xa8\"\n"
                            "S: c NO [CANNOT] ~\n"
                            "C: d CREATE {4+}\n"
                            "C: a\n"
                            "C: b\n"
                            "S: d BAD ~\n"
                            "C: e CREATE /a\n"
                            "S: e NO [CANNOT] ~\n"
                            "C: e CREATE \"/\"\n"
                            "S: e NO [CANNOT] ~\n"
                            "C: e CREATE \"\"\n"
                            "S: e NO [CANNOT] ~\n"
                            "C: f CREATE a//\n"
                            "S: f NO [CANNOT] ~\n"
                            "C: g LIST \"\" \"\xc3*\"\n"
                            "S: g OK ~");
}

static void test_names_that_only_look_odd(void **state)
{
    dialog(client_a(state), "C: a CREATE \"..\"\n"
                            "S: a OK ~\n"
                            "C: a CREATE \"../../etc\"\n"
                            "S: a OK ~\n"
                            "C: b CREATE \".\"\n"
                            "S: b OK ~\n"
                            "C: c CREATE cur\n"
                            "S: c OK ~\n"
                            "C: c CREATE veredus.index\n"
                            "S: c OK ~\n"
                            "C: d CREATE trailing/\n"
                            "S: d OK ~\n"
                            "C: d CREATE trailing\n"
                            "S: d NO [ALREADYEXISTS] ~\n"
                            "C: e CREATE inBoX\n"
                            "S: e NO [ALREADYEXISTS] ~\n"
                            "C: e CREATE inBoX/\n"
                            "S: e NO [ALREADYEXISTS] ~\n"
                            "C: f CREATE inbox/child\n"
                            "S: f OK ~\n"
                            "C: f CREATE Inbox/child\n"
                            "S: f NO [ALREADYEXISTS] ~\n"
                            "C: g LIST \"\" InBox*\n"
                            "S: * LIST (\\HasChildren) \"/\" \"INBOX\"\n"
                            "S: * LIST (\\HasNoChildren) \"/\" \"INBOX/child\"\n"
                            "S: g OK ~\n"
                            "C: h RENAME inbox/child Inbox/other\n"
                            "S: h OK ~\n"
                            "C: i STATUS \"INBOX/other\" (UNSEEN)\n"
                            "S: * STATUS \"INBOX/other\" (UNSEEN 0)\n"
                            "S: i OK ~\n"
                            "C: j CREATE \"a\\\\b\\\"c\"\n"
                            "S: j OK ~\n"
                            "C: k LIST \"\" a*\n"
                            "S: * LIST (\\HasNoChildren) \"/\" \"a\\\\b\\\"c\"\n"
                            "S: k OK ~\n");
}

static void test_a_name_too_long_for_its_directory_is_refused(void **state)
{
    struct client *c = client_a(state);
    char script[2000];
    static const char twenty[] = UE UE UE UE UE UE UE UE UE UE;
    snprintf(script, sizeof(script), "C: a CREATE \"%s%s%s%s%s%s%s%s%s%s\"\nS: a NO [CANNOT] ~",
        twenty, twenty, twenty, twenty, twenty, twenty, twenty, twenty, twenty, twenty);
    dialog(c, script);
    snprintf(script, sizeof(script), "C: a CREATE \"%s%s%s%s%s%s%s%s%s\"\nS: a OK ~", twenty,
        twenty, twenty, twenty, twenty, twenty, twenty, twenty, twenty);
    dialog(c, script);
    snprintf(script, sizeof(script), "C: a CREATE \"%300d\"\nS: a NO [CANNOT] ~", 1);
    dialog(c, script);
    dialog(c, "C: b CREATE box\nS: b OK ~");
    snprintf(script, sizeof(script), "C: a RENAME box \"%300d\"\nS: a NO [CANNOT] ~", 1);
    dialog(c, script);
    dialog(c, "C: b STATUS box (UNSEEN)\nS: * STATUS \"box\" (UNSEEN 0)\nS: b OK ~");
}

#define UTF8_MAIL_LINE "Subject: " NAME

/* RFC 6855 §4; RFC 9755 takes it as any other literal. */
static void test_append_in_utf8(void **state)
{
    dialog(client_a(state), "C: a APPEND INBOX UTF8 (~{23+}\n"
                            "C: " UTF8_MAIL_LINE "\n"
                            "C: \n"
                            "C: x)\n"
                            "S: a BAD ~\n"
                            "C: b ENABLE utf8=accept\n"
                            "S: * ENABLED UTF8=ACCEPT\n"
                            "S: b OK ~\n"
                            "C: c APPEND INBOX (\\Seen) UTF8 (~{23+}\n"
                            "C: " UTF8_MAIL_LINE "\n"
                            "C: \n"
                            "C: x)\n"
                            "S: c OK [APPENDUID ~] ~\n"
                            "C: d APPEND INBOX {23+}\n"
                            "C: " UTF8_MAIL_LINE "\n"
                            "C: \n"
                            "C: x\n"
                            "S: d OK [APPENDUID ~] ~\n");
}

static void test_search_in_utf8(void **state)
{
    struct client *c = client_a(state);
    append(c, UE, "");
    append(c, "=?iso-8859-1?q?=FC?=", "");
    append(c, "u", "");
    dialog(c,
        "C: s SELECT INBOX\nS: * FLAGS~\nS: * OK~\nS: * 3 EXISTS\nS: ~\nS: ~\nS: ~\nS: ~\nS: ~\n"
        "S: s OK~\n"
        "C: a SEARCH CHARSET UTF-8 SUBJECT \"" UE "\"\n"
        "S: * SEARCH 1 2\n"
        "S: a OK ~\n"
        "C: b ENABLE UTF8=ACCEPT\n"
        "S: * ENABLED UTF8=ACCEPT\n"
        "S: b OK ~\n"
        "C: c SEARCH SUBJECT \"" UE "\"\n"
        "S: * SEARCH 1 2\n"
        "S: c OK ~\n"
        "C: d SEARCH CHARSET UTF-8 SUBJECT \"" UE "\"\n"
        "S: d BAD ~");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_names_are_modified_utf7_until_utf8_is_enabled),
        TEST(test_enable_of_nothing_known),
        TEST(test_raw_utf8_is_understood_without_being_enabled),
        TEST(test_names_that_no_mailbox_can_have),
        TEST(test_names_that_only_look_odd),
        TEST(test_a_name_too_long_for_its_directory_is_refused),
        TEST(test_append_in_utf8),
        TEST(test_search_in_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
