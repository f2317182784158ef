// Thin C++17 over rdma_engine.h: handles that close themselves, and results that say why not. Header only.
//
// Failures are values (`rde::result`), not exceptions: storage engines are often built with -fno-exceptions, and a
// completion's status is a value anyway. `value()` of a failure ends the program with its message, like a failed assert.
// Everything that is not here is called as in C: `.get()` is the handle.
#ifndef RDMA_ENGINE_HPP
#define RDMA_ENGINE_HPP

#include <rdma_engine.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rde {

inline rde_bytes bytes(std::string_view text) { return {text.data(), text.size()}; }

// A value, or the rde_error that explains why there is none.
template <typename T> class [[nodiscard]] result {
  public:
    result(T value) : value_(std::move(value)), error_() {}
    result(const rde_error &error) : error_(error) {}

    explicit operator bool() const { return value_.has_value(); }
    rde_status status() const { return static_cast<rde_status>(error_.status); }
    const rde_error &error() const { return error_; }
    std::string_view message() const { return {error_.message, error_.message_len}; }

    T value() && {
        if (!value_) {
            std::fprintf(stderr, "rde: %s (%s)\n", error_.message, rde_status_name(error_.status));
            std::abort();
        }
        return std::move(*value_);
    }

  private:
    std::optional<T> value_;
    rde_error error_;
};

// A status as an error with its message.
inline rde_error failed(rde_status status) {
    rde_error error{};
    error.status = status;
    const char *text = rde_status_message(status);
    while (text[error.message_len] != 0 && error.message_len < sizeof error.message - 1) {
        error.message[error.message_len] = text[error.message_len];
        error.message_len++;
    }
    return error;
}

// Owns a handle and closes it once; moves, does not copy. A default-constructed one is none.
template <typename Handle, rde_status (*Close)(Handle)> class owned {
  public:
    owned() = default;
    explicit owned(Handle handle) : handle_(handle) {}
    owned(owned &&other) noexcept : handle_(other.release()) {}
    owned &operator=(owned &&other) noexcept {
        if (this != &other) {
            reset();
            handle_ = other.release();
        }
        return *this;
    }
    owned(const owned &) = delete;
    owned &operator=(const owned &) = delete;
    ~owned() { reset(); }

    Handle get() const { return handle_; }
    explicit operator bool() const { return handle_.id != 0; }
    // Gives the handle up; it is the caller's to close.
    Handle release() { return std::exchange(handle_, Handle{0}); }
    // Closes now, to see the status.
    rde_status reset() { return Close(release()); }

  private:
    Handle handle_{0};
};

inline rde_status close_quietly(rde_session session) { return rde_session_close(session, 0); }

using listener = owned<rde_listener, rde_listener_close>;
using session = owned<rde_session, close_quietly>; // its SESSION_CLOSED has user_data 0; `release` to close otherwise
using region = owned<rde_region, rde_region_release>;

class buffer : public owned<rde_buffer, rde_buffer_release> {
  public:
    using owned::owned;
    // The memory: until this object is gone, or moved from.
    void *data() const { return where().first; }
    std::uint64_t size() const { return where().second; }

  private:
    std::pair<void *, std::uint64_t> where() const {
        std::pair<void *, std::uint64_t> found{nullptr, 0};
        return rde_buffer_data(get(), &found.first, &found.second) == RDE_STATUS_OK ? found
                                                                                  : std::pair<void *, std::uint64_t>{};
    }
};

// Calls `open(&handle, &error)`, and wraps what it opened.
template <typename Object, typename Handle, typename Open> result<Object> opened(Open open) {
    Handle handle{0};
    rde_error error{};
    if (open(&handle, &error) != RDE_STATUS_OK) return error;
    return Object(handle);
}

