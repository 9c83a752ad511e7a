/* What a stranger may say to imap-login. */
#include "imapd/login/imap_login.h"
#include "tests/fuzz/login_dialog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return login_dialog(&imap_login_protocol, data, size);
}
