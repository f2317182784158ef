/* Worker: submit and poll in arrays, exactly one completion each, wake, cancel, a full queue, the event descriptor. */
#include "peer.h"

#include <fcntl.h>
#include <pthread.h>

enum { MANY = 1000 };

static void each_request_completes_once(uint32_t flags, const char *what) {
    static rde_request requests[MANY];
    static unsigned seen[MANY];
    struct side side;
    uint32_t accepted = 0, total = 0;
    memset(seen, 0, sizeof seen);
    if (!side_open(&side, "worker", flags, 0)) return;
    for (uint32_t i = 0; i < MANY; i++) {
        requests[i] = (rde_request){.user_data = i, .op = RDE_OP_NOP};
    }
    CHECK_STATUS(OK, rde_worker_submit(side.worker, requests, MANY, &accepted));
    CHECK(accepted == MANY);
    for (int64_t end = now_ns() + INT64_C(60000000000); total < MANY && CHECK(now_ns() < end);) {
        if (!side_poll(&side, 1000000)) break;
        for (uint32_t i = 0; i < side.count; i++, total++) {
            CHECK(side.kept[i].op == RDE_OP_NOP && side.kept[i].status == RDE_STATUS_OK);
            if (CHECK(side.kept[i].user_data < MANY)) seen[side.kept[i].user_data]++;
        }
        side.count = 0;
    }
    for (uint32_t i = 0; i < MANY; i++) CHECK(seen[i] == 1);
    CHECK(side_poll(&side, 0) && side.count == 0);
    CHECK_STATUS(OK, rde_worker_cancel(side.worker, 1));
    CHECK(side_poll(&side, 0) && side.count == 0);
    side_close(&side);
    shown(what);
}

static void queue_full(uint32_t flags, const char *what) {
    struct side side;
    rde_error error;
    rde_worker_options options = RDE_WORKER_OPTIONS_INIT;
    rde_request requests[64];
    rde_completion done[64];
    uint32_t accepted = 99, got = 0, total = 0;
    options.flags = flags;
    options.submission_capacity = 8;
    options.completion_capacity = 16;
    for (uint32_t i = 0; i < 64; i++) requests[i] = (rde_request){.user_data = i, .op = RDE_OP_NOP};
    if (!CHECK_OK(error, rde_context_open(NULL, &side.context, &error)) ||
        !CHECK_OK(error, rde_worker_open(side.context, &options, &side.worker, &error)))
        return;
    /* Nobody polls, so no more than the completion queue holds can be accepted. */
    CHECK_STATUS(QUEUE_FULL, rde_worker_submit(side.worker, requests, 64, &accepted));
    CHECK(accepted >= 1 && accepted <= 16);
    for (int64_t end = now_ns() + INT64_C(60000000000); total < accepted && CHECK(now_ns() < end); total += got) {
        if (!CHECK_STATUS(OK, rde_worker_poll(side.worker, 1000000, done, 64, &got))) break;
        for (uint32_t i = 0; i < got; i++) CHECK(done[i].user_data < accepted);
    }
    CHECK(total == accepted);
    CHECK_STATUS(OK, rde_worker_submit(side.worker, requests, 1, &accepted));
    CHECK(accepted == 1);
    side_close(&side);
    shown(what);
}

static void *wait_for_ever(void *argument) {
    struct side *side = argument;
    rde_completion done;
    uint32_t got = 9;
    CHECK_STATUS(OK, rde_worker_poll(side->worker, -1, &done, 1, &got));
    CHECK(got == 0);
    return NULL;
}

static void wake(uint32_t flags, const char *what) {
    struct side side;
    pthread_t thread;
    if (!side_open(&side, "woken", flags, 0)) return;
    if (!CHECK(pthread_create(&thread, NULL, wait_for_ever, &side) == 0)) return;
    /* Before or after the thread has begun to wait: a wake with nobody waiting ends the next wait. */
    CHECK_STATUS(OK, rde_worker_wake(side.worker));
    CHECK(pthread_join(thread, NULL) == 0);
    side_close(&side);
    shown(what);
}

static void event_descriptor(void) {
    struct side side;
    rde_error error;
    int first = -1, second = -1;
    if (!side_open(&side, "descriptor", 0, 0)) return;
    CHECK_OK(error, rde_worker_event_fd(side.worker, &first, &error));
    CHECK_OK(error, rde_worker_event_fd(side.worker, &second, &error));
    CHECK(first >= 0 && second >= 0 && first != second);
    CHECK(fcntl(first, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(first, F_GETFL) & O_NONBLOCK);
    CHECK(close(first) == 0);
    side_close(&side);
    CHECK(fcntl(second, F_GETFD) != -1);
    CHECK(close(second) == 0);
    shown("each event descriptor is the caller's own, and outlives the worker");
}

static void after_close(void) {
    struct side side;
    rde_request request = RDE_REQUEST_INIT;
    uint32_t accepted = 99;
    if (!side_open(&side, "closed", 0, 0)) return;
    side_close(&side);
    CHECK_STATUS(STALE_HANDLE, rde_worker_submit(side.worker, &request, 1, &accepted));
    CHECK(accepted == 99);
    CHECK_STATUS(STALE_HANDLE, rde_worker_arm(side.worker));
    CHECK_STATUS(STALE_HANDLE, rde_worker_close(side.worker));
    shown("nothing reaches a closed worker");
}

int main(void) {
    each_request_completes_once(0, "threaded: every request completes once");
    each_request_completes_once(RDE_WORKER_POLLED, "polled: every request completes once");
    each_request_completes_once(RDE_WORKER_NO_SPIN, "threaded without spinning: every request completes once");
    queue_full(0, "threaded: a full queue says so, and takes more after a poll");
    queue_full(RDE_WORKER_POLLED, "polled: a full queue says so, and takes more after a poll");
    wake(0, "threaded: a wake ends an endless wait");
    wake(RDE_WORKER_POLLED, "polled: a wake ends an endless wait");
    event_descriptor();
    after_close();
    return check_end();
}
