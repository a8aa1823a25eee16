# SPDX-License-Identifier: GPL-2.0
#
# What a person types. The objects of the module are listed in Kbuild.

ifeq ($(KERNELRELEASE),)

VM := tools/vm/vm
CARGO := tools/vm/cargo
RUNNER := $(VM) runner

# The kernel to build against: the running one, unless KDIR names another.
KDIR ?= /lib/modules/$(shell uname -r)/build

# Where `install` puts what programs, other modules and udev read.
UAPI := include/uapi/linux/dmabuf_coherency.h
UAPI_DIR := /usr/include/linux
SRC_DIR := /usr/src/dmabuf_coherency/include
RULES := 60-dmabuf-coherency.rules
RULES_DIR := /usr/lib/udev/rules.d

# Where the command dmaheap goes, its man pages and its completions.
prefix ?= /usr

# $(1): a build tree; tools/kdir says what stands in the way.
kbuild = vars=$$(tools/kdir '$(1)') && \
	$(MAKE) -C '$(1)' M=$(CURDIR) $(if $(MO),MO='$(MO)') $$vars

.PHONY: all
all: ## Build dmabuf_coherency.ko for the kernel in KDIR
	@$(call kbuild,$(KDIR)) modules

.PHONY: modules_install
modules_install: ## Install it with that kernel's modules (INSTALL_MOD_PATH)
	@$(call kbuild,$(KDIR)) modules_install

.PHONY: install
install: modules_install ## Install that, the command dmaheap, headers and the udev rule (DESTDIR, prefix)
	install -D -m 644 -t $(DESTDIR)$(UAPI_DIR) $(UAPI)
	install -D -m 644 -t $(DESTDIR)$(SRC_DIR)/uapi/linux $(UAPI)
	install -D -m 644 -t $(DESTDIR)$(SRC_DIR)/linux include/linux/dmabuf_coherency.h
	install -D -m 644 -t $(DESTDIR)$(RULES_DIR) tools/udev/$(RULES)
	$(CARGO) run --quiet --release --locked --package dmaheap -- install $(DESTDIR)$(prefix)

.PHONY: uninstall
uninstall: ## Remove all but the module again; that goes with its kernel's modules
	rm -f $(DESTDIR)$(UAPI_DIR)/$(notdir $(UAPI)) $(DESTDIR)$(RULES_DIR)/$(RULES)
	rm -rf $(DESTDIR)$(SRC_DIR)
	rm -f $(addprefix $(DESTDIR)$(prefix)/,bin/dmaheap share/man/man1/dmaheap.1 share/man/man1/dmaheap-*.1 \
		share/bash-completion/completions/dmaheap share/fish/vendor_completions.d/dmaheap.fish \
		share/zsh/site-functions/_dmaheap)

.PHONY: clean
clean: ## Remove what building has made
	@$(call kbuild,$(KDIR)) clean

.PHONY: demo
demo: ## Show which devices may attach to a buffer, in guests of both architectures
	@$(VM) setup && $(RUNNER) demo

.PHONY: test
test: ## Run all tests, in guests and on this machine
	@$(VM) setup && $(RUNNER) test $(TESTS)

.PHONY: stress
stress: ## Do random things with buffers for an hour, or as long as you like (SECONDS, SEED)
	@$(VM) setup && $(RUNNER) stress $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

.PHONY: test-debug
test-debug: ## Run the tests of the module on kernels that look for mistakes, and for leaks
	@$(VM) setup && $(RUNNER) test --kernel debug $(TESTS)

.PHONY: coverage
coverage: ## Run all tests, and tell which lines of the module they do not reach
	@$(VM) setup && $(RUNNER) test --coverage $(TESTS)

.PHONY: bench
bench: ## Measure our heaps beside those in the tree, in guests that count instructions
	@$(VM) setup && $(CARGO) run --quiet --locked --package bench -- $(BENCH)

.PHONY: setup
setup: ## Install and build what guests of the usual kernel need, and nothing else
	@$(VM) setup

.PHONY: shell
shell: ## Boot a guest with the module at hand and give its shell (VM_ARCH=arm64)
	@$(VM) setup && $(VM) shell --arch $(or $(VM_ARCH),x86_64)

include tools/checks.mk

.PHONY: help
help: ## Show this
	@echo 'Targets:'
	@sed -n 's/^\([a-z_-]*\):.* ## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo 'Variables:'
	@echo '  KDIR=<tree>       full build tree of the kernel to build against'
	@echo '  MO=<directory>    where the built module goes (default: beside the source)'
	@echo '  prefix=<path>     where the command goes (default: /usr)'
	@echo '  TESTS=<filters>   which groups of tests to run (default: all)'
	@echo '  SECONDS=, SEED=   how long to do random things, and which (default: 3600, random)'
	@echo '  BENCH=<options>   what to measure (BENCH=--help)'

endif
