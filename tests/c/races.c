/* Eight threads use, close and release the same objects at once: each close happens once, every call returns, and nothing
 * is used after it is gone. With the sanitizers this also says that nothing leaks. */
#include "peer.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { THREADS = 8, LENGTH = 4096 };

static struct pair pair;
static rde_buffer remote, local;
static rde_region region;
static rde_key key;
static pthread_barrier_t start;

static int open_all(const char *scheme, uint32_t worker_flags, uint32_t ways) {
    rde_error error;
    void *there;
    return pair_open(&pair, scheme, worker_flags, ways) &&
           pair_region(&pair, LENGTH, RDE_RIGHT_READ | RDE_RIGHT_WRITE, &remote, &there, &key, &region) &&
           CHECK_OK(error, rde_buffer_alloc(pair.client.context, LENGTH, 0, &local, NULL, &error));
}

static void remove_socket(void) {
    if (!pair.folder[0]) return;
    unlink(pair.address + strlen("unix://"));
    CHECK(rmdir(pair.folder) == 0);
}

static void run(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&start, NULL, THREADS) == 0);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, body, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    pthread_barrier_destroy(&start);
}

/* How often each close was OK; what else it may answer while others do the same. */
static atomic_int closed[8], odd;

static void count(int place, rde_status status, rde_status otherwise) {
    if (status == RDE_STATUS_OK) atomic_fetch_add(&closed[place], 1);
    else if (status != RDE_STATUS_STALE_HANDLE && status != otherwise) atomic_fetch_add(&odd, 1);
}

static void *close_all(void *unused) {
    (void)unused;
    pthread_barrier_wait(&start);
    count(0, rde_region_release(region), RDE_STATUS_STALE_HANDLE);
    count(1, rde_buffer_release(local), RDE_STATUS_STALE_HANDLE);
    count(2, rde_session_close(pair.at_client, CLOSE_DATA), RDE_STATUS_WRONG_STATE);
    count(3, rde_listener_close(pair.listener), RDE_STATUS_STALE_HANDLE);
    count(4, rde_worker_close(pair.client.worker), RDE_STATUS_STALE_HANDLE);
    count(5, rde_worker_close(pair.server.worker), RDE_STATUS_STALE_HANDLE);
    /* A worker whose close another thread has begun may still be there. */
    count(6, rde_context_close(pair.client.context), RDE_STATUS_WRONG_STATE);
    count(7, rde_context_close(pair.server.context), RDE_STATUS_WRONG_STATE);
    return NULL;
}

static void closes(uint32_t worker_flags) {
    if (!open_all("unix", worker_flags, 0)) return;
    for (int i = 0; i < 8; i++) atomic_store(&closed[i], 0);
    run(close_all);
    for (int i = 0; i < 6; i++) {
        if (!CHECK(atomic_load(&closed[i]) == 1)) printf("    close %d was OK %d times\n", i, atomic_load(&closed[i]));
    }
    if (!atomic_load(&closed[6])) CHECK_STATUS(OK, rde_context_close(pair.client.context));
    if (!atomic_load(&closed[7])) CHECK_STATUS(OK, rde_context_close(pair.server.context));
    CHECK(atomic_load(&closed[6]) <= 1 && atomic_load(&closed[7]) <= 1 && atomic_load(&odd) == 0);
    remove_socket();
}

static atomic_ullong accepted_requests, completed_requests;
static atomic_int busy;

