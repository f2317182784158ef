/* Context: options, details, several at a time, closing in order. */
#include "check.h"

static void defaults(void) {
    rde_context context, second;
    rde_context_details found = RDE_CONTEXT_DETAILS_INIT;
    rde_error error;
    if (!CHECK_OK(error, rde_context_open(NULL, &context, &error))) return;
    CHECK(context.id != 0);
    CHECK_OK(error, rde_context_info(context, &found, &error));
    CHECK(found.struct_size == sizeof found);
    CHECK(found.ucx_major > 1 || (found.ucx_major == 1 && found.ucx_minor >= 13));
    CHECK(strstr(found.ucx_path, "libucp") != NULL);
    CHECK(found.max_sessions == 10000 && found.sessions == 0);
    CHECK(found.memory_limit_bytes == UINT64_C(1) << 30 && found.memory_used_bytes == 0);
    CHECK_OK(error, rde_context_open(NULL, &second, &error));
    CHECK(second.id != context.id);
    CHECK_STATUS(OK, rde_context_close(context));
    CHECK_STATUS(STALE_HANDLE, rde_context_close(context));
    CHECK_STATUS(STALE_HANDLE, rde_context_info(context, &found, NULL));
    CHECK_STATUS(OK, rde_context_info(second, &found, NULL));
    CHECK_STATUS(OK, rde_context_close(second));
    shown("a context opens with its defaults, twice, and closes once");
}

static void options(void) {
    char name[65];
    rde_context context = {7};
    rde_context_details found = RDE_CONTEXT_DETAILS_INIT;
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_error error;
    memset(name, 'n', sizeof name);
    options.memory_limit_bytes = UINT64_C(8) << 20;
    options.max_sessions = 3;
    options.transports = RDE_TRANSPORT_SHARED | RDE_TRANSPORT_TCP;
    options.name.data = name;
    options.name.len = sizeof name;
    CHECK_STATUS(INVALID_ARGUMENT, rde_context_open(&options, &context, &error));
    CHECK(context.id == 7 && error.status == RDE_STATUS_INVALID_ARGUMENT && strstr(error.message, "name"));
    CHECK(error.message_len == strlen(error.message));
    options.name.len = 64;
    if (!CHECK_OK(error, rde_context_open(&options, &context, &error))) return;
    CHECK_OK(error, rde_context_info(context, &found, &error));
    CHECK(found.memory_limit_bytes == UINT64_C(8) << 20 && found.max_sessions == 3);
    CHECK_STATUS(OK, rde_context_close(context));
    shown("options are taken, and an overlong name is refused with its reason");
}

static void order(void) {
    rde_context context;
    rde_worker worker;
    rde_error error;
    if (!CHECK_OK(error, rde_context_open(NULL, &context, &error))) return;
    CHECK_OK(error, rde_worker_open(context, NULL, &worker, &error));
    CHECK_STATUS(WRONG_STATE, rde_context_close(context));
    CHECK_STATUS(OK, rde_worker_wake(worker));
    CHECK_STATUS(OK, rde_worker_close(worker));
    CHECK_STATUS(OK, rde_context_close(context));
    shown("a context with an open worker stays open");
}

int main(void) {
    defaults();
    options();
    order();
    return check_end();
}
