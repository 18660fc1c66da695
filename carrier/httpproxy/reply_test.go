package httpproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadReply(t *testing.T) {
	long := strings.Repeat("x", 5000) // longer than any buffer of ours
	for _, c := range []struct {
		name, text string
		want       reply
		rest       string // what is not the header's
	}{
		{"plain", "HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0", reply{1, 200, "Connection established", nil}, "SSH-2.0"},
		{"no reason", "HTTP/1.0 200 \r\n\r\n", reply{0, 200, "", nil}, ""},
		{"no space either", "HTTP/1.0 200\r\n\r\n", reply{0, 200, "", nil}, ""},
		{"bare LF", "HTTP/1.1 200 OK\nVia: x\n\n\n", reply{1, 200, "OK", []field{{"Via", "x"}}}, "\n"},
		{"mixed ends", "HTTP/1.1 200 OK\r\nVia: x\n\r\n\r\n", reply{1, 200, "OK", []field{{"Via", "x"}}}, "\r\n"},
		{"empty lines first", "\r\n\nHTTP/1.1 200 OK\r\n\r\n", reply{1, 200, "OK", nil}, ""},
		{"1xx first", "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", reply{1, 200, "OK", nil}, ""},
		{"101 is no step on the way", "HTTP/1.1 101 Switching Protocols\r\n\r\n", reply{1, 101, "Switching Protocols", nil}, ""},
		{"white space", "HTTP/1.1 200 OK\r\na:\t b \t\r\nC:d\r\n\r\n", reply{1, 200, "OK", []field{{"a", "b"}, {"C", "d"}}}, ""},
		{"folded", "HTTP/1.1 200 OK\r\n lost\r\nA: b\r\n\t c\r\n d\r\n\r\n", reply{1, 200, "OK", []field{{"A", "b c d"}}}, ""},
		{"no fields", "HTTP/1.1 200 OK\r\nnonsense\r\n: x\r\nA : y\r\n folded\r\n\r\n", reply{1, 200, "OK", []field{{"", ""}, {"", "x"}, {"", "y folded"}}}, ""},
		{"long line", "HTTP/1.1 200 OK\r\nA: " + long + "\r\n\r\n!", reply{1, 200, "OK", []field{{"A", long}}}, "!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for way, r := range map[string]io.Reader{
				"at once":        strings.NewReader(c.text),
				"octet by octet": iotest.OneByteReader(strings.NewReader(c.text)),
				"end with data":  iotest.DataErrReader(strings.NewReader(c.text)),
			} {
				b := bufio.NewReaderSize(r, 64)
				got, err := readReply(b)
				rest, _ := io.ReadAll(b)
				if err != nil || !reflect.DeepEqual(got, c.want) || string(rest) != c.rest {
					t.Errorf("%s: %+v, %v, then %q; want %+v, then %q", way, got, err, rest, c.want, c.rest)
				}
			}
		})
	}
}

func TestReadReplyMalformed(t *testing.T) {
	fields := strings.Repeat("A: b\r\n", maxFields)
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"sshd", "SSH-2.0-OpenSSH_9.2\r\n", errNotHTTP},
		{"a page without header", "<html>", errNotHTTP},
		{"TLS", "\x15\x03\x01\x00\x02\x02\x16", errNotHTTP},
		{"space first", " HTTP/1.1 200 OK\r\n", errNotHTTP},
		{"empty lines between", "HTT\r\nP/1.1 200 OK\r\n", errNotHTTP},
		{"another version", "HTTP/2.0 200 OK\r\n\r\n", errNoStatus},
		{"no status", "HTTP/1.1 OK\r\n\r\n", errNoStatus},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n", errNoStatus},
		{"sign", "HTTP/1.1 +20 OK\r\n\r\n", errNoStatus},
		{"below 100", "HTTP/1.1 099 OK\r\n\r\n", errNoStatus},
		{"many lines", "HTTP/1.1 200 OK\r\n" + fields + "A: b\r\n\r\n", errTooMany},
		{"one endless line", "HTTP/1.1 200 " + strings.Repeat("x", maxHeader), errTooLong},
		{"endless empty lines", strings.Repeat("\n", maxHeader+1), errTooLong},
		{"endless 1xx", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxHeader/25+1), errTooLong},
		{"cut short", "HTTP/1.1 200 OK\r\nA: b\r\n", io.EOF},
		{"nothing", "", io.EOF},
	} {
		b := bufio.NewReaderSize(strings.NewReader(c.text), 64)
		if r, err := readReply(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v; want %v", c.name, r, err, c.want)
		}
	}
	b := bufio.NewReaderSize(strings.NewReader("HTTP/1.1 200 OK\r\n"+fields+"\r\n"), 64)
	if r, err := readReply(b); err != nil || len(r.fields) != maxFields {
		t.Errorf("just as many lines as there may be: %d, %v", len(r.fields), err)
	}
}

