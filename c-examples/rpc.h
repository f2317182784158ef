/* What rpc_server.c and rpc_client.c share: the methods of a toy key-value store. */
#ifndef RPC_H
#define RPC_H

#include <rdma_engine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ECHO = 1,   /* answers its payload */
    PUT = 2,    /* payload: the value; header.len: bytes of the key before it */
    GET = 3,    /* payload: the key; the answer's: the value */
    DELETE = 4, /* payload: the key */
    STOP = 5,   /* one-way: the server ends */
};

/* Statuses of this service; the library's own are another thing. */
enum { FOUND = 0, NOT_FOUND = 2 };

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

#endif
