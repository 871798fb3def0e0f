# Builds, tests and installs tm.  `make help` lists the targets; `make V=1` shows
# every command.
#
# May use: the compilers, binutils and /usr/bin/python3 of Debian 12.  Must
# never need a package before `make deps` had a chance to install it: demo and
# test install first and build in a second make.

ifeq ($(origin CC),default)
CC := gcc
endif
PYTHON   := /usr/bin/python3
B        := build
PREFIX   ?= /usr/local
DESTDIR  ?=
WERROR   ?=
WARNINGS := -Wall -Wextra -Wundef -Wstrict-prototypes $(WERROR)
STANDARD := -std=gnu11
OPTIMIZE ?= -O2 -g
Q        := $(if $(V),,@)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
export LC_ALL := C.UTF-8
# The compiler writes it into the debug information: the folder itself, whatever led here.
export PWD := $(CURDIR)

.PHONY: all deps deps-build deps-test deps-lint deps-fuzz deps-bench demo test build-tests examples sanitize soak fuzz build-fuzz test-matrix bench bench-quick bench-plots lint format install \
	uninstall help clean FORCE

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

# ---- packages ---------------------------------------------------------------

PACKAGES_BUILD := gdb gcc make binutils libc6-dev libdw-dev libelf-dev libdebuginfod-dev liblzma-dev \
	libzydis-dev libzstd-dev python3 python3-dev
PACKAGES_DEMO  := redis-server redis-tools
PACKAGES_TEST  := $(PACKAGES_DEMO) g++ gdbserver libdwarf-dev libcmocka-dev libunwind-dev \
	libgoogle-perftools-dev libmimalloc-dev libjemalloc-dev libevent-dev musl-tools sqlite3 libc6-dbg \
	python3-dbg dpkg-dev flake8 valgrind groff-base dwz xz-utils tmux
PACKAGES_LINT  := clang clang-format flake8
PACKAGES_FUZZ  := clang libclang-rt-dev

# Installs what is missing of the packages in $(1); instant when all are there.
define install_packages
@missing=$$(dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(1) 2>/dev/null \
	| awk -v want="$(strip $(1))" '$$2 == "installed" { have[$$1] } \
		END { n = split(want, name, " "); for (i = 1; i <= n; i++) \
			if (!(name[i] in have)) printf "%s ", name[i] }'); \
[ -z "$$missing" ] && exit 0; \
sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
echo "Installing from Debian's packages: $$missing"; \
apt="$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 \
	-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"; \
install="$$apt install -y --no-install-recommends $$missing"; \
[ -n "$$(find /var/lib/apt/lists -name '*Packages*' -mtime -1 -print -quit 2>/dev/null)" ] \
	|| $$apt update; \
$$install >/dev/null 2>&1 </dev/null || { $$apt update; $$install >/dev/null </dev/null; }
endef

deps: deps-build deps-test deps-lint ## install everything that building, testing and linting need
deps-build:
	$(call install_packages,$(PACKAGES_BUILD) $(PACKAGES_DEMO))
deps-test: deps-build
	$(call install_packages,$(PACKAGES_TEST))
deps-lint: deps-build
	$(call install_packages,$(PACKAGES_LINT))
deps-fuzz: deps-build
	$(call install_packages,$(PACKAGES_FUZZ) libcmocka-dev)

# ---- the helper -------------------------------------------------------------

HELPER_FLAGS := $(STANDARD) $(OPTIMIZE) $(WARNINGS) -ffreestanding -fPIC -fvisibility=hidden \
	-fno-stack-protector -fno-jump-tables -fno-builtin -fno-plt -fcf-protection=branch \
	-fasynchronous-unwind-tables -fno-exceptions -mgeneral-regs-only -Wframe-larger-than=512 \
	-Wa,--fatal-warnings -Iinclude -Ihelper -Ihelper/arch/x86_64