/* Submits and polls until the worker is gone. A polled worker has one poller at a time: the others are told so. */
static void use_worker(void) {
    rde_completion done[16];
    uint32_t got, accepted;
    atomic_fetch_add(&busy, 1);
    for (;;) {
        rde_request requests[4];
        for (int i = 0; i < 4; i++)
            requests[i] = (rde_request){.user_data = 1, .session = pair.at_client, .op = i % 2 ? RDE_OP_PUT : RDE_OP_GET,
                                        .buffer = local, .region = region, .length = LENGTH};
        accepted = 0;
        rde_status status = rde_worker_submit(pair.client.worker, requests, 4, &accepted);
        atomic_fetch_add(&accepted_requests, accepted);
        if (status == RDE_STATUS_STALE_HANDLE) requests[0].op = RDE_OP_NOP;
        got = 0;
        status = rde_worker_poll(pair.client.worker, 1000, done, 16, &got);
        for (uint32_t i = 0; status == RDE_STATUS_OK && i < got; i++)
            atomic_fetch_add(&completed_requests, done[i].op == RDE_OP_GET || done[i].op == RDE_OP_PUT);
        if (status == RDE_STATUS_STALE_HANDLE) break;
        if (status != RDE_STATUS_OK && status != RDE_STATUS_WRONG_STATE) atomic_fetch_add(&odd, 1);
        if (status == RDE_STATUS_WRONG_STATE) sched_yield();
    }
}

/* Asks everything that can be asked, until the context is gone. */
static void use_context(void) {
    rde_context_details context = RDE_CONTEXT_DETAILS_INIT;
    rde_session_details session = RDE_SESSION_DETAILS_INIT;
    rde_region_details details = RDE_REGION_DETAILS_INIT;
    rde_stats stats = RDE_STATS_INIT;
    atomic_fetch_add(&busy, 1);
    while (rde_context_info(pair.client.context, &context, NULL) == RDE_STATUS_OK) {
        rde_buffer buffer = {0};
        rde_key made;
        void *data = NULL;
        size_t length;
        if (rde_buffer_alloc(pair.client.context, 512, RDE_BUFFER_EXPORTABLE, &buffer, &data, NULL) == RDE_STATUS_OK)
            (void)!rde_buffer_export(buffer, 0, 512, RDE_RIGHT_READ, &made, NULL);
        (void)!rde_session_info(pair.at_client, &session, NULL);
        (void)!rde_session_stats(pair.at_client, &stats);
        (void)!rde_worker_stats(pair.client.worker, &stats);
        (void)!rde_region_info(region, &details);
        (void)!rde_context_metrics(pair.client.context, NULL, 0, &length);
        (void)!rde_worker_cancel(pair.client.worker, 1);
        (void)!rde_worker_wake(pair.client.worker);
        (void)!rde_buffer_release(buffer);
    }
}

static void *use(void *number) {
    pthread_barrier_wait(&start);
    switch ((uintptr_t)number) {
    case 0: /* Closes one after the other, once all the others are at it. */
        while (atomic_load(&busy) < THREADS - 1 || atomic_load(&accepted_requests) < 100) sched_yield();
        CHECK_STATUS(OK, rde_region_release(region));
        CHECK_STATUS(OK, rde_buffer_release(local));
        CHECK_STATUS(OK, rde_session_close(pair.at_client, CLOSE_DATA));
        CHECK_STATUS(OK, rde_worker_close(pair.client.worker));
        CHECK_STATUS(OK, rde_context_close(pair.client.context));
        break;
    case 1:
    case 2:
        use_context();
        break;
    default:
        use_worker();
    }
    return NULL;
}

static void uses(const char *scheme, uint32_t worker_flags, uint32_t ways) {
    /* The server's worker is threaded in any case: nobody polls it. */
    if (!open_all(scheme, 0, ways)) return;
    if (worker_flags) {
        /* A polled client in the place of the threaded one. */
        rde_completion done;
        rde_error error;
        rde_worker_options options = RDE_WORKER_OPTIONS_INIT;
        options.flags = worker_flags;
        CHECK_STATUS(OK, rde_worker_close(pair.client.worker));
        if (!CHECK_OK(error, rde_worker_open(pair.client.context, &options, &pair.client.worker, &error)) ||
            !CHECK_OK(error, rde_session_connect(pair.client.worker, text(pair.address), 3, &pair.at_client, &error)) ||
            !await_ok(&pair.client, NULL, RDE_OP_SESSION_CONNECT, 3, &done) ||
            !CHECK_STATUS(OK, rde_region_import(pair.at_client, &key, 4)) ||
            !await_ok(&pair.client, NULL, RDE_OP_REGION_IMPORT, 4, &done))
            return;
        region.id = done.value;
    }
    atomic_store(&busy, 0);
    atomic_store(&accepted_requests, 0);
    atomic_store(&completed_requests, 0);
    run(use);
    CHECK(atomic_load(&odd) == 0);
    CHECK(atomic_load(&completed_requests) <= atomic_load(&accepted_requests));
    side_close(&pair.server);
    remove_socket();
}