// A peer's call. One that is gone without an answer was answered CANCELED.
class incoming_call : public owned<rde_incoming_call, rde_call_release> {
  public:
    using owned::owned;
    // What came with it, until it is answered.
    std::string_view payload() const {
        rde_call_details details = RDE_CALL_DETAILS_INIT;
        if (rde_call_info(get(), &details, nullptr) != RDE_STATUS_OK) return {};
        return {static_cast<const char *>(details.payload.data), details.payload.len};
    }
    // Answers it; `bytes` are copied. After a failure it still waits for its answer.
    rde_status reply(std::int32_t status, std::string_view bytes = {}) {
        const rde_piece piece{bytes.data(), bytes.size(), {0}, 0};
        rde_status done = rde_call_reply(get(), status, nullptr, &piece, bytes.empty() ? 0 : 1);
        if (done == RDE_STATUS_OK) release();
        return done;
    }
};

// What a peer answered: the completion, and its bytes, which live as long as this.
class answer {
  public:
    explicit answer(const rde_completion &done)
        : done_(done), buffer_(rde_buffer{done.flags & RDE_COMPLETION_INLINE ? 0 : done.value}) {}
    std::int32_t status() const { return done_.detail; }
    std::string_view bytes() const {
        const void *data = buffer_ ? buffer_.data() : done_.data;
        return {static_cast<const char *>(data), static_cast<std::size_t>(done_.length)};
    }

  private:
    rde_completion done_;
    rde::buffer buffer_;
};

class worker : public owned<rde_worker, rde_worker_close> {
  public:
    using owned::owned;
    // Takes completions; waits for a first one, at most `timeout_ns`, or for ever when that is negative.
    result<std::vector<rde_completion>> poll(std::int64_t timeout_ns = -1, std::uint32_t capacity = 64) const {
        std::vector<rde_completion> taken(capacity);
        std::uint32_t count = 0;
        rde_status status = rde_worker_poll(get(), timeout_ns, taken.data(), capacity, &count);
        if (status != RDE_STATUS_OK) return failed(status);
        taken.resize(count);
        return taken;
    }
    // Waits for the completion of a request; every other one that comes meanwhile is dropped.
    result<rde_completion> wait(std::uint64_t user_data) const {
        for (;;) {
            auto taken = poll(-1, 1);
            if (!taken) return taken.error();
            for (const rde_completion &done : std::move(taken).value()) {
                if (done.user_data != user_data || (done.flags & RDE_COMPLETION_EVENT) != 0) continue;
                if (done.status != RDE_STATUS_OK) return failed(static_cast<rde_status>(done.status));
                return done;
            }
        }
    }
    result<rde::listener> listen(std::string_view address, std::uint64_t user_data) const {
        return opened<rde::listener, rde_listener>(
            [&](auto *out, auto *error) { return rde_listener_open(get(), bytes(address), user_data, out, error); });
    }
    result<rde::session> connect(std::string_view address, std::uint64_t user_data) const {
        return opened<rde::session, rde_session>(
            [&](auto *out, auto *error) { return rde_session_connect(get(), bytes(address), user_data, out, error); });
    }
};

class context : public owned<rde_context, rde_context_close> {
  public:
    using owned::owned;
    static result<context> open(const rde_context_options &options = RDE_CONTEXT_OPTIONS_INIT) {
        return opened<context, rde_context>([&](auto *out, auto *error) { return rde_context_open(&options, out, error); });
    }
    result<rde::worker> open_worker(const rde_worker_options &options = RDE_WORKER_OPTIONS_INIT) const {
        return opened<rde::worker, rde_worker>(
            [&](auto *out, auto *error) { return rde_worker_open(get(), &options, out, error); });
    }
    result<buffer> alloc(std::uint64_t length, std::uint32_t flags = 0) const {
        return opened<buffer, rde_buffer>(
            [&](auto *out, auto *error) { return rde_buffer_alloc(get(), length, flags, out, nullptr, error); });
    }
};

