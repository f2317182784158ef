/* Checks for the C tests: each prints what failed; `check_end` is the exit code. Include it first. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rdma_engine.h>

static unsigned check_count;
static unsigned check_failed;
static unsigned check_failed_before;

static inline int check_that(int holds, const char *what, const char *file, int line) {
    check_count++;
    if (!holds) {
        check_failed++;
        printf("%s:%d: FAILED: %s\n", file, line, what);
    }
    return holds;
}

static inline int check_status(rde_status got, rde_status wanted, const char *what, const char *file, int line) {
    check_count++;
    if (got == wanted) return 1;
    check_failed++;
    printf("%s:%d: FAILED: %s is %s, not %s\n", file, line, what, rde_status_name(got), rde_status_name(wanted));
    return 0;
}

/* As check_status, with the library's own words. */
static inline int check_control(rde_status got, const rde_error *error, const char *what, const char *file, int line) {
    if (check_status(got, RDE_STATUS_OK, what, file, line)) return 1;
    if (error->status == got) printf("    %s (errno %d, transport %d)\n", error->message, error->os_errno, error->transport_status);
    return 0;
}

/* The condition holds. All three return whether, so that a test can stop where it makes no sense to go on. */
#define CHECK(condition) check_that(!!(condition), #condition, __FILE__, __LINE__)
/* The call returns this status. */
#define CHECK_STATUS(wanted, call) check_status((call), RDE_STATUS_##wanted, #call, __FILE__, __LINE__)
/* The call returns OK; `error` is the rde_error it was given. */
#define CHECK_OK(error, call) check_control((call), &(error), #call, __FILE__, __LINE__)

/* Says what the checks since the last time have shown. */
static inline void shown(const char *what) {
    printf("%s %s\n", check_failed > check_failed_before ? "BAD" : "ok ", what);
    check_failed_before = check_failed;
    fflush(stdout);
}

static inline int check_end(void) {
    printf("%u checks, %u failed\n", check_count, check_failed);
    return check_failed ? 1 : 0;
}

static inline rde_bytes text(const char *string) {
    rde_bytes bytes = {string, strlen(string)};
    return bytes;
}

#endif
