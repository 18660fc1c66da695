# bodkin: what can be made.
#
#   make        ./bodkin, one static file
#   make demo   shows the whole story on this machine, in network namespaces
#   make test   runs every test
#   make bench  measures bodkin beside raw, ssh -w and sshuttle
#   make help   the rest
#
# demo, test and bench install what they miss with apt-get and say so. They need
# root for the namespaces, and ask sudo for it.

# Go may be installed without being in PATH.
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin
GO ?= go

# A release archive without .git can say VERSION=... itself.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The same octets from the same commit, whoever builds it and wherever.
export CGO_ENABLED := 0
BUILD := -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=$(VERSION)'

TESTFLAGS ?=
FUZZTIME ?= 60s
BENCHFLAGS ?=

.PHONY: all
all: bodkin

.PHONY: bodkin
bodkin:
	$(GO) build $(BUILD) -o $@ ./cmd/bodkin

.PHONY: help
help:
	@echo 'make            build ./bodkin'
	@echo 'make demo       show the whole story in network namespaces (root)'
	@echo 'make test       every test (root); TESTFLAGS=-v'
	@echo 'make soak       what sessions outlive, a thousand times (root)'
	@echo 'make lint       gofmt, go vet for three systems, staticcheck'
	@echo 'make fuzz       every fuzz target for FUZZTIME=60s'
	@echo 'make bench      the table of speeds (root); BENCHFLAGS="-runs 5"'
	@echo 'make dist       release files for linux/amd64 and linux/arm64 in dist/'
	@echo 'make reproduce  build dist/ a second time elsewhere and compare'
	@echo 'make install    into PREFIX=/usr/local, with man page and completions'
	@echo 'make clean      remove what was built'

# as_root runs a command as root in this environment: at once, or through sudo.
as_root = $(if $(filter 0,$(shell id -u)),,@echo 'bodkin: this needs root for network namespaces; asking sudo' && sudo --preserve-env=CI env PATH="$$PATH" )

.PHONY: demo
demo:
	@scripts/setup build demo
	$(MAKE) bodkin
	$(call as_root)./bodkin demo

# -count=1: the end-to-end tests build the program themselves, of which go test's
# cache knows nothing.
.PHONY: test
test:
	@scripts/setup build test
	$(call as_root)$(GO) test -count=1 -p 2 -timeout 25m $(TESTFLAGS) ./...

# The numbers of the tests of sessions are those of the promise then: 500 ends of
# connections, 1,000 reconnects, outages of five minutes.
.PHONY: soak
soak:
	@scripts/setup build test
	$(call as_root)env BODKIN_SOAK=1 $(GO) test -count=1 -timeout 2h -v -run '^TestSession' ./e2e

.PHONY: bench
bench:
	@scripts/setup build demo bench
	$(MAKE) bodkin
	$(call as_root)$(GO) run ./bench $(BENCHFLAGS)
	$(GO) test -run '^$$' -bench . ./link/ppp/hdlc
	$(GO) test -run '^$$' -bench Load -benchtime 1x ./cmd/bodkin/serve

.PHONY: fuzz
fuzz:
	@scripts/setup build
	GO=$(GO) scripts/fuzz $(FUZZTIME)

# format and vet are the cheap parts of lint; vet also compiles for the systems
# that bodkin does not run on yet.
.PHONY: lint
lint: format vet staticcheck

.PHONY: format
format:
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || { echo "not as gofmt writes it:" $$unformatted; exit 1; }

.PHONY: vet
vet:
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...

.PHONY: staticcheck
staticcheck:
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

.PHONY: dist
dist:
	@scripts/setup build
	rm -rf dist && mkdir dist
	for arch in amd64 arm64; do \
		GOOS=linux GOARCH=$$arch $(GO) build $(BUILD) -o dist/bodkin-linux-$$arch ./cmd/bodkin || exit; \
	done
	cd dist && sha256sum bodkin-* >SHA256SUMS && cat SHA256SUMS
	GOOS=darwin GOARCH=arm64 $(GO) build ./...
	GOOS=windows GOARCH=amd64 $(GO) build ./...

# Everything comes from the binary: the manual and the completions are its own words.
PREFIX ?= /usr/local
share = $(DESTDIR)$(PREFIX)/share

.PHONY: install
install: bodkin
	install -D -m 755 bodkin $(DESTDIR)$(PREFIX)/bin/bodkin
	install -d $(share)/man/man1 && ./bodkin man $(share)/man/man1
	install -d $(share)/bash-completion/completions $(share)/zsh/site-functions $(share)/fish/vendor_completions.d
	./bodkin completion bash >$(share)/bash-completion/completions/bodkin
	./bodkin completion zsh >$(share)/zsh/site-functions/_bodkin
	./bodkin completion fish >$(share)/fish/vendor_completions.d/bodkin.fish

.PHONY: uninstall
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/bodkin $(share)/man/man1/bodkin.1 $(share)/man/man1/bodkin-*.1 \
		$(share)/bash-completion/completions/bodkin $(share)/zsh/site-functions/_bodkin \
		$(share)/fish/vendor_completions.d/bodkin.fish

# The same commit, cloned to another directory, must give the same octets.
.PHONY: reproduce
reproduce: dist
	rm -rf .cache/reproduce && git clone -q . .cache/reproduce
	$(MAKE) -C .cache/reproduce VERSION=$(VERSION) dist
	cmp dist/SHA256SUMS .cache/reproduce/dist/SHA256SUMS && echo 'the same octets twice'
	rm -rf .cache/reproduce

.PHONY: clean
clean:
	rm -rf bodkin dist .cache
