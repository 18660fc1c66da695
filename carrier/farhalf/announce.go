package farhalf

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// keep is how many builds stay in the cache: this one, and the one before for
// those who go back and forth between two versions.
const keep = 2

// abandonedAge is how old an upload that never ended must be to be removed: far
// beyond any that is still going on.
const abandonedAge = 24 * time.Hour

// Announce says to the near half that from here on the far half listens. Nothing
// may be written to w before it, and the link's octets come right after it.
func Announce(w io.Writer, nonce string) error {
	if !noncePattern.MatchString(nonce) {
		return fmt.Errorf("far half: the nonce is not 32 hexadecimal digits")
	}
	if _, err := io.WriteString(w, "BODKIN "+nonce+" READY "+version+"\n"); err != nil {
		return fmt.Errorf("far half: announcing: %w", err)
	}
	return nil
}

// Fail says to the near half, in the place of Announce, why there is no far half: code
// is one of those that the near half has a hint for, and text is for people.
func Fail(w io.Writer, nonce, code, text string) error {
	if !noncePattern.MatchString(nonce) {
		return fmt.Errorf("far half: the nonce is not 32 hexadecimal digits")
	}
	if _, err := io.WriteString(w, "BODKIN "+nonce+" FAIL "+code+" "+carrier.Printable(text)+"\n"); err != nil {
		return fmt.Errorf("far half: saying why it fails: %w", err)
	}
	return nil
}

var (
	cachedPattern    = regexp.MustCompile(`^bodkin-[A-Za-z0-9._-]+-[0-9a-f]{64}$`)
	abandonedPattern = regexp.MustCompile(`^\.(new|try)-[0-9a-f]{32}$`)
	oncePattern      = regexp.MustCompile(`^bodkin\.[A-Za-z0-9]{6}$`)
)

// Tidy removes from the cache what this far half makes superfluous: builds other
// than the newest two, and uploads that ended in the middle a day ago. It does
// nothing unless the running program lies in such a cache. What it cannot do, it
// leaves, and says nothing: the tunnel does not depend on it.
func Tidy() {
	if path, err := os.Executable(); err == nil {
		tidy(path, time.Now())
	}
}

func tidy(path string, now time.Time) {
	dir, own := filepath.Split(path)
	if !cachedPattern.MatchString(own) {
		return
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return
	}
	defer root.Close()
	if oncePattern.MatchString(filepath.Base(dir)) { // made for this run alone
		root.Remove(own)
		os.Remove(dir)
		return
	}
	root.Chtimes(own, now, now) // in use: the newest
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	type cached struct {
		name string
		used time.Time
	}
	var builds []cached
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		switch name := e.Name(); {
		case cachedPattern.MatchString(name):
			builds = append(builds, cached{name, info.ModTime()})
		case abandonedPattern.MatchString(name) && now.Sub(info.ModTime()) > abandonedAge:
			root.Remove(name)
		}
	}
	slices.SortFunc(builds, func(a, b cached) int { return b.used.Compare(a.used) })
	for _, b := range builds[min(keep, len(builds)):] {
		root.Remove(b.name)
	}
}
