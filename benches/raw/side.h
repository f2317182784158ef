/* One of the two processes: its options, its UCX objects, and how it is set up. */
#ifndef RDE_BENCH_SIDE_H
#define RDE_BENCH_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucp/api/ucp.h>

enum {
    AM_DATA = 1,            /* a message of the test */
    AM_ACK = 2,             /* the target has the whole batch (am_bw) */
    AM_STOP = 3,            /* the target leaves its loop */
    MAX_IN_FLIGHT = 1024,
};

typedef enum { AM_LAT, AM_BW, GET, PUT, GET_PTR, PUT_PTR, TESTS } test_id;

typedef struct {
    test_id test;
    size_t size;        /* bytes of one operation */
    size_t in_flight;
    size_t batch;       /* operations of one call; more than 1 when several are in flight */
    double seconds;     /* of measuring */
    bool ucx_memory;    /* the target's memory comes from UCP_MEM_MAP_ALLOCATE, not malloc */
    bool peer_errors;   /* UCP_ERR_HANDLING_MODE_PEER */
    int target_socket;  /* -1 in the initiator */
} options;

typedef struct {
    options opt;
    int socket;
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_ep_h ep;
    ucp_rkey_h rkey;
    uint64_t remote;     /* the target's region, in its own addresses */
    char *remote_ptr;    /* the same, mapped here (only *_ptr) */
    char *local;         /* in_flight slots of `size` bytes */
    char *region;        /* as large; the target's is what get and put touch */
    ucp_mem_h region_handle;
    void *requests[MAX_IN_FLIGHT];
    /* Volatile: callbacks inside ucp_worker_progress change them. */
    volatile uint64_t received, acknowledged;
    volatile bool stopped;
} side;

/* Prints why to stderr and exits with 1. */
void fail(const char *format, ...);
/* Fails unless the status is UCS_OK. */
void check(ucs_status_t status, const char *what);
/* Zeroed, page-aligned memory; fails when there is none. */
void *allocate(size_t length);
/* Pins this process to the index-th core it may use. */
void pin(int index);
/* Sends all bytes to the other process. */
void send_all(int fd, const void *data, size_t length);
/* Starts this program again as the target, so that UCX sees two processes and no fork. Returns our end of a socket. */
int start_target(int argc, char **argv);

/* Opens a context and a worker. */
void open_ucx(side *s);
/* Makes the region, filled with a pattern that is the same on both sides. */
void map_region(side *s, size_t length);
/* Trades worker addresses and keys over the socket, makes the endpoint and unpacks the key. */
void connect_sides(side *s);
/* Waits for one request, frees it and clears it. NULL is done already. */
void finish(side *s, void **request);
/* Starts sending `length` bytes of `local` as message `id`. Returns the request. */
void *message(side *s, unsigned id, size_t length);
/* Makes progress until the other process says a byte (1) or closes its socket (0). */
int progress_until_told(side *s);

#endif
