# SPDX-License-Identifier: GPL-2.0
#
# Archives of the source, packages that are made from them, and patches for Linux.

include tools/version.mk

# Where they go.
OUT ?= out

ARCHIVE := dmabuf-coherency-$(version)

# What git knows, as it is now; without git, all but what is built.
sources = if [ -e .git ]; then git ls-files -z; else \
	find . -path './$(OUT)' -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z; fi

# When it was last changed.
changed = $$([ -e .git ] && git log -1 --format=@%ct || stat -c @%Y Kbuild)

.PHONY: dist
dist: ## Pack the source of this version into an archive (OUT)
	@mkdir -p '$(OUT)'
	@$(sources) | tar --exclude-from=.gitignore --null --verbatim-files-from --files-from=- \
		--mtime="$(changed)" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+w \
		--transform='s,^,$(ARCHIVE)/,' --use-compress-program='xz -6' -cf '$(OUT)/$(ARCHIVE).tar.xz'
	@echo '$(OUT)/$(ARCHIVE).tar.xz'

# What DKMS builds the module from.
MODULE_SOURCE := Kbuild include rust tools/Cargo.toml tools/heaps tools/version.mk tools/kdir tools/series \
	tools/rust-metadata tools/packaging/dkms-build

.PHONY: dkms_install
dkms_install: ## Install the module's source for DKMS, and have the module loaded at boot (DESTDIR)
	install -d '$(DESTDIR)/usr/src/$(ARCHIVE)'
	cp -r --parents --no-preserve=ownership -t '$(DESTDIR)/usr/src/$(ARCHIVE)' $(MODULE_SOURCE)
	sed -e 's/#MODULE_VERSION#/$(version)/' \
		-e "s/#SERIES#/$$(grep -v '^#' tools/series | sed 's/[.]/[.]/' | paste -sd '|')/" \
		tools/packaging/dkms.conf >'$(DESTDIR)/usr/src/$(ARCHIVE)/dkms.conf'
	install -D -m 644 tools/packaging/modules-load.conf '$(DESTDIR)/usr/lib/modules-load.d/dmabuf-coherency.conf'

.PHONY: upstream
upstream: ## Make a patch series for Linux of the abstractions, build and test that kernel (OUT)
	@$(CARGO) run --quiet --locked --package upstream -- '$(OUT)/upstream'

.PHONY: deb
deb: dist ## Build packages for Debian of the module, by DKMS, and of the command (OUT)
	@tools/packaging/deb '$(OUT)/$(ARCHIVE).tar.xz'
