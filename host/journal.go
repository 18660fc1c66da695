package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// The journal is a file of JSON lines:
//
//	{"bodkin":1,"name":"bodkin0","boot":"b1d6...","namespace":4026531840}
//	{"begun":true ,"kind":"rule","change":{"family":2,...}}
//	{"begun":false,"kind":"route","change":{...}}
//	{"end":2}
//
// It is written whole, with the values before and after, and brought to the disk
// before the first change is made: a full disk refuses before anything happened,
// and nothing is allocated later. Immediately before a change is made, "begun"
// is overwritten in place. Those marks need not reach the disk at once: they tell
// what a killed process had done, and when the kernel dies too, what they would
// tell of died with it; only the change that lasts, resolv.conf's, waits for its
// mark. A journal without its last line belongs to a process that began nothing.

// journalVersion is the form written here. Another one is left alone.
const journalVersion = 1

// maxJournal bounds what is read: MaxRoutes routes, each with its unreachable,
// and MaxRoutes throws, at some 200 octets, with room to spare.
const maxJournal = 4 << 20

type journalHeader struct {
	Version   int    `json:"bodkin"`
	Name      string `json:"name"`
	Boot      string `json:"boot"`      // /proc/sys/kernel/random/boot_id
	Namespace uint64 `json:"namespace"` // SO_NETNS_COOKIE; 0: the kernel has none
}

type journalLine struct {
	Begun  bool            `json:"begun"`
	Kind   string          `json:"kind"`
	Change json.RawMessage `json:"change"`
}

type journalEnd struct {
	End *int `json:"end"`
}

// A record is a journal's text taken apart.
type record struct {
	header journalHeader
	lines  []journalLine
	marks  []int // where in the text each line's mark is
	whole  bool
}

const (
	markFalse = "false"
	markTrue  = "true " // as long, so that it can take false's place
	markAt    = len(`{"begun":`)
)

// encode returns the journal's text, and sets marks.
func (r *record) encode() ([]byte, error) {
	var b bytes.Buffer
	header, err := json.Marshal(r.header)
	if err != nil {
		return nil, err
	}
	b.Write(append(header, '\n'))
	r.marks = nil
	for _, l := range r.lines {
		line, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		r.marks = append(r.marks, b.Len()+markAt)
		if l.Begun {
			line = bytes.Replace(line, []byte("true"), []byte(markTrue), 1)
		}
		b.Write(append(line, '\n'))
	}
	if r.whole {
		fmt.Fprintf(&b, "{\"end\":%d}\n", len(r.lines))
	}
	return b.Bytes(), nil
}

// parseJournal is the way back. A journal that breaks off is returned as far as
// it goes, with whole false; anything else that we did not write is an error.
func parseJournal(text []byte) (*record, error) {
	if len(text) > maxJournal {
		return nil, fmt.Errorf("larger than %d octets", maxJournal)
	}
	r := &record{}
	offset := 0
	for n := 1; offset < len(text); n++ {
		end := bytes.IndexByte(text[offset:], '\n')
		if end < 0 {
			return r, nil
		}
		line := text[offset : offset+end]
		if err := r.add(n, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		offset += end + 1
		if r.whole {
			if offset != len(text) {
				return nil, errors.New("more after its end")
			}
			return r, nil
		}
	}
	return r, nil
}

func (r *record) add(n int, line []byte) error {
	if n == 1 {
		if err := json.Unmarshal(line, &r.header); err != nil {
			return err
		}
		if r.header.Version != journalVersion {
			return fmt.Errorf("version %d: we know %d", r.header.Version, journalVersion)
		}
		if !validName(r.header.Name) {
			return fmt.Errorf("name %q", r.header.Name)
		}
		return nil
	}
	var end journalEnd
	if err := json.Unmarshal(line, &end); err != nil {
		return err
	}
	if end.End != nil {
		if *end.End != len(r.lines) {
			return fmt.Errorf("end after %d changes, want %d", len(r.lines), *end.End)
		}
		r.whole = true
		return nil
	}
	var l journalLine
	if err := json.Unmarshal(line, &l); err != nil {
		return err
	}
	if l.Kind == "" || l.Change == nil {
		return errors.New("neither a change nor the end")
	}
	r.lines = append(r.lines, l)
	return nil
}
