package farhalf

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const testNonce = "00112233445566778899aabbccddeeff"

// TestCommandIsPlain: nothing in the command is special to a login shell between
// single quotes, and neither it nor an echo of it looks like an answer.
func TestCommandIsPlain(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	line := Command(testNonce, hash)
	inside, tail, _ := strings.Cut(strings.TrimPrefix(line, "exec /bin/sh -c '"), "'")
	if i := strings.IndexAny(inside, "'\\!\n\r\t"); i >= 0 {
		t.Errorf("the script holds %q", inside[i])
	}
	if tail != " bodkin "+testNonce+" "+hash {
		t.Errorf("after the script: %q", tail)
	}
	if len(line) > 4000 {
		t.Errorf("the command has %d octets, more than a terminal's line", len(line))
	}
	d := newDialogue(testNonce)
	d.push([]byte(line + "\r\n" + line + "\n"))
	if m, ok, err := d.next(); ok || err != nil {
		t.Errorf("an echo of the command passes for %v, %v", m, err)
	}
}

func TestDialogue(t *testing.T) {
	marker := "BODKIN " + testNonce + " "
	for _, c := range []struct {
		name, in string
		want     []message
		rest     string
		err      error
	}{
		{"ready, and the link's first octets", marker + "READY 1\n\x00\x01\n", []message{{"READY", []string{"1"}}}, "\x00\x01\n", nil},
		{"text before, no line end", "motd\r\nlast: " + marker + "NEED Linux x86_64 gzip\r\n", []message{{"NEED", []string{"Linux", "x86_64", "gzip"}}}, "", nil},
		{"another nonce", "BODKIN 0 READY 1\n" + marker + "SEND /home/me\n", []message{{"SEND", []string{"/home/me"}}}, "", nil},
		{"made printable", marker + "FAIL noexec /t\x1b[2Jmp\n", []message{{"FAIL", []string{"noexec", "/t?[2Jmp"}}}, "", nil},
		{"not whole", marker + "READY 1", nil, marker + "READY 1", nil},
		{"relative directory", marker + "SEND ../../etc\n", nil, "", errGarbled},
		{"shell in uname", marker + "NEED $(id) x86_64 gzip\n", nil, "", errGarbled},
		{"unknown verb", marker + "RUN x\n", nil, "", errGarbled},
		{"endless line", marker + strings.Repeat("x", maxLine+1), nil, "", errTooLong},
		{"a terminal's line end", marker + "READY 1\r\n\x00", []message{{"READY", []string{"1"}}}, "\x00", nil},
		{"a line end of CR alone", marker + "GOT\r" + marker + "READY 1\r\r", []message{{"GOT", []string{}}, {"READY", []string{"1"}}}, "\r", nil},
		{"endless text", strings.Repeat("x\n", maxBefore), nil, "", errTooMuch},
	} {
		d := newDialogue(testNonce)
		d.push([]byte(c.in))
		var got []message
		var err error
		for {
			var m message
			var ok bool
			if m, ok, err = d.next(); !ok {
				break
			}
			got = append(got, m)
			if m.verb == "READY" {
				break
			}
		}
		if !reflect.DeepEqual(got, c.want) || err != c.err || err == nil && string(d.buf) != c.rest {
			t.Errorf("%s: %v, rest %q, %v", c.name, got, d.buf, err)
		}
	}
}

