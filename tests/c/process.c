/* What a process does around the library: signals while it waits, children that fork and end without exec, and an end with
 * everything open. */
#include "peer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { LENGTH = 65536 };

static atomic_int signals, woken;
static rde_worker waiting;

static void on_signal(int number) {
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static void *wait_for_ever(void *unused) {
    rde_completion done;
    uint32_t got = 9;
    CHECK_STATUS(OK, rde_worker_poll(waiting, -1, &done, 1, &got));
    CHECK(got == 0 && atomic_load(&woken) == 1);
    /* And a close ends a wait. */
    atomic_store(&woken, 2);
    got = 9;
    CHECK_STATUS(STALE_HANDLE, rde_worker_poll(waiting, -1, &done, 1, &got));
    CHECK(got == 9);
    return unused;
}

/* Signals do not end a poll; a wake does, and so does a close. */
static void signalled(uint32_t worker_flags) {
    static struct side side;
    struct sigaction action;
    pthread_t thread;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    if (!CHECK(sigaction(SIGUSR1, &action, NULL) == 0) || !side_open(&side, "signals", worker_flags, 0)) return;
    waiting = side.worker;
    atomic_store(&woken, 0);
    if (!CHECK(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0)) return;
    for (int i = 0; i < 100; i++) {
        int before = atomic_load(&signals);
        if (!CHECK(pthread_kill(thread, SIGUSR1) == 0)) break;
        while (atomic_load(&signals) == before) {}
    }
    atomic_store(&woken, 1);
    CHECK_STATUS(OK, rde_worker_wake(side.worker));
    while (atomic_load(&woken) != 2) {}
    side_close(&side);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* Ends a child by exit, but where that would look for leaks. */
static void end_child(void) {
    if (getenv("RDE_LEAKS_CHECKED")) _exit(0);
    exit(0);
}

/* Waits for a child, at most 20 seconds: it has an alarm of its own. */
static void ended_well(pid_t child) {
    int status = -1;
    if (!CHECK(child > 0) || !CHECK(waitpid(child, &status, 0) == child)) return;
    if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0)) printf("    wait status %#x\n", (unsigned)status);
}

/* A child that does not exec ends as it pleases; the parent's sessions go on. */
static void forked(uint32_t ways) {
    static struct pair pair;
    rde_buffer remote, local;
    rde_region region;
    rde_key key;
    rde_error error;
    rde_completion done;
    void *there, *here;
    if (!pair_open(&pair, "unix", 0, ways) ||
        !pair_region(&pair, LENGTH, RDE_RIGHT_READ, &remote, &there, &key, &region) ||
        !CHECK_OK(error, rde_buffer_alloc(pair.client.context, LENGTH, 0, &local, &here, &error)))
        return;
    for (uint64_t round = 0; round < 4; round++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            if (round % 2) _exit(0);
            end_child();
        }
        /* While the child is there, and after it. */
        for (uint64_t i = 0; i < 2; i++) {
            fill(there, LENGTH, round * 2 + i);
            CHECK_STATUS(OK, rde_get(pair.at_client, local, 0, region, 0, LENGTH, 6));
            if (await_ok(&pair.client, &pair.server, RDE_OP_GET, 6, &done)) CHECK(memcmp(here, there, LENGTH) == 0);
            if (!i) ended_well(child);
        }
    }
    pair_close(&pair);
}

/* A program that ends by exit, or by the end of main, with everything open and under way. */
static void ends_with_all_open(void) {
    static struct pair pair;
    rde_buffer remote, local;
    rde_region region;
    rde_key key;
    rde_error error;
    void *there;
    fflush(NULL);
    pid_t child = fork();
    if (child != 0) {
        ended_well(child);
        return;
    }
    alarm(20);
    if (!pair_open(&pair, "tcp", 0, RDE_WAY_MESSAGE) ||
        !pair_region(&pair, LENGTH, RDE_RIGHT_READ, &remote, &there, &key, &region) ||
        !CHECK_OK(error, rde_buffer_alloc(pair.client.context, LENGTH, 0, &local, NULL, &error)))
        _exit(1);
    for (uint64_t i = 0; i < 64; i++)
        if (!CHECK_STATUS(OK, rde_get(pair.at_client, local, 0, region, 0, LENGTH, i))) _exit(1);
    end_child();
}

int main(void) {
    /* First, while this process has no threads of the library. */
    ends_with_all_open();
    shown("a program that ends with everything open");
    signalled(0);
    signalled(RDE_WORKER_POLLED);
    shown("signals while a thread waits in a poll");
    forked(0);
    forked(RDE_WAY_MESSAGE);
    shown("children that end without exec");
    return check_end();
}
