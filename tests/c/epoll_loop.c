/* A plain epoll loop over two workers' event descriptors: drain, arm, sleep. Messages go to and fro between two contexts.
 * Of threaded workers the loop sleeps without a timeout: a wake-up that is missed makes it hang, and the alarm ends it. */
#include "peer.h"

#include <sys/epoll.h>

enum { ROUNDS = 2000 };

struct loop {
    struct pair pair;
    int epoll, descriptor[2];
    int sleep_ms;
    unsigned sent, arrived[2];
    int accepted, connected;
};

static struct side *side_of(struct loop *loop, int which) {
    return which ? &loop->pair.client : &loop->pair.server;
}

static void send_number(struct loop *loop, int which) {
    uint64_t number = loop->sent++;
    rde_bytes data = {&number, sizeof number};
    rde_session session = which ? loop->pair.at_client : loop->pair.at_server;
    CHECK_STATUS(OK, rde_send(session, data, (rde_buffer){0}, 0, 0, 500 + number));
}

/* One completion at one side. Each message is answered with the next number until there were enough. */
static void handle(struct loop *loop, int which, const rde_completion *done) {
    uint64_t number = 0;
    CHECK_STATUS(OK, done->status);
    switch (done->op) {
    case RDE_OP_SESSION_ACCEPTED:
        loop->pair.at_server.id = done->value;
        loop->accepted = 1;
        break;
    case RDE_OP_SESSION_CONNECT:
        loop->connected = 1;
        send_number(loop, 1);
        break;
    case RDE_OP_MESSAGE:
        CHECK(done->length == sizeof number && (done->flags & RDE_COMPLETION_INLINE));
        memcpy(&number, done->data, sizeof number);
        CHECK(number == loop->arrived[0] + loop->arrived[1]);
        loop->arrived[which]++;
        if (loop->sent < ROUNDS) send_number(loop, which);
        break;
    case RDE_OP_SEND:
        CHECK(done->user_data >= 500 && done->user_data < 500 + loop->sent);
        break;
    default:
        CHECK(!"an operation that nobody asked for");
    }
}

static int finished(const struct loop *loop) {
    return loop->arrived[0] + loop->arrived[1] == ROUNDS || check_failed;
}

/* Drains both workers and arms them. Returns whether both may sleep. */
static int drain_and_arm(struct loop *loop) {
    int both = 1;
    for (int which = 0; which < 2; which++) {
        struct side *side = side_of(loop, which);
        rde_completion done[16];
        uint32_t got = 0;
        do {
            if (!CHECK_STATUS(OK, rde_worker_poll(side->worker, 0, done, 16, &got))) return 1;
            for (uint32_t i = 0; i < got; i++) handle(loop, which, &done[i]);
        } while (got > 0);
    }
    for (int which = 0; which < 2; which++) {
        rde_status status = rde_worker_arm(side_of(loop, which)->worker);
        CHECK(status == RDE_STATUS_OK || status == RDE_STATUS_NOT_READY);
        if (status != RDE_STATUS_OK) both = 0;
    }
    return both;
}

/* Sleeps for at most this long (-1: until something comes), and empties what is readable. Returns how many are. */
static int sleep_until_readable(struct loop *loop, int timeout_ms) {
    struct epoll_event events[2];
    int ready = epoll_wait(loop->epoll, events, 2, timeout_ms);
    for (int i = 0; i < ready; i++) {
        /* Of a polled worker's descriptor nothing can be read; the loop need not know which kind it has. */
        uint64_t count;
        if (read(events[i].data.fd, &count, sizeof count) < 0) continue;
    }
    return ready;
}

/* Nothing is going on: both workers are armed and no descriptor is readable. Then one message wakes the loop. */
static void wakes_from_quiet(struct loop *loop) {
    while (!drain_and_arm(loop) || sleep_until_readable(loop, 0) != 0) {
        if (check_failed) return;
    }
    unsigned before = loop->arrived[0];
    send_number(loop, 1);
    while (loop->arrived[0] == before && !check_failed) {
        if (drain_and_arm(loop) && loop->arrived[0] == before) sleep_until_readable(loop, loop->sleep_ms);
    }
}

static int start(struct loop *loop, uint32_t flags) {
    struct pair *pair = &loop->pair;
    rde_error error;
    size_t length;
    strcpy(pair->address, "tcp://127.0.0.1:0");
    if (!side_open(&pair->server, "server", flags, 0) || !side_open(&pair->client, "client", flags, 0)) return 0;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int which = 0; which < 2; which++) {
        struct epoll_event event = {.events = EPOLLIN};
        if (!CHECK_OK(error, rde_worker_event_fd(side_of(loop, which)->worker, &loop->descriptor[which], &error))) return 0;
        event.data.fd = loop->descriptor[which];
        CHECK(epoll_ctl(loop->epoll, EPOLL_CTL_ADD, event.data.fd, &event) == 0);
    }
    return CHECK_OK(error, rde_listener_open(pair->server.worker, text(pair->address), LISTENER_DATA, &pair->listener, &error)) &&
           CHECK_STATUS(OK, rde_listener_address(pair->listener, pair->address, sizeof pair->address, &length)) &&
           CHECK_OK(error, rde_session_connect(pair->client.worker, text(pair->address), CONNECT_DATA, &pair->at_client, &error));
}

static void run(uint32_t flags, const char *what) {
    static struct loop loop;
    memset(&loop, 0, sizeof loop);
    loop.sleep_ms = flags & RDE_WORKER_POLLED ? 1000 : -1;
    if (!start(&loop, flags)) return;
    while (!finished(&loop)) {
        if (drain_and_arm(&loop) && !finished(&loop)) sleep_until_readable(&loop, loop.sleep_ms);
    }
    CHECK(loop.accepted && loop.connected);
    CHECK(loop.arrived[0] == ROUNDS / 2 && loop.arrived[1] == ROUNDS / 2);
    for (int i = 0; i < 100; i++) wakes_from_quiet(&loop);
    for (int which = 0; which < 2; which++) CHECK(close(loop.descriptor[which]) == 0);
    close(loop.epoll);
    CHECK_STATUS(OK, rde_listener_close(loop.pair.listener));
    side_close(&loop.pair.client);
    side_close(&loop.pair.server);
    shown(what);
}

int main(void) {
    alarm(120);
    run(0, "threaded workers: every message arrived, in order, also out of a quiet loop");
    run(RDE_WORKER_POLLED, "polled workers: every message arrived, in order, also out of a quiet loop");
    return check_end();
}