// FuzzDialogue: however what comes is cut up, the messages, the rest and the error
// are the same; nothing is lost between them; and the buffer stays bounded.
func FuzzDialogue(f *testing.F) {
	marker := "BODKIN " + testNonce + " "
	f.Add([]byte("hi "+marker+"NEED Linux aarch64 plain\n"+marker+"SEND /x\n"+marker+"READY 1\n\x7e\xff"), uint8(7))
	f.Add([]byte(marker+"FAIL nospace /home/me\n"), uint8(1))
	f.Add([]byte("BODKIN BODKIN "+testNonce), uint8(3))
	f.Add([]byte(marker+"SHELL tty\r\n"+marker+"GOT\r"+marker+"READY 1\r\n\n\r"), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		run := func(step int) (got []message, rest []byte, err error) {
			d := newDialogue(testNonce)
			for i := 0; i < len(in); i += step {
				d.push(in[i:min(i+step, len(in))])
				for err == nil {
					var m message
					var ok bool
					if m, ok, err = d.next(); !ok {
						break
					}
					got = append(got, m)
					if m.verb == "READY" {
						s := carrier.Stream{ReadWriteCloser: onlyRead{iotest.OneByteReader(bytes.NewReader(in[min(i+step, len(in)):]))}}
						if d.afterCR {
							s.ReadWriteCloser = &afterCR{Stream: s}
						}
						rest, err := io.ReadAll(carrier.Unread(s, d.buf))
						return got, rest, err
					}
				}
				if err != nil {
					return got, nil, err
				}
				if len(d.buf) > maxLine {
					t.Fatalf("%d octets kept", len(d.buf))
				}
			}
			return got, bytes.Clone(d.buf), nil
		}
		got, rest, err := run(max(1, len(in)))
		again, restAgain, errAgain := run(int(step) + 1)
		if fmt.Sprint(got) != fmt.Sprint(again) || !bytes.Equal(rest, restAgain) || (err == nil) != (errAgain == nil) {
			t.Fatalf("whole: %v, %q, %v; by %d: %v, %q, %v", got, rest, err, step, again, restAgain, errAgain)
		}
		if err == nil && !bytes.HasSuffix(in, rest) {
			t.Fatalf("the rest %q is not the end of what came", rest)
		}
	})
}

// onlyRead is a Stream's ReadWriteCloser for tests that only read.
type onlyRead struct{ io.Reader }

func (onlyRead) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
func (onlyRead) Close() error              { return nil }

// TestTidy keeps the newest two builds and what is not ours.
func TestTidy(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	hash := func(i int) string { return fmt.Sprintf("bodkin-x86_64-%064x", i) }
	for name, age := range map[string]time.Duration{
		hash(0):                           100 * time.Hour, // runs now: becomes the newest
		hash(1):                           time.Hour,
		hash(2):                           2 * time.Hour,
		hash(3):                           3 * time.Hour,
		".new-" + testNonce:               48 * time.Hour,
		".new-" + strings.Repeat("f", 32): time.Hour,
		"notes":                           1000 * time.Hour,
		"bodkin-x86_64-" + strings.Repeat("Z", 64): 1000 * time.Hour,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(path, now.Add(-age), now.Add(-age))
	}
	tidy(filepath.Join(dir, "go-test-binary"), now)
	if entries, _ := os.ReadDir(dir); len(entries) != 8 {
		t.Fatalf("a program that is not in a cache removed something: %v", entries)
	}
	tidy(filepath.Join(dir, hash(0)), now)
	entries, _ := os.ReadDir(dir)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{".new-" + strings.Repeat("f", 32), hash(0), hash(1), "bodkin-x86_64-" + strings.Repeat("Z", 64), "notes"}
	if !reflect.DeepEqual(left, want) {
		t.Errorf("left: %q\nwant: %q", left, want)
	}
}

func TestBuilds(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"bodkin", "bodkin-linux-arm64", "bodkin-linux-riscv64", "bodkin-1.0-notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	found := beside(filepath.Join(dir, "bodkin"))
	if len(found) != 2 {
		t.Fatalf("found %v", found)
	}
	for _, c := range []struct{ system, machine, want string }{
		{"Linux", "aarch64", "bodkin-linux-arm64"},
		{"Linux", "riscv64", "bodkin-linux-riscv64"},
		{"Linux", "x86_64", ""},
		{"Darwin", "arm64", ""},
		{"Plan9", "aarch64", ""},
	} {
		b, err := found.pick(c.system, c.machine)
		if c.want == "" {
			if err == nil || !strings.Contains(err.Error(), c.system+" on "+c.machine) {
				t.Errorf("%s %s: %v, %v", c.system, c.machine, b, err)
			}
		} else if filepath.Base(b.Path) != c.want {
			t.Errorf("%s %s: %v, %v", c.system, c.machine, b, err)
		}
	}
	if b, err := Find(filepath.Join(dir, "bodkin")); err != nil {
		t.Error(err)
	} else if any, err := b.pick("SunOS", "sun4v"); err != nil || any.Size != 6 {
		t.Errorf("a build that was named goes anywhere: %v, %v", any, err)
	}
	if _, err := Find(dir); err == nil {
		t.Error("a directory is no build")
	}
}
