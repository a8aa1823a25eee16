# SPDX-License-Identifier: GPL-2.0
#
# What a person types. The objects of the module are listed in Kbuild.

ifeq ($(KERNELRELEASE),)

VM := tools/vm/vm
CARGO := tools/vm/cargo
RUNNER := $(VM) runner

# The kernel to build against: the running one, unless KDIR names another.
KDIR ?= /lib/modules/$(shell uname -r)/build

# The root of the system that the module is installed in, and where among the modules
# there. What lies below DESTDIR is to be copied first, and has no depmod yet.
INSTALL_MOD_PATH ?= $(DESTDIR)
INSTALL_MOD_DIR ?= updates
DEPMOD ?= $(if $(DESTDIR),true,depmod)

# Where `install` puts what programs, other modules and udev read.
UAPI := include/uapi/linux/dmabuf_coherency.h
UAPI_DIR := /usr/include/linux
SRC_DIR := /usr/src/dmabuf_coherency/include
RULES := 60-dmabuf-coherency.rules
RULES_DIR := /usr/lib/udev/rules.d

# Where the command dmaheap goes, man pages and its completions; and libdmaheap.
prefix ?= /usr
libdir ?= $(prefix)/lib

# The kernel of the demonstration's guests: Debian's own, as people have it, where it is at hand;
# else a test kernel, which takes longer to build than the demonstration.
DEMO_KERNEL ?= $(shell . /etc/os-release 2>/dev/null && [ "$$ID" = debian ] && echo debian || echo default)

# A program dmaheap to install instead of the one that is built here, for this machine.
DMAHEAP ?=

# $(1): a build tree; tools/kdir says what stands in the way.
kbuild = vars=$$(tools/kdir '$(1)') && \
	$(MAKE) -C '$(1)' M=$(CURDIR) $(if $(MO),MO='$(abspath $(MO))') $$vars

# Cargo, without what is meant for the kernel. It needs cc, which installing does
# not get by itself.
cargo = command -v cc >/dev/null || { \
		echo 'There is no cc, which links dmaheap: install gcc and libc6-dev.' >&2; exit 1; } && \
	env -u RUSTC $(CARGO)

# The library for C, which is for this machine as well.
capi = env -u RUSTC $(MAKE) --no-print-directory -C tools/dmaheap/capi CC=cc \
	DESTDIR='$(abspath $(DESTDIR))' prefix='$(prefix)' libdir='$(libdir)'

# Fails if programs for this machine would not run where KDIR's kernel does.
tools_fit = host=$$(uname -m); other=; \
	! grep -qs ^CONFIG_X86_64=y '$(KDIR)/include/config/auto.conf' || [ $$host = x86_64 ] || other=x86_64; \
	! grep -qs ^CONFIG_ARM64=y '$(KDIR)/include/config/auto.conf' || [ $$host = aarch64 ] || other=arm64; \
	[ -z "$$other" ] || [ '$(DMAHEAP)' ] || { \
		echo "$(KDIR) is for $$other, and dmaheap would be for this machine. Name one for $$other with DMAHEAP=<path>:" >&2; \
		echo "'tools/vm/vm program --arch $$other dmaheap' builds it and prints its path. Or make modules_install." >&2; \
		exit 1; }

.PHONY: all
all: ## Build dmabuf_coherency.ko for the kernel in KDIR
	@$(call kbuild,$(KDIR)) modules

.PHONY: tools
tools: ## Build the command dmaheap and libdmaheap, for this machine
	@$(cargo) build --quiet --release --locked --package dmaheap
	@$(capi)

.PHONY: install
install: ## Build and install the module and the tools (DESTDIR, prefix)
	@$(tools_fit)
	@$(MAKE) --no-print-directory modules_install
	@$(MAKE) --no-print-directory tools_install

.PHONY: modules_install
modules_install: all ## Build and install the module (INSTALL_MOD_PATH or DESTDIR)
	@$(call kbuild,$(KDIR)) INSTALL_MOD_PATH='$(abspath $(INSTALL_MOD_PATH))' \
		INSTALL_MOD_DIR='$(INSTALL_MOD_DIR)' DEPMOD='$(DEPMOD)' modules_install

.PHONY: tools_install
tools_install: ## Build and install dmaheap, libdmaheap, headers and the udev rule (DESTDIR, prefix)
	@$(tools_fit)
	@$(cargo) run --quiet --release --locked --package dmaheap -- install '$(DESTDIR)$(prefix)'
	$(if $(DMAHEAP),install -m 755 '$(DMAHEAP)' '$(DESTDIR)$(prefix)/bin/dmaheap')
	@$(if $(DMAHEAP),echo 'libdmaheap is left out: it would be for this machine.',$(capi) install)
	install -D -m 644 -t '$(DESTDIR)$(prefix)/share/man/man4' Documentation/dmabuf_coherency.4
	install -D -m 644 -t '$(DESTDIR)$(prefix)/share/doc/dmaheap' Documentation/dmaheap.rst
	install -D -m 644 -t '$(DESTDIR)$(RULES_DIR)' tools/udev/$(RULES)
	@$(MAKE) --no-print-directory headers_install

.PHONY: headers_install
headers_install: ## Install the headers for programs and for other modules (DESTDIR)
	install -D -m 644 -t '$(DESTDIR)$(UAPI_DIR)' $(UAPI)
	install -D -m 644 -t '$(DESTDIR)$(SRC_DIR)/uapi/linux' $(UAPI)
	install -D -m 644 -t '$(DESTDIR)$(SRC_DIR)/linux' include/linux/dmabuf_coherency.h

