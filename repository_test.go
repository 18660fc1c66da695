package bodkin_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// gVisor's newer commits on its other branch do not build as a library, and
// "go get -u" picks those: raising this line is a decision, not a side effect.
const gvisor = "gvisor.dev/gvisor v0.0.0-20260701204157-69c2d17aea96"

// Above so many lines a file holds more than one thought. Tests are lists, and
// may be longer.
const (
	longestFile = 700
	longestTest = 1000
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGVisorIsPinned(t *testing.T) {
	for line := range strings.Lines(read(t, "go.mod")) {
		if strings.HasPrefix(strings.TrimSpace(line), "gvisor.dev/gvisor ") {
			if got := strings.TrimSpace(line); got != gvisor {
				t.Errorf("go.mod requires %q, want %q", got, gvisor)
			}
			return
		}
	}
	t.Error("go.mod does not require gvisor.dev/gvisor")
}

// Every "make X" that a page names is a target of the Makefile.
func TestNamedTargetsExist(t *testing.T) {
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	named := regexp.MustCompile("(?m)(?:`|^ {4}|&& )make ([a-z][a-z-]*)")
	for _, page := range pages(t) {
		for _, m := range named.FindAllStringSubmatch(read(t, page), -1) {
			if !targets[m[1]] {
				t.Errorf("%s names \"make %s\", which the Makefile does not know", page, m[1])
			}
		}
	}
	for _, want := range []string{"demo", "test"} {
		if !strings.Contains(read(t, "README.md"), "make "+want) {
			t.Errorf("README.md does not name \"make %s\"", want)
		}
	}
}

// Every link of a page to a file of the repository leads somewhere.
func TestLinksResolve(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}

func pages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) == 0 || len(docs) == 0 {
		t.Fatalf("found %d pages in the root and %d in docs", len(pages), len(docs))
	}
	return append(pages, docs...)
}

func TestFilesAreShort(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != "." {
			return fs.SkipDir
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		longest := longestFile
		if strings.HasSuffix(name, "_test.go") {
			longest = longestTest
		}
		if n := bytes.Count(b, []byte("\n")); n > longest {
			t.Errorf("%s has %d lines, more than %d: which two thoughts are in it?", name, n, longest)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
