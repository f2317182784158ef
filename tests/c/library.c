/* Library: statuses and the log. */
#include "check.h"

static void on_log(void *user, uint32_t level, rde_bytes module, rde_bytes message) {
    (void)module, (void)message;
    if (level <= RDE_LOG_WARN) ++*(unsigned *)user;
}

int main(void) {
    CHECK(strcmp(rde_status_name(RDE_STATUS_OK), "OK") == 0);
    CHECK(strcmp(rde_status_name(RDE_STATUS_CONNECTION_LOST), "CONNECTION_LOST") == 0);
    CHECK(strcmp(rde_status_name(RDE_STATUS_PANIC), "PANIC") == 0);
    for (int32_t number = -100; number < 10; number++) {
        CHECK(rde_status_name(number)[0] != 0 && rde_status_message(number)[0] != 0);
        CHECK((strcmp(rde_status_name(number), "UNKNOWN") == 0) == (strcmp(rde_status_message(number), "unknown status") == 0));
    }
    shown("every number has a name and a message");

    unsigned messages = 0;
    CHECK_STATUS(INVALID_ARGUMENT, rde_log_set(on_log, RDE_LOG_TRACE + 1, &messages));
    CHECK_STATUS(OK, rde_log_set(on_log, RDE_LOG_WARN, &messages));
    CHECK_STATUS(OK, rde_log_set(on_log, RDE_LOG_TRACE, &messages));
    CHECK_STATUS(OK, rde_log_set(NULL, RDE_LOG_OFF, NULL));
    shown("the log callback can be set, changed and taken away");
    return check_end();
}