.PHONY: uninstall
uninstall: modules_uninstall tools_uninstall ## Remove what install has installed, given the same variables

.PHONY: modules_uninstall
modules_uninstall: ## Remove the module
	@release=$$(cat '$(KDIR)/include/config/kernel.release') || { \
		echo 'Of which kernel? KDIR says which, the build tree that the module was installed from.' >&2; exit 1; } && \
	modules='$(INSTALL_MOD_PATH)'/lib/modules/$$release && \
	for suffix in '' .gz .xz .zst; do \
		for module in dmabuf_coherency tools/heaps/dma-heap tools/heaps/system_heap; do \
			rm -fv "$$modules/$(INSTALL_MOD_DIR)/$$module.ko$$suffix"; \
		done; \
	done && \
	if [ -d "$$modules/$(INSTALL_MOD_DIR)/tools" ]; then \
		find "$$modules/$(INSTALL_MOD_DIR)/tools" -type d -empty -delete; \
	fi && \
	if [ -e "$$modules/modules.dep" ]; then \
		PATH="$$PATH:/sbin" $(DEPMOD) $(if $(INSTALL_MOD_PATH),-b '$(INSTALL_MOD_PATH)') "$$release"; \
	fi

.PHONY: tools_uninstall
tools_uninstall: ## Remove the command, libdmaheap, headers and the udev rule
	rm -f $(addprefix $(DESTDIR)$(prefix)/,bin/dmaheap share/man/man1/dmaheap.1 \
		share/man/man4/dmabuf_coherency.4 share/doc/dmaheap/dmaheap.rst \
		share/bash-completion/completions/dmaheap share/fish/vendor_completions.d/dmaheap.fish \
		share/zsh/site-functions/_dmaheap)
	@$(capi) uninstall
	rm -f $(DESTDIR)$(UAPI_DIR)/$(notdir $(UAPI)) $(DESTDIR)$(RULES_DIR)/$(RULES)
	rm -f $(addprefix $(DESTDIR)$(SRC_DIR)/,uapi/linux/$(notdir $(UAPI)) linux/dmabuf_coherency.h)
	@[ ! -d $(DESTDIR)$(dir $(SRC_DIR)) ] || find $(DESTDIR)$(dir $(SRC_DIR)) -type d -empty -delete

.PHONY: clean
clean: ## Remove what all has built
	@$(call kbuild,$(KDIR)) clean

.PHONY: demo
demo: ## Show which devices may attach to a buffer, in guests of both architectures
	@$(VM) setup --kernel $(DEMO_KERNEL) && $(RUNNER) demo --kernel $(DEMO_KERNEL)

.PHONY: test
test: ## Run every test once, or the groups named in TESTS
	@$(VM) setup && $(RUNNER) test $(TESTS)

.PHONY: test-full
test-full: test ## Run every test, and guests that differ in one thing
	@$(RUNNER) test --groups other

.PHONY: stress
stress: ## Do random things with buffers for an hour (SECONDS, SEED)
	@$(VM) setup && $(RUNNER) stress $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

.PHONY: test-debug
test-debug: ## Run the module's tests on kernels with KASAN, lockdep, kmemleak and the like
	@$(VM) setup && $(RUNNER) test --kernel debug $(or $(TESTS),--groups all)

.PHONY: coverage
coverage: ## Run all tests, and list the lines of the module that they do not reach
	@$(VM) setup && $(RUNNER) test --coverage $(or $(TESTS),--groups all)

.PHONY: bench
bench: ## Measure our heaps and the kernel's, in guests that count instructions (BENCH)
	@$(VM) setup && $(CARGO) run --quiet --locked --package bench -- $(BENCH)

.PHONY: setup
setup: ## Install and build what guests need
	@$(VM) setup

.PHONY: shell
shell: ## Run a shell in a guest, with the module at hand (VM_ARCH=arm64)
	@$(VM) setup && $(VM) shell --arch $(or $(VM_ARCH),x86_64)

include tools/checks.mk
include tools/packages.mk

.PHONY: help
help: ## Show this
	@echo 'Targets:'
	@sed -n 's/^\([a-z_-]*\):.* ## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo
	@echo 'Variables:'
	@echo '  KDIR=<tree>       build tree of the kernel to build against, or its headers'
	@echo '  MO=<directory>    where the built module goes (default: beside the source)'
	@echo '  DESTDIR=<path>    install below this directory, to be copied or packed'
	@echo '  INSTALL_MOD_PATH= root of the system that gets the module (default: DESTDIR)'
	@echo '  prefix=<path>     where the command and libdmaheap go (default: /usr)'
	@echo '  libdir=<path>     where libdmaheap itself goes (default: lib below prefix)'
	@echo '  OUT=<directory>   where archives, packages and patches go (default: out)'
	@echo '  DMAHEAP=<path>    the command to install, if KDIR is for another architecture'
	@echo '  DEMO_KERNEL=...   what the demo runs on: debian (the default on Debian) or default'
	@echo '  TESTS=<filters>   which groups of tests to run (default: each test once)'
	@echo '  SECONDS=, SEED=   for how long, and which random things (default: 3600, random)'
	@echo '  BENCH=<options>   what to measure (BENCH=--help)'

endif
