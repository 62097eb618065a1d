# pf for Linux in user space. `make help` says what there is to make.

PREFIX  ?= /usr/local
SBINDIR ?= $(PREFIX)/sbin
MANDIR  ?= $(PREFIX)/share/man
DOCDIR  ?= $(PREFIX)/share/doc/pfd
TARGET  := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help build demo test lint conformance bench bench-reading peers install clean

help:
	@echo 'make demo     a SYN flood, and honest users who do not notice it (root; under a minute)'
	@echo 'make test     everything that CI checks; ends with counts'
	@echo 'make lint     the checks of make test that run no code'
	@echo 'make conformance  pfctl against reference data beside the repository, case by case'
	@echo 'make bench    the firewall against bare packet I/O (root; under four minutes)'
	@echo 'make bench-reading  the language against bare parsing: time and memory (part of make bench)'
	@echo 'make peers    connections through it against plain forwarding and SYNPROXY (root; half an hour)'
	@echo 'make build    pfd and pfctl, in $(TARGET)/release'
	@echo 'make install  to PREFIX ($(PREFIX)) below DESTDIR'
	@echo 'make clean    removes what was built'
	@echo
	@echo 'ARGS are passed on to demo, bench, peers and conformance: make demo ARGS=--without-syncookies'

build:
	cargo build --release -p pfd -p pfctl

demo:
	@tests/demo/demo.sh $(ARGS)

test:
	@tests/setup.sh test
	@tests/run.sh

lint:
	@tests/run.sh lint

conformance:
	@cargo run --quiet -p pf-conformance -- $(ARGS)

bench: bench-reading
	@tests/setup.sh bench
	cargo build --release --quiet --workspace --bins
	@$(TARGET)/release/pf-bench $(ARGS)

# ARGS=--short takes five minutes.
peers:
	@tests/setup.sh peers
	cargo build --release --quiet -p pfd -p pfctl -p pf-peers --bins
	@$(TARGET)/release/pf-peers $(ARGS)

install: build
	install -d '$(DESTDIR)$(SBINDIR)' '$(DESTDIR)$(DOCDIR)/examples'
	install -m 755 $(TARGET)/release/pfd $(TARGET)/release/pfctl '$(DESTDIR)$(SBINDIR)'
	for page in man/*.[1-9]; do \
		section="$${page##*.}"; \
		install -d "$(DESTDIR)$(MANDIR)/man$$section" && \
		install -m 644 "$$page" "$(DESTDIR)$(MANDIR)/man$$section" || exit 1; \
	done
	install -m 644 examples/* '$(DESTDIR)$(DOCDIR)/examples'
	install -m 644 README.md CHANGELOG.md LICENSE docs/*.schema.json '$(DESTDIR)$(DOCDIR)'

# Reading pf.conf: needs no root.
bench-reading:
	@cargo bench --quiet -p pfconf --bench reading -- --short

clean:
	cargo clean