/* Closes inside of a poll loop, upon the first completion: each accepted request still has its one, and SESSION_CLOSED is
 * the last of the session. */
static void from_the_loop(uint32_t ways) {
    enum { REQUESTS = 64 };
    rde_request requests[REQUESTS];
    uint32_t accepted = 0, ended = 0, seen[REQUESTS] = {0};
    int is_closed = 0;
    if (!open_all("unix", 0, ways)) return;
    for (uint64_t i = 0; i < REQUESTS; i++)
        requests[i] = (rde_request){.user_data = i, .session = pair.at_client, .op = RDE_OP_GET, .buffer = local,
                                    .region = region, .length = LENGTH};
    CHECK_STATUS(OK, rde_worker_submit(pair.client.worker, requests, REQUESTS, &accepted));
    int64_t end = now_ns() + INT64_C(20000000000);
    while (!is_closed && CHECK(now_ns() < end)) {
        if (!side_poll(&pair.client, 100000)) break;
        for (uint32_t i = 0; i < pair.client.count; i++) {
            rde_completion *done = &pair.client.kept[i];
            if (done->op == RDE_OP_SESSION_CLOSED) {
                is_closed = 1;
                CHECK(ended == accepted);
            } else if (CHECK(done->op == RDE_OP_GET && done->user_data < REQUESTS && !seen[done->user_data]++) && !ended++) {
                CHECK_STATUS(OK, rde_region_release(region));
                CHECK_STATUS(OK, rde_buffer_release(local));
                CHECK_STATUS(OK, rde_session_close(pair.at_client, CLOSE_DATA));
            }
        }
        pair.client.count = 0;
    }
    CHECK(accepted == REQUESTS);
    side_close(&pair.client);
    side_close(&pair.server);
    remove_socket();
}

/* Two closes of one session, before the worker has looked at the first: one is told OK, and one completion comes. */
static void twice(void) {
    rde_completion done;
    if (!pair_open(&pair, "unix", RDE_WORKER_POLLED, 0)) return;
    CHECK_STATUS(OK, rde_session_close(pair.at_client, 1));
    CHECK(rde_session_close(pair.at_client, 2) < 0);
    if (await_ok(&pair.client, &pair.server, RDE_OP_SESSION_CLOSED, 1, &done)) CHECK(done.value == pair.at_client.id);
    /* What was ordered before it has come when this has. */
    rde_request nop = {.user_data = 3, .op = RDE_OP_NOP};
    uint32_t accepted = 0;
    CHECK_STATUS(OK, rde_worker_submit(pair.client.worker, &nop, 1, &accepted));
    if (await_ok(&pair.client, &pair.server, RDE_OP_NOP, 3, &done)) CHECK(pair.client.count == 0);
    side_close(&pair.client);
    side_close(&pair.server);
    remove_socket();
}

int main(void) {
    twice();
    shown("one of two closes is told OK");
    for (int i = 0; i < 5; i++) {
        closes(0);
        closes(RDE_WORKER_POLLED);
    }
    shown("eight threads close everything at once");
    uses("unix", 0, 0);
    uses("unix", 0, RDE_WAY_MESSAGE);
    uses("tcp", 0, RDE_WAY_MESSAGE);
    shown("closed while seven threads use it");
    uses("unix", RDE_WORKER_POLLED, 0);
    uses("tcp", RDE_WORKER_POLLED, RDE_WAY_MESSAGE);
    shown("closed while seven threads use it, polled");
    from_the_loop(0);
    from_the_loop(RDE_WAY_MESSAGE);
    shown("closed from the loop that polls it");
    return check_end();
}
