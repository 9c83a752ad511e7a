#include "libmail/envelope.h"

RECORD_DEFINE(envelope, ENVELOPE_FIELDS)
RECORD_DEFINE(recipient, RECIPIENT_FIELDS)
