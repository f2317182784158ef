/* Needles of a SeaweedFS volume that a small writer here makes, from the description of the format alone: read whole and
 * in parts, seen as soon as they are appended, and every reason not to serve one. */
#include "volume_writer.h"

static rde_error error;

static void write_volume(void) {
    create_volume();
    put(1, 0x637037d6, 0, "hello, needle");
    put(2, 0xdeadbeef, 0, "old");
    put(2, 0xdeadbeef, 0, "overwritten");
    put(3, 3, GZIP, "not really gzip");
    put(4, 4, MANIFEST, "{\"chunks\":[]}");
    put(5, 5, 0, "");
    put(6, 6, 0, "to be deleted");
    row(6, end, UINT32_MAX);
}

/* Reads into a large buffer; the data must be this. */
static int reads_as(rde_volume volume, const char *file_id, uint32_t flags, uint64_t offset, uint64_t capacity,
                    const char *data, rde_needle *needle) {
    static char room[1 << 16];
    uint64_t length = 77;
    return CHECK_OK(error, rde_volume_read(volume, text(file_id), flags, offset, room, capacity, &length, needle, &error)) &
           CHECK(length == strlen(data) && memcmp(room, data, length) == 0);
}

static rde_status fails(rde_volume volume, const char *file_id, uint32_t flags, uint64_t offset) {
    char room[1000];
    uint64_t length = 77;
    rde_needle needle = RDE_NEEDLE_INIT;
    rde_status status = rde_volume_read(volume, text(file_id), flags, offset, room, sizeof room, &length, &needle, &error);
    CHECK(length == 77 && needle.length == 0 && error.status == status && error.message_len > 0);
    return status;
}

static void whole_needles(rde_volume volume) {
    rde_needle needle = RDE_NEEDLE_INIT;
    reads_as(volume, "7,01637037d6", 0, 0, 1000, "hello, needle", &needle);
    CHECK(needle.length == 13 && needle.flags == 0 && needle.struct_size == sizeof needle);
    CHECK(needle.append_at_ns == UINT64_C(1700000000000000001) && needle.last_modified == 0 && needle.generation == 1);
    CHECK(needle.checksum == crc32c((const unsigned char *)"hello, needle", 13));
    reads_as(volume, "/7/01637037d6/name.jpg", 0, 0, 13, "hello, needle", NULL);
    reads_as(volume, "7,02deadbeef", 0, 0, 1000, "overwritten", NULL);
    reads_as(volume, "7,0500000005", 0, 0, 0, "", NULL);
    needle = (rde_needle)RDE_NEEDLE_INIT;
    CHECK_OK(error, rde_volume_stat(volume, text("7,02deadbeef"), 0, &needle, &error));
    CHECK(needle.length == 11 && needle.append_at_ns == UINT64_C(1700000000000000002));
    char small[4];
    uint64_t length = 77;
    CHECK_STATUS(TRUNCATED, rde_volume_read(volume, text("7,01637037d6"), 0, 0, small, sizeof small, &length, NULL, &error));
    CHECK(length == 13);
    shown("whole needles, checked, and how much room they need");
}

static void parts(rde_volume volume) {
    rde_needle needle = RDE_NEEDLE_INIT;
    reads_as(volume, "7,01637037d6", RDE_VOLUME_RANGE, 7, 3, "nee", &needle);
    CHECK(needle.length == 13);
    reads_as(volume, "7,01637037d6", RDE_VOLUME_RANGE, 7, 1000, "needle", NULL);
    reads_as(volume, "7,01637037d6", RDE_VOLUME_RANGE, 0, 5, "hello", NULL);
    CHECK(fails(volume, "7,01637037d6", RDE_VOLUME_RANGE, 14) == RDE_STATUS_OUT_OF_RANGE);
    CHECK(fails(volume, "7,01637037d6", 0, 1) == RDE_STATUS_INVALID_ARGUMENT);
    shown("parts, as far as they go");
}

