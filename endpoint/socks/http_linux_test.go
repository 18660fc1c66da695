package socks

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// webServer serves handle at host in the world.
func webServer(t testing.TB, host string, handle http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := http.Server{Handler: handle}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// A request to the proxy reaches the server as if it had been made there, and so does
// the answer: what is for one hop alone does not pass.
func TestHTTP(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	at := webServer(t, world4, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.NoBody
		dump, _ := httputil.DumpRequest(r, false)
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("X-End", "1")
		w.Write(dump)
	})
	conn := b.dialProxy()
	fmt.Fprintf(conn, "GET http://four.test:%d/a%%20b?c;d=%%zz HTTP/1.1\r\nHost: other.test\r\nProxy-Connection: keep-alive\r\n"+
		"Proxy-Authorization: Basic eDp5\r\nConnection: X-Mine\r\nX-Mine: 1\r\nX-Forwarded-For: me\r\nTE: trailers\r\nX-End: 2\r\n\r\n", at.Port())
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	got := string(body)
	want := fmt.Sprintf("GET /a%%20b?c;d=%%zz HTTP/1.1\r\nHost: four.test:%d\r\nTe: trailers\r\nX-End: 2\r\nX-Forwarded-For: me\r\n\r\n", at.Port())
	if got != want {
		t.Errorf("the server got %q, want %q", got, want)
	}
	if r.Header.Get("X-Hop")+r.Header.Get("Keep-Alive") != "" || r.Header.Get("X-End") != "1" {
		t.Errorf("the program got %v", r.Header)
	}
}

// A change of protocol passes through, as WebSocket without TLS wants it.
func TestHTTPUpgrade(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	at := webServer(t, world4, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, rw)
	})
	conn := b.dialProxy()
	fmt.Fprintf(conn, "GET http://%v/ HTTP/1.1\r\nHost: %v\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", at, at)
	br := bufio.NewReader(conn)
	r, err := http.ReadResponse(br, nil)
	if err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", r, err)
	}
	io.WriteString(conn, "hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// Many requests at once, each with its own body both ways.
func TestHTTPMany(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	at := webServer(t, world4, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	proxy := &url.URL{Scheme: "http", Host: b.addr}
	tr := &http.Transport{Proxy: http.ProxyURL(proxy)}
	defer tr.CloseIdleConnections()
	client := http.Client{Transport: tr, Timeout: 20 * time.Second}
	failed := make(chan error)
	for i := range 50 {
		go func() {
			want := strings.Repeat(fmt.Sprint(i), 20_000)
			r, err := client.Post(fmt.Sprintf("http://%v/", at), "text/plain", strings.NewReader(want))
			if err != nil {
				failed <- err
				return
			}
			defer r.Body.Close()
			got, err := io.ReadAll(r.Body)
			if err == nil && string(got) != want {
				err = fmt.Errorf("%d octets came back, want %d", len(got), len(want))
			}
			failed <- err
		}()
	}
	for range 50 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// The real curl, by each way it knows.
func TestCurl(t *testing.T) {
	newResolver(t)
	b := newBench(t, Config{})
	open := webServer(t, world4, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s from %s", r.Host, r.RemoteAddr) })
	open6 := webServer(t, world6, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })
	curl := func(args ...string) (string, string) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "curl", append([]string{"-sS", "-m", "20"}, args...)...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil && errs.Len() == 0 {
			t.Fatalf("curl is needed: %v", err)
		}
		return string(out), errs.String()
	}
	name, name6 := fmt.Sprintf("http://four.test:%d/", open.Port()), fmt.Sprintf("http://six.test:%d/", open6.Port())
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--socks5", b.addr, fmt.Sprintf("http://%v/", open)}, open.String()},
		{[]string{"--socks5", b.addr, fmt.Sprintf("http://%v/", open6)}, open6.String()},
		{[]string{"--socks5-hostname", b.addr, name}, fmt.Sprintf("four.test:%d", open.Port())},
		{[]string{"--socks5-hostname", b.addr, name6}, fmt.Sprintf("six.test:%d", open6.Port())},
		{[]string{"--socks4", b.addr, fmt.Sprintf("http://%v/", open)}, open.String()},
		{[]string{"--socks4a", b.addr, name}, fmt.Sprintf("four.test:%d", open.Port())},
		{[]string{"-x", "http://" + b.addr, name}, fmt.Sprintf("four.test:%d", open.Port())},
		{[]string{"-x", "http://" + b.addr, "-p", name6}, fmt.Sprintf("six.test:%d", open6.Port())},
		{[]string{"-x", "socks5h://x:y@" + b.addr, name}, fmt.Sprintf("four.test:%d", open.Port())},
	} {
		if out, errs := curl(c.args...); !strings.HasPrefix(out, c.want) {
			t.Errorf("curl %q: %q, %q, want %q", c.args, out, errs, c.want)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--socks5-hostname", b.addr, "http://four.test:9/"}, "(5)"},
		{[]string{"--socks5-hostname", b.addr, "http://gone.test/"}, "(4)"},
		{[]string{"--socks5-hostname", b.addr, "http://meta.test/"}, "(2)"},
		{[]string{"--socks5", b.addr, "http://" + forbidden4 + "/"}, "(2)"},
		{[]string{"-x", "http://" + b.addr, "-p", "http://four.test:9/"}, "502"},
	} {
		if out, errs := curl(c.args...); !strings.Contains(errs, c.want) {
			t.Errorf("curl %q: %q, %q, want %q", c.args, out, errs, c.want)
		}
	}
	if s := b.proxy.Stats(); s.Direct != 0 {
		t.Errorf("%+v", s)
	}
}