HELPER_SOURCES := $(filter-out helper/preload%.c %/preload.S,$(wildcard helper/*.c) \
	$(wildcard helper/arch/x86_64/*.c helper/arch/x86_64/*.S))
HELPER_OBJECTS := $(HELPER_SOURCES:%=$B/%.o)
HELPER_SCRIPT  := $(wildcard helper/helper.lds)

# The same helper as plain bytes, in a library that traces from the start.
PRELOAD_FLAGS = $(STANDARD) $(OPTIMIZE) $(WARNINGS) -D_GNU_SOURCE= -fPIC -fvisibility=hidden \
	-fcf-protection=branch -Wa,--fatal-warnings -Iinclude -Ihelper -I$B/preload -Wa,-I,$B/preload

# ---- the extension ----------------------------------------------------------

NATIVE_FLAGS = $(STANDARD) $(OPTIMIZE) $(WARNINGS) -fPIC -fvisibility=hidden -D_GNU_SOURCE= \
	-DPy_LIMITED_API=0x03090000 -Iinclude -Igdb-plugin/native -isystem $(PYTHON_INCLUDE)
NATIVE_LIBS    := -Wl,--as-needed -ldw -lelf -llzma -lZydis -lzstd -l:libstdc++.so.6
NATIVE_SOURCES := $(wildcard gdb-plugin/native/*.c)
NATIVE_OBJECTS := $(NATIVE_SOURCES:%=$B/%.o)
PYTHON_INCLUDE  = $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')

all: $(if $(HELPER_OBJECTS),$B/tm-helper.so $B/libtm-preload.so) $(if $(NATIVE_OBJECTS),$B/_tm.abi3.so) ## build the helper and the extension module

# Objects follow the compiler and its flags, so that CC=clang rebuilds.
$B/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(HELPER_FLAGS) / $(OPTIMIZE) $(WARNINGS)' | cmp -s - $@ \
		|| echo '$(CC) $(HELPER_FLAGS) / $(OPTIMIZE) $(WARNINGS)' >$@

$B/helper/%.o: helper/% $B/flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(CC) $(HELPER_FLAGS) -MMD -MP -c -o $@ $<

$B/gdb-plugin/native/%.o: gdb-plugin/native/% $B/flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(CC) $(NATIVE_FLAGS) -MMD -MP -c -o $@ $<

$B/tm-helper.so: $(HELPER_OBJECTS) $(HELPER_SCRIPT) tests/house/freestanding
	@echo '  LINK  $@'
	$(Q)$(CC) -nostdlib -shared -Wl,-z,noexecstack -Wl,--build-id -Wl,--no-undefined \
		-Wl,--hash-style=gnu -Wl,--defsym,memcpy=tm_memcpy,--defsym,memset=tm_memset \
		$(HELPER_SCRIPT:%=-Wl,-T,%) -o $@ $(HELPER_OBJECTS)
	$(Q)objcopy -N memcpy -N memset $@
	$(Q)tests/house/freestanding $@

$B/preload/helper.bin: $B/tm-helper.so
	@mkdir -p $(@D)
	$(Q)objcopy -O binary $< $@

$B/preload/preload_image.h: $B/tm-helper.so helper/preload-symbols
	@mkdir -p $(@D)
	$(Q)helper/preload-symbols $< >$@

$B/libtm-preload.so: $(wildcard helper/preload*.[ch]) helper/arch/x86_64/preload.S \
		include/tm_layout.h $B/preload/preload_image.h $B/preload/helper.bin $B/flags
	@echo '  LINK  $@'
	$(Q)$(CC) $(PRELOAD_FLAGS) -shared -Wl,-z,now,-z,noexecstack,-z,separate-code \
		-Wl,--build-id -Wl,--hash-style=gnu -o $@ $(filter %.c %.S,$^)

$B/_tm.abi3.so: $(NATIVE_OBJECTS)
	@echo '  LINK  $@'
	$(Q)$(CC) -shared -o $@ $(NATIVE_OBJECTS) $(NATIVE_LIBS)

-include $(HELPER_OBJECTS:.o=.d) $(NATIVE_OBJECTS:.o=.d)

# ---- tests ------------------------------------------------------------------

# A test program names the sources it is compiled with: /* links: helper/cfi.c */
TEST_SOURCES  := $(wildcard tests/unit/test_*.c tests/oracle/test_*.c)
TEST_PROGRAMS := $(TEST_SOURCES:%.c=$B/%)
TEST_HEADERS  := $(wildcard include/*.h helper/*.h helper/arch/x86_64/*.h gdb-plugin/native/*.h \
	tests/unit/*.h tests/oracle/*.h)
TEST_FLAGS     = $(STANDARD) -O1 -g $(WARNINGS) -D_GNU_SOURCE= \
	-DTM_HOST_TEST -Iinclude -Ihelper -Ihelper/arch/x86_64 -Igdb-plugin/native -Itests/unit
TEST_LIBS     := -Wl,--as-needed -lcmocka -ldw -lelf -llzma -ldwarf -lZydis -lzstd \
	-lunwind-x86_64 -lunwind -l:libstdc++.so.6 -lpthread -ldl -lm
links          = $(shell sed -n '/links:/,/\*\//p' $(1) | grep -oE '(helper|gdb-plugin)/[a-z0-9_/]+\.[cS]\>')

.SECONDEXPANSION:
$B/tests/%: tests/%.c $$(call links,tests/$$*.c) $(TEST_HEADERS) $B/flags
	@mkdir -p $(@D)
	@echo '  CC    $@'
	$(Q)$(CC) $(TEST_FLAGS) -o $@ $(filter %.c %.S,$^) $(TEST_LIBS)

build-tests: all examples $(TEST_PROGRAMS)

EXAMPLE_FLAGS := -O2 -g -Wall -Wextra -pthread
examples: $(patsubst examples/%,$B/examples/%,$(basename $(wildcard examples/*.c examples/*.cc)))
examples: ## compile the programs in examples/

$B/examples/%: examples/%.c
	@mkdir -p $(@D)
	@echo '  CC    $@'
	$(Q)gcc $(EXAMPLE_FLAGS) -o $@ $<

$B/examples/%: examples/%.cc
	@mkdir -p $(@D)
	@echo '  CC    $@'
	$(Q)g++ $(EXAMPLE_FLAGS) -o $@ $<

test: deps-test ## run every test; the last line counts them (TESTS='name …' picks some)
	+@$(MAKE) --no-print-directory build-tests
	@tests/run $(TESTS)

# Code is read as 16-bit words at odd addresses, as x86-64 allows.  The tests of the
# unwinder and of the module list look at the process itself, which a sanitizer changes.
SANITIZE  := -fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined
SANITIZED := $(filter-out %/test_unwind %/test_modules %/test_links,$(patsubst %.c,%,$(wildcard tests/unit/test_*.c)))
sanitize: deps-test ## run the unit tests under the address and undefined behaviour sanitizers
	+@$(MAKE) --no-print-directory B=$B/sanitize WARNINGS='$(WARNINGS) $(SANITIZE)' \
		$(SANITIZED:%=$B/sanitize/%)
	@tests/run --build $B/sanitize $(SANITIZED:tests/%=%)

test-matrix: deps-test ## trace every kind of process there is, and print what works as a table
	+@$(MAKE) --no-print-directory -s build-tests
	@$(PYTHON) tests/e2e/matrix.py

soak: deps-test ## run the tests that have a long form at their full length
	+@$(MAKE) --no-print-directory build-tests
	@tests/run --full $(TESTS)

# ---- fuzzing ----------------------------------------------------------------

FUZZ_SECONDS ?= 30
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,$B/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_FLAGS    = $(STANDARD) -O1 -g $(filter-out -Wstrict-prototypes,$(WARNINGS)) -D_GNU_SOURCE= \
	-DTM_HOST_TEST -fsanitize=fuzzer,address,undefined -fno-sanitize=alignment \
	-fno-sanitize-recover=undefined -Iinclude -Ihelper -Igdb-plugin/native -Itests/unit \
	-DPy_LIMITED_API=0x03090000 -isystem $(PYTHON_INCLUDE)
FUZZ_LIBS     = $(NATIVE_LIBS) -lcmocka \
	$(shell $(PYTHON)-config --embed --ldflags)

$B/fuzz/%: tests/fuzz/%.c $$(call links,tests/fuzz/$$*.c) $(TEST_HEADERS) tests/fuzz/fuzz.h
	@mkdir -p $(@D)
	@echo '  FUZZ  $@'
	$(Q)clang $(FUZZ_FLAGS) -o $@ $(filter %.c,$^) $(FUZZ_LIBS)

# These are whole: parts that are added later belong to them too.
$B/fuzz/fuzz_dump: $(NATIVE_SOURCES)
$B/fuzz/fuzz_symbolize: $(wildcard gdb-plugin/native/symbolize*.c)

build-fuzz: all $(FUZZ_TARGETS)

fuzz: deps-fuzz ## hostile input for every reader, FUZZ_SECONDS=30 for each of them
	+@$(MAKE) --no-print-directory build-fuzz
	@tests/fuzz/run --seconds $(FUZZ_SECONDS) --build $B

demo: deps-build ## attach to a busy redis-server and find out what holds its memory
	+@$(MAKE) --no-print-directory -s all
	@examples/demo.sh

# ---- benchmarks -------------------------------------------------------------

PACKAGES_BENCH := gdb gcc g++ heaptrack valgrind libgoogle-perftools4 libjemalloc2 binutils elfutils \
	llvm python3-dbg libc6-dbg sqlite3 redis-server redis-tools libxml2-utils perl gawk
deps-bench: deps-build
	$(call install_packages,$(PACKAGES_BENCH))

BENCH_FLAGS := -O2 -g -Wall -Wextra -pthread
BENCH_BUILT := $(patsubst %,$B/bench/%,micro micro-fp floor.so idle-198.so idle-300.so exit_time.so \
	allocator_time.so inlined.so module.so loads)
$B/bench/micro: tests/bench/micro.c
	@mkdir -p $(@D)
	$(Q)gcc $(BENCH_FLAGS) -fomit-frame-pointer -o $@ $<
$B/bench/micro-fp: tests/bench/micro.c
	@mkdir -p $(@D)
	$(Q)gcc $(BENCH_FLAGS) -fno-omit-frame-pointer -o $@ $<
$B/bench/idle-%.so: tests/bench/idle.c
	@mkdir -p $(@D)
	$(Q)gcc $(BENCH_FLAGS) -DHALF='($* / 2)' -shared -fPIC -o $@ $<
$B/bench/%.so: tests/bench/%.c
	@mkdir -p $(@D)
	$(Q)gcc $(BENCH_FLAGS) -fno-omit-frame-pointer -shared -fPIC -o $@ $<

$B/bench/%.so: tests/bench/%.cc
	@mkdir -p $(@D)
	$(Q)g++ -O2 -g -shared -fPIC -o $@ $<

BENCH_PLOTS := $(BENCH_BUILT) $B/bench/loads-fp
# It loads module.so from many files; -fomit-frame-pointer is what most objects have.
$B/bench/loads: tests/bench/modules.c
	@mkdir -p $(@D)
	$(Q)gcc $(BENCH_FLAGS) -fomit-frame-pointer -o $@ $<
$B/bench/loads-fp: tests/bench/modules.c
	@mkdir -p $(@D)
	$(Q)gcc $(BENCH_FLAGS) -fno-omit-frame-pointer -o $@ $<

bench: deps-bench ## what tracing costs, beside a floor and the peers; 20 minutes
	+@$(MAKE) --no-print-directory -s all $(BENCH_BUILT)
	@tests/bench/bench.py $(BENCH)

bench-quick: ## the same in a minute or two, with the peers that are there, without whole programs
	+@$(MAKE) --no-print-directory -s all $(BENCH_BUILT)
	@tests/bench/bench.py --quick $(BENCH)

bench-plots: deps-bench ## how the added cost grows, as SVG in build/plots; about ten minutes
	+@$(MAKE) --no-print-directory -s all $(BENCH_PLOTS)
	@tests/bench/plots.py $(BENCH)

# ---- style ------------------------------------------------------------------

C_FILES := $(wildcard include/*.h helper/*.[ch] helper/arch/*/*.[ch] gdb-plugin/native/*.[ch] \
	tests/*/*.[ch] examples/*.c)
# Another clang-format wants other things of the same lines; Debian 12 has this one.
CLANG_FORMAT := 14
format_version = $(shell clang-format --version | sed 's/.*version \([0-9]*\).*/\1/')

lint: deps-lint ## compile with warnings as errors under gcc and clang, check format and Python style
	+@$(MAKE) --no-print-directory -s B=$B/lint-gcc CC=gcc WERROR=-Werror all
	+@$(MAKE) --no-print-directory -s B=$B/lint-clang CC=clang WERROR=-Werror all
	@if [ "$(format_version)" = $(CLANG_FORMAT) ]; then clang-format --dry-run -Werror $(C_FILES); \
		else echo 'The format of C is not checked: it is that of clang-format $(CLANG_FORMAT),' \
		'this is $(format_version).'; fi
	@flake8 gdb-plugin tests examples
	+@$(MAKE) --no-print-directory -s all
	@tests/run house

format: deps-lint ## apply .clang-format
	@[ "$(format_version)" = $(CLANG_FORMAT) ] || { echo 'This is clang-format $(format_version),' \
		'the format is that of $(CLANG_FORMAT).' >&2; exit 1; }
	clang-format -i $(C_FILES)

# ---- installing -------------------------------------------------------------

LIBRARY := $(DESTDIR)$(PREFIX)/lib/tm
MANUAL  := $(DESTDIR)$(PREFIX)/share/man/man1
# Where gdb looks for what every session is to know: its system-wide gdbinit.d, or the commands
# in its data directory where it was built without one.  GDBINIT_DIR= puts nothing there.
GDBINIT_DIR ?= $(shell d=$$(gdb --configuration \
	| sed -n 's|.*--with-system-gdbinit-dir=\(/[^ ]*\).*|\1|p'); [ "$$d" ] && echo "$$d" \
	|| gdb -nx -batch -ex 'python print(gdb.PYTHONDIR + "/gdb/command")')
install: all ## install below PREFIX (/usr/local) and for gdb in GDBINIT_DIR; DESTDIR is honoured
	install -d $(LIBRARY)
	cp -R gdb-plugin/tm $(LIBRARY)/
	find $(LIBRARY) -name __pycache__ -prune -exec rm -rf {} +
	install -m 644 gdb-plugin/tm-gdb.py $B/tm-helper.so $B/libtm-preload.so \
		$B/_tm.abi3.so gdb-plugin/packaging/tm_autoload.py $(LIBRARY)/
	TM_WORDS=$(LIBRARY)/tm_words.py TM_MANUAL=$B/gdb-tm.1 TM_FOLDER=$(PREFIX)/lib/tm gdb -nx -batch \
		-ex 'source $(LIBRARY)/tm-gdb.py' -ex 'source gdb-plugin/packaging/describe.py'
	$(PYTHON) -m compileall -q --invalidation-mode unchecked-hash -d $(PREFIX)/lib/tm $(LIBRARY)
	install -d $(DESTDIR)$(PREFIX)/include
	install -m 644 $(wildcard include/tm.h) include/tm_layout.h $(DESTDIR)$(PREFIX)/include/
	install -d $(MANUAL)
	install -m 644 $B/gdb-tm.1 $(MANUAL)/
	@[ "$(GDBINIT_DIR)" ] || echo "In gdb, or in ~/.gdbinit: source $(PREFIX)/lib/tm/tm-gdb.py"
	@[ -z "$(GDBINIT_DIR)" ] || { install -d $(DESTDIR)$(GDBINIT_DIR) && \
		sed 's|@FOLDER@|$(PREFIX)/lib/tm|' gdb-plugin/packaging/tm.py >$(DESTDIR)$(GDBINIT_DIR)/tm.py && \
		echo "$(GDBINIT_DIR)/tm.py makes every gdb know tm."; }

uninstall: ## take away what install put there
	rm -rf $(LIBRARY)
	rm -f $(MANUAL)/gdb-tm.1 $(if $(GDBINIT_DIR),$(DESTDIR)$(GDBINIT_DIR)/tm.py)
	rm -f $(DESTDIR)$(PREFIX)/include/tm.h $(DESTDIR)$(PREFIX)/include/tm_layout.h

clean: ## remove the build folder
	rm -rf $B
