# rdma-engine. `make demo` shows it, `make test` tests all of it, `make install` installs it.
#
#   make install PREFIX=/usr/local LIBDIR=/usr/local/lib DESTDIR=
#   make demo FILE=/path/to/a/file
#   PROFILE=dev   builds quickly instead of fast programs; the tests do, so that dependencies are built once

SHELL := bash
PROFILE ?= release
PREFIX ?= /usr/local
# With Debian's multiarch folders: LIBDIR=/usr/lib/x86_64-linux-gnu
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
FILE ?=
CC ?= cc
CFLAGS ?= -O2 -g
CXX ?= c++
CXXFLAGS ?= -O2 -g
WARNINGS := -std=c11 -Wall -Wextra -Wpedantic -Werror

CARGO := cargo
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
OUT := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
EXAMPLES := $(addprefix $(OUT)/c-examples/,hello epoll_loop transfer rpc_server rpc_client rpc kv eloqstore)
SONAME := librdma_engine.so.0

.PHONY: all setup header demo examples test check bench soak install uninstall clean lib

all: lib $(EXAMPLES)

# What is missing on this machine: compilers, UCX at run time, and tools of the tests.
setup:
	@scripts/setup.sh

# cargo decides what is out of date. Programs ask for the SONAME, which cargo does not name files after. For tests, with one
# of them: what tests need turns on features of dependencies, and all would be built a second time without.
lib:
	$(CARGO) build --locked --profile $(PROFILE) $(if $(filter dev,$(PROFILE)),--lib --bins --test header)
	@ln -sf librdma_engine.so $(OUT)/$(SONAME)

# include/rdma_engine.h and abi/exports.txt from src/ffi.
header:
	RDE_BLESS=1 $(CARGO) test --locked --test header

examples: $(EXAMPLES)

$(OUT)/c-examples/rpc: c-examples/rpc.cc include/rdma_engine.hpp include/rdma_engine.h | lib
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -std=c++17 -Wall -Wextra -Wpedantic -Werror -Iinclude $< -o $@ \
		-L$(OUT) -lrdma_engine -pthread -Wl,-rpath,'$$ORIGIN/..'

$(OUT)/c-examples/%: c-examples/%.c c-examples/rpc.h c-examples/sha256.c c-examples/sha256.h include/rdma_engine.h | lib
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARNINGS) -Iinclude $< $(if $(filter transfer,$*),c-examples/sha256.c) -o $@ \
		-L$(OUT) -lrdma_engine -Wl,-rpath,'$$ORIGIN/..'

$(OUT)/c-examples/eloqstore: c-examples/eloqstore.cc include/rdma_engine.h include/rdma_engine.hpp | lib
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -std=c++17 -Wall -Wextra -Wpedantic -Werror -Iinclude $< -o $@ \
		-L$(OUT) -lrdma_engine -Wl,-rpath,'$$ORIGIN/..'

# Two processes: a file through one-sided gets and puts, over shared memory and over TCP.
demo:
	@scripts/setup.sh demo
	@$(MAKE) --no-print-directory $(OUT)/c-examples/transfer
	@c-examples/demo.sh $(OUT)/c-examples/transfer $(FILE)

# Every test, cheapest first. One build profile, so that nothing is compiled twice.
test: export PROFILE = dev
test:
	$(CARGO) fmt --check --all
	tests/tree.sh
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --lib --no-default-features -- -D warnings
	tests/ahead.sh $(CARGO) test --locked -p rdma-engine -p ucx-sys
	tests/tier.sh
	tests/netns.sh
	tests/install.sh
	tests/go.sh
	tests/seaweedfs.sh
	tests/readme.sh

# What takes longer: fuzzing, Miri, documentation as errors. Installs a nightly toolchain and cargo-fuzz if they are missing. Sanitizers and valgrind are in `test`.
check: test
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --workspace
	RDE_SLOW=1 PROFILE=dev tests/seaweedfs.sh
	scripts/check.sh

# Beside raw UCX, RocksDB and SeaweedFS's HTTP, interleaved; the tables and target/bench.json.
bench:
	@scripts/setup.sh bench
	$(MAKE) -C benches bench
	$(MAKE) -C benches kv
	$(MAKE) -C benches seaweedfs

# A server under traffic for SOAK_SECONDS (600): memory and descriptors must not grow.
soak: lib
	tests/soak.sh $(OUT)/rde

install: lib
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/include" "$(DESTDIR)$(LIBDIR)/pkgconfig"
	install -m 755 $(OUT)/librdma_engine.so "$(DESTDIR)$(LIBDIR)/librdma_engine.so.$(VERSION)"
	ln -sf librdma_engine.so.$(VERSION) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/librdma_engine.so"
	install -m 644 $(OUT)/librdma_engine.a "$(DESTDIR)$(LIBDIR)/librdma_engine.a"
	install -m 644 include/rdma_engine.h include/rdma_engine.hpp "$(DESTDIR)$(PREFIX)/include/"
	install -m 755 $(OUT)/rde "$(DESTDIR)$(PREFIX)/bin/rde"
	for name in rdma_engine rdma_engine_static; do scripts/pc.sh "$(PREFIX)" "$(LIBDIR)" $(VERSION) $$name \
		> "$(DESTDIR)$(LIBDIR)/pkgconfig/$$name.pc" || exit; done

# Files, and the folders that are empty then and may have been ours.
uninstall:
	rm -f "$(DESTDIR)$(LIBDIR)"/librdma_engine.{a,so,so.0,so.$(VERSION)} "$(DESTDIR)$(PREFIX)/bin/rde" \
		"$(DESTDIR)$(PREFIX)/include/rdma_engine.h" "$(DESTDIR)$(PREFIX)/include/rdma_engine.hpp" \
		"$(DESTDIR)$(LIBDIR)/pkgconfig"/rdma_engine{,_static}.pc
	-rmdir --ignore-fail-on-non-empty "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(LIBDIR)" \
		"$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/include" 2>/dev/null

clean:
	$(CARGO) clean
