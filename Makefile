# Everything a person types. Each target does what it needs first, and may be repeated.
CACHE := $(or $(PRERESQ_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/preresq)
export PRERESQ_CACHE := $(CACHE)
export CARGO_TARGET_DIR ?= $(CACHE)/target
export PATH := $(CACHE)/venv/bin:$(PATH)
ifndef LIBTORCH
export LIBTORCH_USE_PYTORCH ?= 1
endif
# Where libtorch lies: programs know it themselves, tests of its crates are told.
LIBTORCH_LIB = $(or $(and $(LIBTORCH),$(LIBTORCH)/lib),$(shell $(CACHE)/venv/bin/python3 -c 'from importlib.util import find_spec; print(find_spec("torch").submodule_search_locations[0] + "/lib")'))
BIN := $(CARGO_TARGET_DIR)/release
DATA := runs/quickstart-data
PYTHON := $(CACHE)/venv/bin/python3

.PHONY: help setup build small small-two-stage small-video small-visualquality-r1 small-videos results quickstart warmstart dataset test test-cluster test-faults lint bench bench-rollout bench-preprocess bench-video bench-step bench-memory bench-shard bench-link bench-control check-memory check-nccl fuzz clean
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup        install what is missing, and say what and why
setup:
	@deploy/setup/setup.sh
setup-build:
	@deploy/setup/setup.sh build
setup-test:
	@deploy/setup/setup.sh build test

## make build        the programs: $CARGO_TARGET_DIR/release/{coordinator,worker}
build: setup-build
	cargo build --release --workspace --bins

## make dataset      the quickstart's pictures and proxy labels
dataset: build
	@deploy/setup/setup.sh photos
	$(BIN)/coordinator dataset synthesize --photos configs/quickstart/photos.tsv --photos-root $(CACHE)/photos --output $(DATA)

## make quickstart   set up, build, and fine-tune a small Qwen2.5-VL by PRPO on two workers
quickstart: dataset
	rm -rf runs/quickstart
	$(BIN)/coordinator --nodes configs/hosts/local.yaml --recipe configs/quickstart.yaml

## make small         the small two-stage, video and VisualQuality-R1 recipes, each with its report in runs/
small: small-two-stage small-video small-visualquality-r1
small-two-stage: dataset
	rm -rf runs/small_two_stage
	$(BIN)/coordinator --nodes configs/hosts/local.yaml --recipe configs/small_two_stage.yaml
small-visualquality-r1: dataset
	rm -rf runs/small_visualquality_r1
	$(BIN)/coordinator --nodes configs/hosts/local.yaml --recipe configs/small_visualquality_r1.yaml
small-video: small-videos
	rm -rf runs/small_vqa
	$(BIN)/coordinator --nodes configs/hosts/local.yaml --recipe configs/small_vqa.yaml

## make small-videos  short clips with proxy labels (VMAF) from the setup's videos
small-videos: build setup-test
	$(PYTHON) tests/python/make_videos.py $(CACHE)/videos runs/small-videos

## make results       PRPO beside VisualQuality-R1, three seeds, into docs/results.md (about an hour)
results: dataset setup-test
	$(PYTHON) tests/python/results.py $(BIN)

## make warmstart    train the quickstart's starting checkpoint again: vision, then language
warmstart: dataset
	rm -rf runs/warmstart runs/warmstart-init
	$(BIN)/worker init --model-config configs/quickstart/model --output runs/warmstart-init --seed 1 --dtype float32 --patch-filters cosine
	$(BIN)/coordinator --nodes configs/hosts/local.yaml --recipe configs/warmstart.yaml

## make test         everything that can be tested on this machine
test: setup-test
	cargo build --release --workspace --bins
	LD_LIBRARY_PATH=$(LIBTORCH_LIB) cargo nextest run --cargo-profile release --workspace

## make test-cluster runs over ssh and on a Slurm cluster made of this machine (root)
test-cluster: setup-test
	@deploy/setup/setup.sh hosts
	cargo build --release --workspace --bins
	LD_LIBRARY_PATH=$(LIBTORCH_LIB) cargo nextest run --profile matrix --cargo-profile release --workspace --features coordinator/cluster,tests/cluster \
	  -E '(binary(train) and test(/^(slurm|ssh)::/)) or binary(hosts)'

## make test-faults  every kind of fault at every moment, under every sharding; says how long each took (half an hour)
test-faults: setup-test
	cargo build --release --workspace --bins
	LD_LIBRARY_PATH=$(LIBTORCH_LIB) cargo nextest run --profile matrix --cargo-profile release --workspace --features tests/fault-matrix,coordinator/fault-matrix --success-output final \
	  -E 'binary(fault_matrix) or test(/^write_points::/)'

## make lint         format, clippy, licences and sources, arrows between crates
lint: setup-test
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo deny --log-level error check bans licenses sources

## make bench        every claim of speed, as a ratio measured in one run (an idle machine, about an hour)
bench: bench-rollout bench-preprocess bench-video bench-step bench-memory bench-shard bench-control
## make bench-rollout     responses drawn, against transformers' generate
bench-rollout: build setup-test
	$(PYTHON) tests/python/bench_rollout.py $(BIN)/worker --cache $(CACHE)/bench-models
## make bench-preprocess  pictures read and cut, against transformers' fast processor
bench-preprocess: build setup-test
	$(PYTHON) tests/python/bench_preprocess.py $(BIN)/worker configs/quickstart/checkpoint

## make bench-video       videos decoded and packed as pictures, against PyAV
bench-video: build setup-test
	$(PYTHON) tests/python/bench_video.py $(BIN)/worker $(CACHE)/videos

## make check-memory a 3B-shaped checkpoint loads and scores within 1.3 times its size (8 GB of disk for a minute)
check-memory: build setup-test
	$(PYTHON) tests/python/check_memory.py $(BIN)/worker --shape 3b

## make fuzz         every reader of files, a minute each (installs cargo-fuzz)
fuzz: setup-build
	deploy/setup/fuzz.sh

## make check-nccl   the NCCL half builds, links, and runs to libtorch's words about the missing GPU
check-nccl: setup-build
	deploy/setup/check-nccl.sh

## make bench-step        a step of RL and its update, against TRL's GRPOTrainer
bench-step: build setup-test
	@deploy/setup/setup.sh peers
	$(PYTHON) tests/python/bench_step.py $(BIN) --cache $(CACHE)/bench-models

## make bench-memory      135 M parameters train by LoRA and in full over two workers within 12 GiB
bench-memory: build setup-test
	$(PYTHON) tests/python/bench_memory.py $(BIN) --cache $(CACHE)

## make bench-shard       the update under each sharding on two workers and on four, bytes sent against theory, memory
bench-shard: build setup-test
	$(PYTHON) tests/python/bench_world.py $(BIN) --cache $(CACHE)/bench-models
	$(PYTHON) tests/python/bench_world.py $(BIN) --cache $(CACHE)/bench-models --workers 4 --nodes 2 --runs 1
	$(PYTHON) tests/python/check_sharded_memory.py $(BIN) --cache $(CACHE)/bench-models

## make bench-link        the update over links of 100 Mbit/s, against its compute and its communication (root)
bench-link: build setup-test
	$(PYTHON) tests/python/bench_world.py $(BIN) --cache $(CACHE)/bench-models --rate 100mbit --shardings replicate optimizer full
	$(PYTHON) tests/python/bench_world.py $(BIN) --cache $(CACHE)/bench-models --rate 100mbit --shardings replicate optimizer full --samples 2 --responses 2

## make bench-control     1,000 light workers: registration, commits, deaths, heartbeats, memory, and 10 and 100 beside them
bench-control: setup-test
	cargo bench -p coordinator --bench control

## make clean        remove what builds and runs have made (not the Python environment)
clean:
	rm -rf $(CARGO_TARGET_DIR) $(DATA) runs
