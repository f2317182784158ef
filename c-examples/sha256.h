/* SHA-256 (FIPS 180-4), so that the examples need no library but ours. */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

/* A sum in the making. */
typedef struct sha256 {
    uint32_t state[8];
    uint64_t length;       /* bytes so far */
    unsigned char tail[64]; /* the last length % 64 of them */
} sha256;

void sha256_start(sha256 *sum);
void sha256_add(sha256 *sum, const void *data, size_t length);
void sha256_finish(sha256 *sum, unsigned char out[SHA256_BYTES]);

/* 1 if the published answers come out. */
int sha256_self_test(void);

#endif