// TestDiscardBody: a connection is kept only when the body's end is beyond doubt.
func TestDiscardBody(t *testing.T) {
	const next = "HTTP/1.1 200 OK"
	for _, c := range []struct {
		name, fields, body string
		keep               bool
	}{
		{"a length", "Content-Length: 5\r\n", "hello", true},
		{"empty", "Content-Length: 0\r\n", "", true},
		{"chunks", "Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0006 ; x=y\r\n world\r\n0\r\n\r\n", true},
		{"trailers", "Transfer-Encoding: chunked\r\n", "0\r\nA: b\r\n\r\n", true},
		{"to the end", "", "hello", false},
		{"both", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", false},
		{"two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello", false},
		{"another coding", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", false},
		{"no number", "Content-Length: +5\r\n", "hello", false},
		{"too long", fmt.Sprintf("Content-Length: %d\r\n", maxBody+1), strings.Repeat("x", maxBody+1), false},
		{"absurd", "Content-Length: 99999999999999999999999\r\n", "hello", false},
		{"chunks too long", "Transfer-Encoding: chunked\r\n", "10001\r\n", false},
		{"endless chunks", "Transfer-Encoding: chunked\r\n", strings.Repeat("1\r\nx\r\n", maxBody/6+1), false},
		{"chunks without end", "Transfer-Encoding: chunked\r\n", "5\r\nhello!\r\n0\r\n\r\n", false},
		{"no chunks", "Transfer-Encoding: chunked\r\n", "-5\r\nhello\r\n", false},
	} {
		b := bufio.NewReader(strings.NewReader("HTTP/1.1 407 No\r\n" + c.fields + "\r\n" + c.body + next))
		r, err := readReply(b)
		if err != nil {
			t.Fatal(err)
		}
		keep := r.discardBody(b)
		if keep != c.keep {
			t.Errorf("%s: keeps the connection: %v", c.name, keep)
		}
		if rest, _ := io.ReadAll(b); keep && string(rest) != next {
			t.Errorf("%s: %q is left", c.name, rest)
		}
	}
}

func TestPersists(t *testing.T) {
	for text, want := range map[string]bool{
		"HTTP/1.1 407 No\r\n\r\n":                                               true,
		"HTTP/1.0 407 No\r\n\r\n":                                               false,
		"HTTP/1.0 407 No\r\nConnection: Keep-Alive\r\n\r\n":                     true,
		"HTTP/1.0 407 No\r\nProxy-Connection: keep-alive\r\n\r\n":               true,
		"HTTP/1.1 407 No\r\nConnection: x, Close\r\n\r\n":                       false,
		"HTTP/1.1 407 No\r\nProxy-Connection: close\r\n\r\n":                    false,
		"HTTP/1.1 407 No\r\nConnection: a\r\nConnection: close\r\n\r\n":         false,
		"HTTP/1.0 407 No\r\nConnection: keep-alive, close\r\n\r\n":              false,
		"HTTP/1.1 407 No\r\nConnection: closely\r\nX-Connection: close\r\n\r\n": true,
	} {
		r, err := readReply(bufio.NewReader(strings.NewReader(text)))
		if err != nil || r.persists() != want {
			t.Errorf("%q: %v, %v", text, r.persists(), err)
		}
	}
}

// FuzzReply: however the octets come, they are understood the same, each belongs
// either to the header or to what follows, and an answer written as it was understood
// is understood so again.
func FuzzReply(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\n\r\nSSH-2.0",
		"\r\nHTTP/1.0 100 \n\nHTTP/1.0 407 a b\r\nA: b\r\n c\r\nnonsense\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 407 No\nTransfer-Encoding: chunked\n\n1\nx\n0\n\nHTTP/1.1",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		source := string(text)
		whole := bufio.NewReader(strings.NewReader(source))
		r, err := readReply(whole)
		rest, _ := io.ReadAll(whole)

		single := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(source)), 16)
		r1, err1 := readReply(single)
		if fmt.Sprint(err) != fmt.Sprint(err1) || !reflect.DeepEqual(r, r1) {
			t.Fatalf("at once %+v, %v; octet by octet %+v, %v", r, err, r1, err1)
		}
		if err != nil {
			return
		}
		if !strings.HasSuffix(source, string(rest)) || !strings.HasSuffix(source[:len(source)-len(rest)], "\n") {
			t.Fatalf("%q is left of %q", rest, source)
		}
		keep := r.discardBody(single)
		if after, _ := io.ReadAll(single); keep && !strings.HasSuffix(string(rest), string(after)) {
			t.Fatalf("%q is left after the body of %q", after, source)
		}
		var again strings.Builder
		fmt.Fprintf(&again, "HTTP/1.%d %d %s\r\n", r.minor, r.status, r.reason)
		for _, f := range r.fields {
			fmt.Fprintf(&again, "%s: %s\r\n", f.name, f.value)
		}
		again.WriteString("\r\n")
		if r2, err := readReply(bufio.NewReader(strings.NewReader(again.String()))); again.Len() < maxHeader && (err != nil || !reflect.DeepEqual(r, r2)) {
			t.Fatalf("%+v became %+v, %v", r, r2, err)
		}
	})
}
