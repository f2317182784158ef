/*
 * A worker inside an event loop of one's own: lines of the standard input go out as messages, messages that arrive are
 * printed. One thread sleeps on both. The contract is drain, arm, sleep: whoever sleeps without arming misses
 * completions, and an arm that finds some says NOT_READY.
 *
 *     printf 'one\ntwo\n' | ./epoll_loop
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <rdma_engine.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static rde_error error;

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        rde_status status_ = (call);                                                                                   \
        if (status_ < 0) {                                                                                             \
            fprintf(stderr, "%s: %s\n", #call,                                                                         \
                    error.status == status_ ? error.message : rde_status_message(status_));                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define SYSTEM(call)                                                                                                   \
    do {                                                                                                               \
        if ((call) < 0) {                                                                                              \
            perror(#call);                                                                                             \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { LISTENER = 1, SESSION = 2 };

static unsigned long sent, received;
static bool open_now, input_ended;

static void print_message(const rde_completion *event)
{
    if (event->flags & RDE_COMPLETION_INLINE) {
        printf("%.*s\n", (int)event->length, (const char *)event->data);
    } else {
        /* A long message came in a buffer, which is ours now. */
        rde_buffer buffer = {event->value};
        void *data;
        TRY(rde_buffer_data(buffer, &data, NULL));
        printf("%.*s\n", (int)event->length, (const char *)data);
        TRY(rde_buffer_release(buffer));
    }
    received++;
}

/* Takes every completion that is there, in batches. */
static void drain(rde_worker worker)
{
    rde_completion batch[64];
    uint32_t count;
    do {
        TRY(rde_worker_poll(worker, 0, batch, 64, &count));
        for (uint32_t i = 0; i < count; i++) {
            TRY(batch[i].status);
            if (batch[i].op == RDE_OP_SESSION_CONNECT)
                open_now = true;
            else if (batch[i].op == RDE_OP_MESSAGE)
                print_message(&batch[i]);
        }
    } while (count > 0);
}

/* Sends the lines of what was read; a line longer than the buffer goes in pieces. */
static void read_input(rde_session session)
{
    static char text[4096];
    static size_t have;
    ssize_t got = read(STDIN_FILENO, text + have, sizeof text - have);
    SYSTEM(got);
    have += (size_t)got;
    input_ended = got == 0;
    for (;;) {
        char *end = memchr(text, '\n', have);
        if (end == NULL && have < sizeof text && !(input_ended && have > 0))
            return;
        size_t length = end ? (size_t)(end - text) : have;
        size_t taken = end ? length + 1 : length;
        TRY(rde_send(session, (rde_bytes){text, length}, (rde_buffer){0}, 0, 0, 0));
        sent++;
        have -= taken;
        memmove(text, text + taken, have);
    }
}

int main(void)
{
    rde_context context;
    rde_worker worker;
    rde_listener listener;
    rde_session session;
    char address[RDE_ADDRESS_MAX + 1];
    size_t address_len;
    TRY(rde_context_open(NULL, &context, &error));
    TRY(rde_worker_open(context, NULL, &worker, &error));
    TRY(rde_listener_open(worker, (rde_bytes){"tcp://127.0.0.1:0", 17}, LISTENER, &listener, &error));
    TRY(rde_listener_address(listener, address, sizeof address, &address_len));
    /* A worker may dial itself; a real program dials another. */
    TRY(rde_session_connect(worker, (rde_bytes){address, address_len}, SESSION, &session, &error));

    int event_fd, epoll_fd;
    TRY(rde_worker_event_fd(worker, &event_fd, &error));
    SYSTEM(epoll_fd = epoll_create1(EPOLL_CLOEXEC));
    SYSTEM(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = event_fd}));
    bool listening_to_input = false;

    while (!input_ended || received < sent) {
        rde_status armed;
        do { /* drain, arm */
            drain(worker);
            TRY(armed = rde_worker_arm(worker));
        } while (armed == RDE_STATUS_NOT_READY);
        fflush(stdout);
        if (input_ended && received == sent)
            break;
        if (open_now && !listening_to_input) {
            struct epoll_event input = {.events = EPOLLIN, .data.fd = STDIN_FILENO};
            SYSTEM(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &input));
            listening_to_input = true;
        }

        struct epoll_event ready; /* sleep */
        int count = epoll_wait(epoll_fd, &ready, 1, -1);
        if (count < 0 && errno != EINTR)
            SYSTEM(count);
        if (count == 1 && ready.data.fd == event_fd) {
            uint64_t counter;
            if (read(event_fd, &counter, sizeof counter) < 0 && errno != EAGAIN)
                SYSTEM(-1);
        } else if (count == 1) {
            read_input(session);
            if (input_ended)
                SYSTEM(epoll_ctl(epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL));
        }
    }
    close(event_fd);
    close(epoll_fd);
    TRY(rde_worker_close(worker));
    TRY(rde_context_close(context));
    return 0;
}
