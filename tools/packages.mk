# SPDX-License-Identifier: GPL-2.0
#
# Archives of the source, and packages that are made from them.

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
