package tls

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// TestOpenSSL: the real openssl, with a key that we know, is welcomed, and echoed; so
// what we speak is TLS, and the answer its first octet.
func TestOpenSSL(t *testing.T) {
	dir := t.TempDir()
	own, _, err := ownCertificate(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: own.Certificate[0]},
		"key":  {Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(clientKey))},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-quiet", "-tls1_3", "-cert", filepath.Join(dir, "cert"), "-key", filepath.Join(dir, "key"), "-connect", l.Addr().String())
	cmd.Stdin = bytes.NewBufferString("hello\n")
	var out, errw bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errw
	if err := cmd.Start(); err != nil {
		t.Fatalf("this test wants openssl: %v", err)
	}
	defer cmd.Wait()
	below, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s, peer, err := Server(ctx, below, serverConfig())
	if err != nil {
		t.Fatalf("%v\n%s", err, errw.String())
	}
	if !bytes.Equal(peer.Key, public(clientKey)) {
		t.Errorf("%+v", peer)
	}
	line := make([]byte, 6)
	if _, err := s.Read(line); err != nil {
		t.Fatal(err)
	}
	s.Write(line)
	s.Close()
	cmd.Wait()
	if want := "\x01hello\n"; out.String() != want {
		t.Errorf("openssl got %q, want %q\n%s", out.String(), want, errw.String())
	}
}