// Calls a method and waits for its answer; `bytes` are copied. A failure is the library's, or the peer's refusal.
inline result<answer> call(const worker &worker, const session &session, std::uint32_t method, std::string_view bytes,
                           std::uint64_t user_data, std::uint32_t timeout_us = 0) {
    const rde_piece piece{bytes.data(), bytes.size(), {0}, 0};
    rde_call_arguments arguments = RDE_CALL_ARGUMENTS_INIT;
    arguments.method = method;
    arguments.timeout_us = timeout_us;
    arguments.pieces = &piece;
    arguments.piece_count = bytes.empty() ? 0 : 1;
    arguments.user_data = user_data;
    rde_status status = rde_call(session.get(), &arguments);
    if (status != RDE_STATUS_OK) return failed(status);
    auto done = worker.wait(user_data);
    if (!done) return done.error();
    return answer(std::move(done).value());
}
// An entry of a key-value store; its bytes are valid for the call that hands it out.
struct entry {
    std::string_view key, value;
    std::uint64_t timestamp, expire_ms;
    bool large;
};

// Changes to one partition. Keys and values are borrowed until the batch was written.
class batch {
  public:
    void upsert(std::string_view key, std::string_view value, std::uint64_t timestamp, std::uint64_t expire_ms = 0) {
        changes_.push_back({bytes(key), bytes(value), {nullptr, 0}, timestamp, expire_ms, RDE_KV_ACTION_UPSERT, 0});
    }
    void erase(std::string_view key, std::uint64_t timestamp) {
        changes_.push_back({bytes(key), {nullptr, 0}, {nullptr, 0}, timestamp, 0, RDE_KV_ACTION_DELETE, 0});
    }
    const std::vector<rde_kv_change> &changes() const { return changes_; }

  private:
    std::vector<rde_kv_change> changes_;
};

// A key-value store; calls block. Requests in flight: rde_kv_submit and rde_kv_poll, with `.get()`.
class store : public owned<rde_kv, rde_kv_close> {
  public:
    using owned::owned;
    static result<store> open(const rde_kv_options &options) {
        return opened<store, rde_kv>([&](auto *out, auto *error) { return rde_kv_open(&options, out, error); });
    }
    // From lines of `name=value`.
    static result<store> open(std::string_view lines) {
        rde_kv_options options = RDE_KV_OPTIONS_INIT;
        options.lines = bytes(lines);
        return open(options);
    }
    // From a file of such lines, or EloqStore's ini.
    static result<store> open_file(std::string_view path) {
        rde_kv_options options = RDE_KV_OPTIONS_INIT;
        options.file = bytes(path);
        return open(options);
    }

    result<std::uint32_t> partition(std::string_view table, std::uint32_t number) const {
        std::uint32_t found = 0;
        rde_error error{};
        if (rde_kv_partition(get(), bytes(table), number, &found, &error) != RDE_STATUS_OK) return error;
        return found;
    }

    // A branch of a partition; like a partition once it is there.
    result<std::uint32_t> branch(std::string_view table, std::uint32_t number, std::string_view name) const {
        std::uint32_t found = 0;
        rde_error error{};
        if (rde_kv_branch(get(), bytes(table), number, bytes(name), &found, &error) != RDE_STATUS_OK) return error;
        return found;
    }

    // Names of the partitions that there are: TABLE.NUMBER.
    result<std::vector<std::string>> partitions() const { return names(rde_kv_names, 0); }

    // Names of a partition's branches, `main` among them.
    result<std::vector<std::string>> branches(std::uint32_t partition) const { return names(rde_kv_branches, partition); }

    // Starts a branch from what a partition, or branch, is now (append mode).
    result<rde_completion> create_branch(std::uint32_t partition, std::string_view name) const {
        return named(partition, RDE_KV_OP_BRANCH_CREATE, name);
    }

    // Removes a branch, neither `main` nor the one that is asked.
    result<rde_completion> delete_branch(std::uint32_t partition, std::string_view name) const {
        return named(partition, RDE_KV_OP_BRANCH_DELETE, name);
    }

    // One request of any kind, to its end.
    result<rde_completion> call(const rde_kv_request &request) const {
        rde_completion done{};
        rde_error error{};
        if (rde_kv_call(get(), &request, &done, &error) != RDE_STATUS_OK) return error;
        return done;
    }

