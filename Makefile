# Two commands do everything on a fresh Debian or Ubuntu:
#   make song    install what is missing (asks first), build, and make a first song
#   make check   install what is missing (asks first), build, and run all tests

BUILD := build
JOBS := $(shell nproc)
PREFIX := /usr/local

.PHONY: song check all test sanitize fuzz format-check install-check install clean

song: all
	@rm -rf .tiny && $(BUILD)/tools/make-tiny-checkpoint .tiny
	$(BUILD)/acestep "a tiny checkpoint, so this is noise" --model .tiny --duration 10 --seed 7

all:
	@tools/setup.sh build
	cmake --preset release -DACE_TESTS=OFF >/dev/null
	cmake --build $(BUILD) -j $(JOBS)

check:
	@tools/setup.sh check
	+$(MAKE) format-check
	+$(MAKE) sanitize
	+$(MAKE) fuzz
	+$(MAKE) install-check
	+$(MAKE) test

test:
	cmake --preset release -DACE_TESTS=ON >/dev/null
	cmake --build $(BUILD) -j $(JOBS)
	ctest --test-dir $(BUILD) -j $(JOBS) --output-on-failure

# The same tests under AddressSanitizer and UndefinedBehaviorSanitizer.
sanitize:
	cmake --preset sanitize >/dev/null
	cmake --build build-sanitize -j $(JOBS)
	ctest --test-dir build-sanitize -j $(JOBS) --output-on-failure

# Each fuzzer over its corpus, then FUZZ_SECONDS of new inputs.
FUZZ_SECONDS := 10
fuzz:
	cmake --preset fuzz >/dev/null
	cmake --build build-fuzz -j $(JOBS)
	find build-fuzz/fuzz -maxdepth 1 -type f -name 'fuzz_*' -executable | xargs -I FUZZER -P $(JOBS) tools/fuzz.sh FUZZER $(FUZZ_SECONDS)

format-check:
	git ls-files '*.c' '*.h' '*.cpp' '*.cu' | xargs clang-format --dry-run --Werror

install-check: all
	tools/install-check.sh $(BUILD)

install: all
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf build build-sanitize build-fuzz build-clang .tiny
