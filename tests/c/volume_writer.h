/* A small writer of one SeaweedFS volume of version 3, from the description of the format alone. */
#ifndef VOLUME_WRITER_H
#define VOLUME_WRITER_H

#include "check.h"

#include <fcntl.h>
#include <unistd.h>

enum { ROW = 16, GZIP = 0x01, MANIFEST = 0x80, VOLUME = 7 };

static char folder[64];
static int dat, idx;
static uint64_t end;

static inline uint32_t crc32c(const unsigned char *data, size_t length) {
    uint32_t crc = ~UINT32_C(0);
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
    }
    return ~crc;
}

/* Big-endian, as everything in these files. */
static inline unsigned char *number(unsigned char *to, uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--, value >>= 8) to[i] = (unsigned char)value;
    return to + bytes;
}

static inline void row(uint64_t id, uint64_t offset, uint32_t size) {
    unsigned char bytes[ROW], *to = number(bytes, id, 8);
    number(number(to, offset / 8, 4), size, 4);
    CHECK(write(idx, bytes, ROW) == ROW);
}

/* Appends a record of version 3 and its row; returns where the data begins. */
static inline uint64_t put_bytes(uint64_t id, uint32_t cookie, unsigned flags, const void *data, size_t length) {
    unsigned char *record = malloc(length + 64);
    uint32_t size = length > 0 ? (uint32_t)length + 5 : 0;
    unsigned char *to = number(number(number(record, cookie, 4), id, 8), size, 4);
    if (length > 0) {
        to = number(to, length, 4);
        memcpy(to, data, length);
        to = number(to + length, flags, 1);
    }
    to = number(to, crc32c((const unsigned char *)data, length), 4);
    to = number(to, UINT64_C(1700000000000000000) + id, 8);
    size_t whole = (size_t)(to - record);
    memset(to, 0xa5, 8); /* 1 to 8 bytes of whatever was there */
    whole += 8 - whole % 8;
    uint64_t at = end;
    CHECK(pwrite(dat, record, whole, (off_t)at) == (ssize_t)whole);
    end += whole;
    row(id, at, size);
    free(record);
    return at + 20;
}

static inline uint64_t put(uint64_t id, uint32_t cookie, unsigned flags, const char *data) {
    return put_bytes(id, cookie, flags, data, strlen(data));
}

static inline int create(const char *extension) {
    char path[128];
    snprintf(path, sizeof path, "%s/photos_%d.%s", folder, VOLUME, extension);
    return open(path, O_RDWR | O_CREAT | O_EXCL | O_APPEND * (extension[0] == 'i') | O_CLOEXEC, 0600);
}

/* A new folder with an empty volume in it. */
static inline void create_volume(void) {
    unsigned char superblock[8] = {3, 0, 0, 0, 0, 5, 0, 0};
    strcpy(folder, "/tmp/rde-volume-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    dat = create("dat");
    idx = create("idx");
    CHECK(dat >= 0 && idx >= 0 && write(dat, superblock, 8) == 8);
    end = 8;
}

static inline void remove_volume(void) {
    char path[128];
    close(dat);
    close(idx);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/photos_%d.%s", folder, VOLUME, i ? "idx" : "dat");
        CHECK(unlink(path) == 0);
    }
    CHECK(rmdir(folder) == 0);
}

#endif
