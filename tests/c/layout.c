/* The layout that bindings in other languages rely on. */
#include <stddef.h>

#include "check.h"

#define OFFSET(type, field, at) _Static_assert(offsetof(type, field) == (at), #type "." #field)
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)

SIZE(rde_status, 4);
SIZE(rde_op, 2);
SIZE(rde_session_state, 4);
SIZE(rde_context, 8);
SIZE(rde_worker, 8);
SIZE(rde_listener, 8);
SIZE(rde_session, 8);
SIZE(rde_buffer, 8);
SIZE(rde_region, 8);
SIZE(rde_bytes, 16);
SIZE(rde_key, 64);

SIZE(rde_error, 256);
OFFSET(rde_error, status, 0);
OFFSET(rde_error, os_errno, 4);
OFFSET(rde_error, transport_status, 8);
OFFSET(rde_error, message_len, 12);
OFFSET(rde_error, message, 16);

SIZE(rde_request, 96);
OFFSET(rde_request, user_data, 0);
OFFSET(rde_request, session, 8);
OFFSET(rde_request, op, 16);
OFFSET(rde_request, flags, 18);
OFFSET(rde_request, timeout_us, 20);
OFFSET(rde_request, buffer, 24);
OFFSET(rde_request, buffer_offset, 32);
OFFSET(rde_request, length, 40);
OFFSET(rde_request, region, 48);
OFFSET(rde_request, region_offset, 56);
OFFSET(rde_request, data, 64);
OFFSET(rde_request, operand, 80);
OFFSET(rde_request, compare, 88);

SIZE(rde_completion, 64);
OFFSET(rde_completion, user_data, 0);
OFFSET(rde_completion, op, 8);
OFFSET(rde_completion, status, 12);
OFFSET(rde_completion, length, 16);
OFFSET(rde_completion, value, 24);
OFFSET(rde_completion, flags, 32);
OFFSET(rde_completion, detail, 36);
OFFSET(rde_completion, data, 40);

SIZE(rde_incoming_call, 8);
SIZE(rde_rpc_header, 24);
OFFSET(rde_rpc_header, offset, 0);
OFFSET(rde_rpc_header, len, 8);
OFFSET(rde_rpc_header, flags, 16);
OFFSET(rde_rpc_header, reserved, 20);

SIZE(rde_piece, 32);
OFFSET(rde_piece, data, 0);
OFFSET(rde_piece, length, 8);
OFFSET(rde_piece, buffer, 16);
OFFSET(rde_piece, buffer_offset, 24);

SIZE(rde_call_arguments, 96);
OFFSET(rde_call_arguments, flags, 4);
OFFSET(rde_call_arguments, method, 8);
OFFSET(rde_call_arguments, timeout_us, 12);
OFFSET(rde_call_arguments, header, 16);
OFFSET(rde_call_arguments, pieces, 40);
OFFSET(rde_call_arguments, piece_count, 48);
OFFSET(rde_call_arguments, slot, 52);
OFFSET(rde_call_arguments, reply, 56);
OFFSET(rde_call_arguments, reply_offset, 64);
OFFSET(rde_call_arguments, reply_capacity, 72);
OFFSET(rde_call_arguments, sequence, 80);
OFFSET(rde_call_arguments, user_data, 88);

SIZE(rde_call_details, 80);
OFFSET(rde_call_details, flags, 4);
OFFSET(rde_call_details, method, 8);
OFFSET(rde_call_details, session, 16);
OFFSET(rde_call_details, header, 24);
OFFSET(rde_call_details, left_ns, 48);
OFFSET(rde_call_details, payload, 56);
OFFSET(rde_call_details, buffer, 72);

SIZE(rde_segment, 24);
OFFSET(rde_segment, buffer_offset, 0);
OFFSET(rde_segment, region_offset, 8);
OFFSET(rde_segment, length, 16);

