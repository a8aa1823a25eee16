# SPDX-License-Identifier: GPL-2.0
#
# Checks of the source, and what editors and readers want from it. They take the
# project's own test kernel unless KDIR names another, build outside the
# checkout, and change nothing in it but rust-project.json.

CHECK_KDIR = $(if $(filter command environment,$(origin KDIR)),$(KDIR),$(shell $(VM) kernel --arch x86_64))
CHECK_KSRC = $(or $(realpath $(CHECK_KDIR)/source),$(CHECK_KDIR))
CHECK_MO := $(or $(MO),$(or $(DMABUF_COHERENCY_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dmabuf-coherency)/checks)

TEST_MODULES := tools/testing/modules

# $(1): a target of Kbuild; $(2): more variables; $(3): a directory with modules,
# if it is not this one.
check_kbuild = kdir=$(CHECK_KDIR) && vars=$$(tools/kdir $$kdir) && mkdir -p $(CHECK_MO)/$(3) && \
	$(MAKE) -C $$kdir M=$(CURDIR)/$(3) MO=$(CHECK_MO)/$(3) $$vars $(2) $(1)

# The same for the test modules, which need the symbols of ours.
check_test_modules = $(call check_kbuild,$(1),KBUILD_EXTRA_SYMBOLS=$(CHECK_MO)/Module.symvers $(2),$(TEST_MODULES))

.PHONY: lint
lint: clippy rustfmt-check checkpatch layers rustdoc ## Run the next five

# A warning fails it: clippy's exit status alone would not say so.
without_warnings = log=$$({ $(1); } 2>&1) && ! echo "$$log" | grep -q 'warning' || \
	{ echo "$$log"; exit 1; }

.PHONY: clippy
clippy: ## Lint the Rust code, with the kernel's rules and with cargo's
	@rm -f $(CHECK_MO)/rust/dmabuf_coherency.o $(CHECK_MO)/$(TEST_MODULES)/*/*.o
	@$(call without_warnings,$(call check_kbuild,modules,CLIPPY=1))
	@$(call without_warnings,$(call check_test_modules,modules,CLIPPY=1))
	@$(CARGO) clippy --quiet --workspace --all-targets --all-features -- -D warnings

.PHONY: rustfmt-check
rustfmt-check: ## Check the layout of the Rust code
	@ksrc=$(CHECK_KSRC) && rustfmt --check --edition 2021 --config-path $$ksrc/.rustfmt.toml \
		rust/dmabuf_coherency.rs $(TEST_MODULES)/dmabuf_importer/dmabuf_importer.rs \
		$(TEST_MODULES)/samples/*.rs tools/testing/attacks/*.rs
	@$(CARGO) fmt --all --check

.PHONY: checkpatch
# Functions in Rust are exported by module.c, so none stands before its export.
checkpatch: ## Check C, Rust, documents and makefiles by the kernel's rules of style
	@ksrc=$(CHECK_KSRC) && git ls-files '*.c' '*.h' '*.rs' '*.rst' Kbuild 'Makefile' '*.mk' tools/kdir tools/rust-metadata tools/packaging/deb tools/packaging/dkms-build | \
		xargs $$ksrc/scripts/checkpatch.pl --no-tree --quiet --ignore EXPORT_SYMBOL --file

.PHONY: layers
layers: ## Check that abstractions do not name the module, and no files each other
	@$(CARGO) test --quiet --locked --package policy --test layers

.PHONY: rustdoc
rustdoc: ## Build the documentation of the kernel code
	@$(call check_kbuild,modules) >/dev/null && tools/rustdoc $(CHECK_MO) $(CHECK_MO)/doc

.PHONY: htmldocs
# Anew each time: Sphinx looks only at pages that have changed, and what they link to may have.
htmldocs: ## Build Documentation/ as HTML, and check its links and pictures (OUT)
	@command -v sphinx-build >/dev/null || { \
		echo 'There is no sphinx-build. On Debian: apt install python3-sphinx' >&2; exit 1; }
	@sphinx-build -q -a -E -W --keep-going -d '$(OUT)/doctrees' Documentation '$(OUT)/html'
	@echo '$(OUT)/html/index.html'

.PHONY: rust-analyzer
rust-analyzer: ## Write rust-project.json for editors
	@$(call check_kbuild,rust-analyzer) && cp $(CHECK_MO)/rust-project.json .
