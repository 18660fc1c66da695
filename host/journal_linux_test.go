package host

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

const sampleJournal = `{"bodkin":1,"name":"bodkin0","boot":"b0","namespace":7}
{"begun":true ,"kind":"sysctl","change":{"path":"net/ipv4/ip_forward","old":"0","new":"1"}}
{"begun":false,"kind":"rule","change":{"family":2,"priority":232,"table":25195,"uid":-1}}
{"end":2}
`

func TestJournalText(t *testing.T) {
	r, err := parseJournal([]byte(sampleJournal))
	if err != nil {
		t.Fatal(err)
	}
	if !r.whole || r.header.Namespace != 7 || len(r.lines) != 2 || !r.lines[0].Begun || r.lines[1].Begun {
		t.Errorf("read: %+v", r)
	}
	text, err := r.encode()
	if err != nil || string(text) != sampleJournal {
		t.Errorf("written again: %v\n%s", err, text)
	}
	for i, want := range []string{markTrue, markFalse} {
		if at := r.marks[i]; string(text[at:at+len(want)]) != want {
			t.Errorf("mark %d is at %d: %q", i, at, text[at:])
		}
	}
	// Cut anywhere, it is a journal of which nothing may be undone.
	for cut := range len(sampleJournal) {
		if r, err := parseJournal([]byte(sampleJournal[:cut])); err != nil || r.whole {
			t.Errorf("cut at %d: %v, whole %v", cut, err, r != nil && r.whole)
		}
	}
	for _, c := range []struct{ name, text string }{
		{"another version", strings.Replace(sampleJournal, `"bodkin":1`, `"bodkin":2`, 1)},
		{"a path for a name", strings.Replace(sampleJournal, "bodkin0", "../../etc", 1)},
		{"a line is missing", strings.Replace(sampleJournal, `"end":2`, `"end":3`, 1)},
		{"more after the end", sampleJournal + "x"},
		{"no JSON", "x\n"},
		{"neither change nor end", `{"bodkin":1,"name":"a","boot":"","namespace":0}` + "\n{}\n"},
	} {
		if _, err := parseJournal([]byte(c.text)); err == nil {
			t.Errorf("%s: not refused", c.name)
		}
	}
}

func TestChangeNames(t *testing.T) {
	for kind, fresh := range kinds {
		c := fresh()
		if got := kindOf(c); got != kind {
			t.Errorf("%s is written as %q", kind, got)
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeChange(kind, data); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := decodeChange("exec", []byte("{}")); err == nil {
		t.Error("an unknown kind is not refused")
	}
}

// A journal that parses is the same journal when written and parsed again.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(sampleJournal))
	f.Add([]byte(sampleJournal[:100]))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseJournal(text)
		if err != nil {
			return
		}
		for _, l := range r.lines {
			if c, err := decodeChange(l.Kind, l.Change); err == nil {
				_ = c.String()
			}
		}
		if r.header.Version == 0 {
			return // broke off within its first line
		}
		first, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseJournal(first)
		if err != nil {
			t.Fatalf("written again: %v\n%s", err, first)
		}
		second, err := again.encode()
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%v\n%s\nis not\n%s", err, first, second)
		}
	})
}