SIZE(rde_context_options, 128);
OFFSET(rde_context_options, struct_size, 0);
OFFSET(rde_context_options, flags, 4);
OFFSET(rde_context_options, name, 8);
OFFSET(rde_context_options, devices, 24);
OFFSET(rde_context_options, transports, 40);
OFFSET(rde_context_options, ways, 44);
OFFSET(rde_context_options, memory_limit_bytes, 48);
OFFSET(rde_context_options, max_sessions, 56);
OFFSET(rde_context_options, max_exports, 60);
OFFSET(rde_context_options, keepalive_ns, 64);
OFFSET(rde_context_options, connect_timeout_ns, 72);
OFFSET(rde_context_options, idle_timeout_ns, 80);
OFFSET(rde_context_options, max_message_bytes, 88);
OFFSET(rde_context_options, max_call_bytes, 96);
OFFSET(rde_context_options, max_calls, 104);
OFFSET(rde_context_options, secret, 112);

SIZE(rde_worker_options, 56);
OFFSET(rde_worker_options, submission_capacity, 8);
OFFSET(rde_worker_options, completion_capacity, 12);
OFFSET(rde_worker_options, spin_ns, 16);
OFFSET(rde_worker_options, reserved, 24);

SIZE(rde_context_details, 832);
OFFSET(rde_context_details, ucx_major, 8);
OFFSET(rde_context_details, max_sessions, 20);
OFFSET(rde_context_details, memory_limit_bytes, 32);
OFFSET(rde_context_details, ucx_path, 64);
OFFSET(rde_context_details, transports, 320);
OFFSET(rde_context_details, devices, 576);

SIZE(rde_session_details, 712);
OFFSET(rde_session_details, flags, 4);
OFFSET(rde_session_details, state, 8);
OFFSET(rde_session_details, peer_pid, 12);
OFFSET(rde_session_details, way_operations, 16);
OFFSET(rde_session_details, way_bytes, 40);
OFFSET(rde_session_details, transport, 64);
OFFSET(rde_session_details, peer_name, 128);
OFFSET(rde_session_details, address, 200);

SIZE(rde_region_details, 24);
OFFSET(rde_region_details, way, 4);
OFFSET(rde_region_details, rights, 8);
OFFSET(rde_region_details, length, 16);

SIZE(rde_counters, 512);
SIZE(rde_histogram, 272);
OFFSET(rde_histogram, sum_ns, 256);
OFFSET(rde_histogram, max_ns, 264);
SIZE(rde_stats, 1608);
OFFSET(rde_stats, counters, 8);
OFFSET(rde_stats, get, 520);
OFFSET(rde_stats, put, 792);
OFFSET(rde_stats, message, 1064);
OFFSET(rde_stats, connect, 1336);

SIZE(rde_volume, 8);
SIZE(rde_exporter, 8);
SIZE(rde_exporter_options, 56);
OFFSET(rde_exporter_options, index_dir, 8);
OFFSET(rde_exporter_options, read_key, 24);
SIZE(rde_volume_options, 56);
OFFSET(rde_volume_options, index_dir, 8);
SIZE(rde_volume_details, 40);
OFFSET(rde_volume_details, compaction_revision, 8);
OFFSET(rde_volume_details, generation, 16);
OFFSET(rde_volume_details, entries, 24);
OFFSET(rde_volume_details, map_bytes, 32);
SIZE(rde_needle, 48);
OFFSET(rde_needle, flags, 4);
OFFSET(rde_needle, length, 8);
OFFSET(rde_needle, last_modified, 16);
OFFSET(rde_needle, append_at_ns, 24);
OFFSET(rde_needle, generation, 32);
OFFSET(rde_needle, checksum, 40);
SIZE(rde_needle_read, 56);
OFFSET(rde_needle_read, token, 16);
OFFSET(rde_needle_read, offset, 32);
OFFSET(rde_needle_read, flags, 48);
SIZE(rde_needle_place, 24);
OFFSET(rde_needle_place, length, 16);
SIZE(rde_needle_result, 64);
OFFSET(rde_needle_result, length, 8);
OFFSET(rde_needle_result, generation, 32);
OFFSET(rde_needle_result, checksum, 40);
OFFSET(rde_needle_result, data_offset, 48);

int main(void) {
    rde_context_options options = RDE_CONTEXT_OPTIONS_INIT;
    rde_request request = RDE_REQUEST_INIT;
    rde_request zero;
    memset(&zero, 0, sizeof zero);
    CHECK(options.struct_size == sizeof options && options.secret.len == 0);
    CHECK(memcmp(&request, &zero, sizeof zero) == 0);
    shown("sizes and offsets were asserted by the compiler");
    return check_end();
}
