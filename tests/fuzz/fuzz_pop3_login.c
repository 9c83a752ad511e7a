/* What a stranger may say to pop3-login. */
#include "pop3d/login/pop3_login.h"
#include "tests/fuzz/login_dialog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return login_dialog(&pop3_login_protocol, data, size);
}
