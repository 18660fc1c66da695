package farhalf

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"

	"github.com/bodkin-net/bodkin/carrier"
)

// maxBuild is the largest build that is sent, in octets. It is held compressed in
// memory while it is.
const maxBuild = 256 << 20

// A Build is one bodkin that can be sent to the far side.
type Build struct {
	OS, Arch string // as in GOOS and GOARCH; empty: whatever the far side is
	Path     string
	Hash     string // SHA-256, hexadecimal
	Size     int64  // in octets
}

// Builds are the far halves at hand.
type Builds []Build

var siblingPattern = regexp.MustCompile(`^bodkin-([a-z0-9]+)-([a-z0-9]+)$`)

// Find returns the builds at hand: file alone if it is not empty, for whatever the
// far side is; else the running program, and beside it the files named as
// bodkin-linux-arm64. Only the hashing takes time, some 50 ms for each.
func Find(file string) (Builds, error) {
	if file != "" {
		b, err := measure(Build{Path: file})
		return Builds{b}, err
	}
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("far half: finding our own program: %w", err)
	}
	own := Build{OS: runtime.GOOS, Arch: runtime.GOARCH, Path: path}
	if runtime.GOOS == "linux" {
		own.Path = "/proc/self/exe" // what runs, though the file may be another by now
	}
	own, err = measure(own)
	if err != nil {
		return nil, err
	}
	return append(Builds{own}, beside(path)...), nil
}

// beside returns the builds in the directory of path that are named as such. One
// that cannot be read is not at hand.
func beside(path string) Builds {
	var found Builds
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "bodkin-*-*"))
	for _, name := range names {
		if m := siblingPattern.FindStringSubmatch(filepath.Base(name)); m != nil && name != path {
			if b, err := measure(Build{OS: m[1], Arch: m[2], Path: name}); err == nil {
				found = append(found, b)
			}
		}
	}
	return found
}

// measure fills in the hash and the size.
func measure(b Build) (Build, error) {
	f, err := os.Open(b.Path)
	if err != nil {
		return b, fmt.Errorf("far half: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return b, fmt.Errorf("far half: %s: not a regular file", b.Path)
	}
	hash := sha256.New()
	b.Size, err = io.Copy(hash, io.LimitReader(f, maxBuild+1))
	if err != nil {
		return b, fmt.Errorf("far half: %w", err)
	}
	if b.Size > maxBuild {
		return b, fmt.Errorf("far half: %s: larger than %d MiB", b.Path, maxBuild>>20)
	}
	b.Hash = hex.EncodeToString(hash.Sum(nil))
	return b, nil
}

// Hashes returns the hashes of the builds, for Command.
func (bs Builds) Hashes() []string {
	var hashes []string
	for _, b := range bs {
		hashes = append(hashes, b.Hash)
	}
	return hashes
}

// The names that uname -s and uname -m have for what Go calls otherwise.
var (
	systems  = map[string]string{"Linux": "linux", "Darwin": "darwin", "FreeBSD": "freebsd", "OpenBSD": "openbsd", "NetBSD": "netbsd"}
	machines = map[string]string{
		"x86_64": "amd64", "amd64": "amd64",
		"aarch64": "arm64", "arm64": "arm64",
		"armv8l": "arm", "armv7l": "arm", "armv6l": "arm",
		"i386": "386", "i486": "386", "i586": "386", "i686": "386",
		"riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x", "loongarch64": "loong64",
		"mips": "mips", "mips64": "mips64",
	}
)

// pick returns the build for a far side that calls itself system and machine.
func (bs Builds) pick(system, machine string) (Build, error) {
	goos, goarch := systems[system], machines[machine]
	for _, b := range bs {
		if b.OS == "" || b.OS == goos && b.Arch == goarch {
			return b, nil
		}
	}
	refused := &carrier.RefusedError{
		Layer:  "far half",
		Reason: fmt.Sprintf("there is no bodkin at hand for the far side, %s on %s", system, machine),
		Hint:   "name one with --far-binary FILE",
		Err:    fs.ErrNotExist,
	}
	if goos != "" && goarch != "" {
		refused.Hint = fmt.Sprintf("put bodkin-%s-%s beside the bodkin program here, or name one with --far-binary FILE", goos, goarch)
	}
	return Build{}, refused
}

var errChanged = errors.New("it changed while it was read")

// read returns the build's octets, compressed if zip is set.
func (b Build) read(zip bool) ([]byte, error) {
	f, err := os.Open(b.Path)
	if err != nil {
		return nil, fmt.Errorf("far half: %w", err)
	}
	defer f.Close()
	var payload bytes.Buffer
	var size int64
	if zip {
		z := gzip.NewWriter(&payload)
		size, err = io.Copy(z, io.LimitReader(f, maxBuild))
		err = errors.Join(err, z.Close())
	} else {
		size, err = io.Copy(&payload, io.LimitReader(f, maxBuild))
	}
	if err == nil && size != b.Size {
		err = errChanged
	}
	if err != nil {
		return nil, fmt.Errorf("far half: %s: %w", b.Path, err)
	}
	return payload.Bytes(), nil
}