    // The value of a key; NOT_FOUND if there is none.
    result<std::string> read(std::uint32_t partition, std::string_view key) const {
        std::string value(4096, '\0');
        rde_kv_request request{};
        request.partition = partition;
        request.op = RDE_KV_OP_READ;
        request.key = bytes(key);
        for (;;) {
            request.memory = value.data();
            request.length = value.size();
            rde_completion done{};
            rde_error error{};
            const rde_status status = rde_kv_call(get(), &request, &done, &error);
            if (status != RDE_STATUS_OK && status != RDE_STATUS_TRUNCATED) return error;
            value.resize(done.length);
            if (status == RDE_STATUS_OK) return value;
        }
    }

    // How many changes took effect, when all of them are safe on disk.
    result<std::uint64_t> write(std::uint32_t partition, const batch &batch, std::uint16_t flags = 0) const {
        rde_kv_request request{};
        request.partition = partition;
        request.op = RDE_KV_OP_WRITE;
        request.flags = flags;
        request.changes = batch.changes().data();
        request.change_count = batch.changes().size();
        rde_completion done{};
        rde_error error{};
        if (rde_kv_call(get(), &request, &done, &error) != RDE_STATUS_OK) return error;
        return done.value;
    }

    // Calls `each` with the entries from `begin` to `end` (empty: the last one), until it returns false. How many it had.
    template <typename Each>
    result<std::uint64_t> scan(std::uint32_t partition, std::string_view begin, std::string_view end, Each each,
                               std::size_t room = 1 << 20) const {
        std::vector<std::uint64_t> memory(room / 8 + 1);
        std::string after(begin);
        rde_kv_request request{};
        request.partition = partition;
        request.op = RDE_KV_OP_SCAN;
        request.flags = RDE_KV_LARGE_VALUES;
        request.end = bytes(end);
        for (std::uint64_t count = 0;;) {
            request.key = bytes(after);
            request.memory = memory.data();
            request.length = memory.size() * 8;
            rde_completion done{};
            rde_error error{};
            const rde_status status = rde_kv_call(get(), &request, &done, &error);
            if (status == RDE_STATUS_TRUNCATED) {
                memory.resize(done.length / 8 + 1);
                continue;
            }
            if (status != RDE_STATUS_OK) return error;
            const char *at = reinterpret_cast<const char *>(memory.data());
            std::string last;
            for (std::uint64_t i = 0; i < done.value; i++) {
                rde_kv_entry head;
                std::memcpy(&head, at, sizeof head);
                const char *key = at + sizeof head;
                const rde::entry entry{{key, head.key_len},
                                       {key + head.key_len, head.value_len},
                                       head.timestamp,
                                       head.expire_ms,
                                       (head.flags & RDE_KV_ENTRY_LARGE) != 0};
                count++;
                if (!each(entry)) return count;
                if (i + 1 == done.value) last.assign(entry.key);
                at += head.next;
            }
            if (!(done.flags & RDE_COMPLETION_MORE)) return count;
            after = std::move(last);
            request.flags |= RDE_KV_AFTER_KEY;
        }
    }

  private:
    template <typename Names>
    result<std::vector<std::string>> names(Names list, std::uint32_t partition) const {
        std::string text(4096, '\0');
        std::size_t length = 0;
        rde_error error{};
        rde_status status;
        while ((status = list(get(), partition, text.data(), text.size(), &length, &error)) == RDE_STATUS_TRUNCATED) {
            text.resize(length + 1);
        }
        if (status != RDE_STATUS_OK) return error;
        std::vector<std::string> names;
        for (std::size_t at = 0, end; at < length; at = end + 1) {
            end = text.find('\n', at);
            names.push_back(text.substr(at, end - at));
        }
        return names;
    }

    result<rde_completion> named(std::uint32_t partition, std::uint16_t op, std::string_view name) const {
        rde_kv_request request{};
        request.partition = partition;
        request.op = op;
        request.key = bytes(name);
        return call(request);
    }
};

// The address to dial, with the port that was picked; empty if the listener is closed.
inline std::string address(const listener &listener) {
    char text[RDE_ADDRESS_MAX + 1];
    std::size_t length = 0;
    if (rde_listener_address(listener.get(), text, sizeof text, &length) != RDE_STATUS_OK) return {};
    return {text, length};
}

} // namespace rde

#endif // RDMA_ENGINE_HPP
