// Opens a directory of EloqStore's and counts what is in it, partition by partition.
//
//     c++ -std=c++17 eloqstore.cc $(pkg-config --cflags --libs rdma_engine) -o eloqstore && ./eloqstore OPTIONS
//
// OPTIONS is EloqStore's ini file, or lines of `name=value` (store_path, data_page_size, pages_per_file_shift …): a store
// does not say itself what it was written with.
#include <rdma_engine.hpp>

#include <cstdio>

int main(int argc, char **argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: eloqstore OPTIONS\n");
        return 2;
    }
    auto opened = rde::store::open_file(argv[1]);
    if (!opened) {
        std::fprintf(stderr, "%s\n", opened.error().message);
        return 1;
    }
    rde::store store = std::move(opened).value();
    for (const std::string &name : store.partitions().value()) {
        // TABLE.NUMBER, split at the last dot.
        const std::size_t dot = name.rfind('.');
        const auto number = static_cast<std::uint32_t>(std::strtoul(name.c_str() + dot + 1, nullptr, 10));
        const auto partition = store.partition(name.substr(0, dot), number).value();
        std::uint64_t bytes = 0;
        auto count = store.scan(partition, "", "", [&](const rde::entry &entry) {
            bytes += entry.key.size() + entry.value.size();
            return true;
        });
        if (!count) {
            // Nothing was ever written to it.
            if (count.status() == RDE_STATUS_NOT_FOUND) continue;
            std::fprintf(stderr, "%s: %s\n", name.c_str(), count.error().message);
            return 1;
        }
        std::printf("%s: %llu entries, %llu bytes\n", name.c_str(),
                    static_cast<unsigned long long>(std::move(count).value()), static_cast<unsigned long long>(bytes));
    }
}