static void reasons(rde_volume volume) {
    rde_needle needle = RDE_NEEDLE_INIT;
    CHECK(fails(volume, "7,09637037d6", 0, 0) == RDE_STATUS_NOT_FOUND);
    CHECK(fails(volume, "8,01637037d6", 0, 0) == RDE_STATUS_NOT_FOUND);
    CHECK(fails(volume, "7,01637037d7", 0, 0) == RDE_STATUS_COOKIE_MISMATCH);
    CHECK(fails(volume, "nonsense", 0, 0) == RDE_STATUS_INVALID_ARGUMENT);
    CHECK(fails(volume, "7,01637037d6", 1 << 20, 0) == RDE_STATUS_INVALID_ARGUMENT);
    /* Deleted: read as long as it is there, unless only what lives is asked for. */
    reads_as(volume, "7,0600000006", 0, 0, 1000, "to be deleted", &needle);
    CHECK(needle.flags & RDE_NEEDLE_DELETED);
    CHECK(fails(volume, "7,0600000006", RDE_VOLUME_LIVE, 0) == RDE_STATUS_DELETED);
    /* Compressed data is given out whole, and in parts only to who knows. */
    reads_as(volume, "7,0300000003", 0, 0, 1000, "not really gzip", &needle);
    CHECK(needle.flags & RDE_NEEDLE_COMPRESSED);
    CHECK(fails(volume, "7,0300000003", RDE_VOLUME_RANGE, 4) == RDE_STATUS_INELIGIBLE);
    reads_as(volume, "7,0300000003", RDE_VOLUME_RANGE | RDE_VOLUME_STORED, 4, 6, "really", NULL);
    CHECK(fails(volume, "7,0400000004", 0, 0) == RDE_STATUS_INELIGIBLE);
    reads_as(volume, "7,0400000004", RDE_VOLUME_STORED, 0, 1000, "{\"chunks\":[]}", &needle);
    CHECK(needle.flags & RDE_NEEDLE_CHUNK_MANIFEST);
    shown("every reason not to serve a needle has its status");
}

static void changes(rde_volume volume) {
    rde_volume_details info = RDE_VOLUME_DETAILS_INIT;
    CHECK_OK(error, rde_volume_info(volume, &info, &error));
    CHECK(info.version == 3 && info.compaction_revision == 5 && info.generation == 1 && info.entries >= 6);
    CHECK(info.map_bytes > 0);
    for (uint64_t id = 100; id < 200; id++) {
        char file_id[32], data[32];
        snprintf(data, sizeof data, "needle %" PRIu64, id);
        snprintf(file_id, sizeof file_id, "7,%02" PRIx64 "0000002a", id);
        put(id, 42, 0, data);
        reads_as(volume, file_id, 0, 0, 1000, data, NULL);
    }
    /* A bit of the data flips on the disk. */
    uint64_t at = put(200, 42, 0, "to be damaged");
    CHECK(pwrite(dat, "T", 1, (off_t)at) == 1);
    CHECK(fails(volume, "7,c80000002a", 0, 0) == RDE_STATUS_CORRUPTED);
    CHECK_OK(error, rde_volume_refresh(volume, &error));
    shown("what is appended is seen at once, and what is damaged is refused");
}

static void handles(rde_volume volume) {
    rde_volume other = {77};
    rde_volume_options options = RDE_VOLUME_OPTIONS_INIT;
    CHECK_STATUS(NOT_FOUND, rde_volume_open(text(folder), text(""), VOLUME, NULL, &other, &error));
    CHECK_STATUS(NOT_FOUND, rde_volume_open(text(folder), text("photos"), 8, NULL, &other, &error));
    CHECK_STATUS(INVALID_ARGUMENT, rde_volume_open(text(folder), text("photos"), VOLUME, NULL, NULL, &error));
    CHECK_STATUS(INVALID_ARGUMENT, rde_volume_open((rde_bytes){"/tmp\0x", 6}, text(""), VOLUME, NULL, &other, &error));
    options.flags = 1;
    CHECK_STATUS(INVALID_ARGUMENT, rde_volume_open(text(folder), text("photos"), VOLUME, &options, &other, &error));
    CHECK(other.id == 77);
    options.flags = 0;
    options.index_dir = text(folder);
    CHECK_OK(error, rde_volume_open(text(folder), text("photos"), VOLUME, &options, &other, &error));
    reads_as(other, "7,01637037d6", 0, 0, 1000, "hello, needle", NULL);
    CHECK_STATUS(OK, rde_volume_close(other));
    CHECK_STATUS(STALE_HANDLE, rde_volume_close(other));
    CHECK(fails(other, "7,01637037d6", 0, 0) == RDE_STATUS_STALE_HANDLE);
    CHECK_STATUS(OK, rde_volume_close((rde_volume){0}));
    reads_as(volume, "7,01637037d6", 0, 0, 1000, "hello, needle", NULL);
    shown("a volume needs no context, and its handle is as any other");
}

int main(void) {
    rde_volume volume;
    alarm(60);
    write_volume();
    if (CHECK_OK(error, rde_volume_open(text(folder), text("photos"), VOLUME, NULL, &volume, &error))) {
        whole_needles(volume);
        parts(volume);
        reasons(volume);
        changes(volume);
        handles(volume);
        CHECK_STATUS(OK, rde_volume_close(volume));
    }
    remove_volume();
    return check_end();
}
