# SPDX-License-Identifier: GPL-2.0
#
# A bindgen run for the crates of one directory with modules. The bindings of the
# kernel crate lack some headers, and the helpers that wrap inline functions and
# macros. This adds only what is missing. With --no-recursive-allowlist, every
# other type stays a plain name. The glob import in bindings.rs resolves such a
# name to the type of the kernel crate.
#
# Set these before the inclusion:
#   bindgen-dir     the directory of bindings_helper.h
#   bindgen-crates  the paths of the crate roots, without .rs
#   bindgen-allow   items to add to those that rust/ uses

bindgen-rust := --allowlist-function 'dma_heap_(add|get_drvdata)|(devm_)?dma_heap_(create|remove)_device_link|dma_heap_set_device_pieces|register_syscore|vunmap|is_vmalloc_addr|dmacoh_.*|dmabuf_is_dma_coherent' \
	--allowlist-type 'dma_heap|dma_heap_ops|dma_heap_export_info|dmabuf_coherency_(query|sync)|dmacoh_extent|dmacoh_node|dma_heap_pieces|syscore|syscore_ops' \
	--allowlist-var 'mem_accounting|dmacoh_(accounting|pool_percent)|DMACOH_.*|DMABUF_COHERENCY_(MAPPING_WRITE|(QUERY|SYNC)_SIZE).*|DMA_BUF_SYNC_.*'

# bindings.rs includes this file.
export DMABUF_COHERENCY_BINDINGS := $(abspath $(obj))/$(bindgen-dir)/bindings_generated.rs

# Packages of kernel headers have only metadata of rust/. So the parameters and
# flags of the kernel's own bindgen run cannot be taken from there.
#
# libclang does not know all flags of GCC. It only gets those that say where
# headers are, and those that change their meaning.
ifdef CONFIG_CC_IS_GCC
bindgen-target-x86 := x86_64-linux-gnu
bindgen-target-arm64 := aarch64-linux-gnu
bindgen-c-flags = $(filter -nostdinc -I% -isystem -include %.h /% ./% -D% -U% -std=% \
	-fms-% -fshort-wchar -funsigned-char -Wp%,$(c_flags)) \
	-w --target=$(bindgen-target-$(SRCARCH))
else
bindgen-c-flags = $(c_flags)
endif

quiet_cmd_bindgen = BINDGEN $@
      cmd_bindgen = $(BINDGEN) $< \
	$(bindgen-rust) $(bindgen-allow) --no-doc-comments --with-derive-custom-struct '.*=MaybeZeroable' \
	--no-recursive-allowlist \
	--rust-target 1.85 --use-core --with-derive-default --ctypes-prefix ffi \
	--no-layout-tests --no-debug '.*' --enable-function-attribute-detection \
	-o $@ -- $(bindgen-c-flags) -fno-builtin -D__BINDGEN__ -DMODULE

$(obj)/$(bindgen-dir)/bindings_generated.rs: $(src)/$(bindgen-dir)/bindings_helper.h FORCE
	$(call if_changed_dep,bindgen)

targets += $(bindgen-dir)/bindings_generated.rs
clean-files += $(bindgen-dir)/bindings_generated.rs

$(patsubst %,$(obj)/%.o,$(bindgen-crates)): $(obj)/$(bindgen-dir)/bindings_generated.rs
