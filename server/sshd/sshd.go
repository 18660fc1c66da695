// Package sshd is the server's end of one SSH connection (RFC 4251 to 4254) that can do
// one thing: carry a bodkin tunnel. Real OpenSSH clients are its peers.
//
//	sshd.go       the login and what it is bound by; Serve
//	early.go      what a stranger may send; no cipher that Terrapin could cut
//	service.go    after the login: channels and requests, nearly all of them refused
//	session.go    the one channel that counts
//	words.go      what a client says, made fit for a log
//
// A client is let in by an Ed25519 key alone, and gets no shell, no terminal, no
// forwarding, no file transfer: only a session with a command, of which a Handler makes
// what it likes. Whose key is good and what a command means is for functions that it is
// handed; it opens no file and no other connection, and imports nothing of ours.
package sshd

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// Version is what the server says first (RFC 4253, section 4.2).
const Version = "SSH-2.0-bodkin"

const (
	// DefaultGrace is how long a login may take if Config does not say: a client whose
	// key wants a passphrase or a touch waits for its user. sshd's own is 120 s.
	DefaultGrace = 60 * time.Second

	// maxTries is how many keys a client may try, as with sshd.
	maxTries = 6

	// idleTime is how long a client may stay when no command of its runs, as one does
	// between two that share a connection (ControlPersist).
	idleTime = 30 * time.Second
)

// What is spoken: nothing that is older than 2014, and nothing with SHA-1 or CBC. The
// client's order counts (RFC 4253, section 7.1). With these ciphers no MAC is used, but
// names must be said.
var (
	keyExchanges = []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519}
	ciphers      = []string{ssh.CipherAES128GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES256GCM}
	macs         = []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM}
)

// A Config says how clients are served. It may serve many connections at once, and is
// not changed meanwhile.
type Config struct {
	// Key is the host key.
	Key ed25519.PrivateKey

	// Check says who the holder of the key is, or why it is not let in. It is asked when
	// a client shows a key, and again when it has proved to hold it: that answer counts.
	// The client hears no reason.
	Check func(user string, key ed25519.PublicKey, from net.Addr) (who any, err error)

	// Handle is a session: it returns the exit status, 0 to 255. It must return soon
	// after ctx has ended, which it does with the connection.
	Handle func(ctx context.Context, s *Session) (status int)

	// LoggedIn is told once of a client that has logged in, before its sessions. May be
	// nil.
	LoggedIn func(Login)

	// Refused is told of a key that was refused, maxTries times a connection at most. May
	// be nil.
	Refused func(Refusal)

	Grace time.Duration // how long a login may take; 0: DefaultGrace
	Rekey uint64        // after how many octets each way keys are exchanged anew; 0: as the cipher wants
}

// A Login is a client that has proved who it is.
type Login struct {
	Who     any               // what Check returned
	Key     ed25519.PublicKey // its own
	User    string            // the name it gave: printable, one line, at most maxWord octets and "..."
	From    net.Addr
	Program string // what it says it is, "SSH-2.0-OpenSSH_9.2p1"; printable, as User
}

// A Refusal is a key that a client was not let in by.
type Refusal struct {
	User        string // the name it gave: printable, one line, at most maxWord octets and "..."
	From        net.Addr
	Fingerprint string // of the key, as ssh-keygen prints it
	Reason      error  // Check's, or ours
}

// ErrNoLogin is what Serve's error wraps when nobody logged in.
var ErrNoLogin = errors.New("nobody logged in")

// ErrFlood is what Serve's error wraps when a client asked for more than it may.
var ErrFlood = errors.New("the client asks for too much")

// Serve serves the client at the other end of conn until it goes, ctx ends, or it breaks
// the rules, and closes conn. It returns nil if a client that had logged in went, however
// it did, else an error, which is context.Cause if ctx ended. What peers said in an error
// is printable and bounded.
func Serve(ctx context.Context, conn net.Conn, c *Config) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := c.serve(ctx, conn)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c *Config) serve(ctx context.Context, conn net.Conn) error {
	grace := c.Grace
	if grace <= 0 {
		grace = DefaultGrace
	}
	conn.SetDeadline(time.Now().Add(grace))
	stranger := &early{Conn: conn}
	l := &login{config: c, stranger: stranger}
	server, err := c.server(l)
	if err != nil {
		return err
	}
	sconn, channels, requests, err := ssh.NewServerConn(stranger, server)
	if err != nil {
		return fmt.Errorf("sshd: %w: %s", ErrNoLogin, printable(err.Error()))
	}
	stranger.loggedIn.Store(true)
	conn.SetDeadline(time.Time{})
	is, ok := sconn.Permissions.ExtraData[identity{}].(Login)
	if !ok { // never: no other way leads here
		return fmt.Errorf("sshd: %w: a login without a key", ErrNoLogin)
	}
	if c.LoggedIn != nil {
		c.LoggedIn(is)
	}
	s := &service{config: c, conn: sconn, login: is, budget: newBudget(time.Now())}
	return s.run(ctx, channels, requests)
}

// server returns the configuration of one connection.
func (c *Config) server(l *login) (*ssh.ServerConfig, error) {
	if len(c.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("sshd: the host key is no Ed25519 key")
	}
	signer, err := ssh.NewSignerFromKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("sshd: the host key: %w", err)
	}
	server := &ssh.ServerConfig{
		Config:                  ssh.Config{KeyExchanges: keyExchanges, Ciphers: ciphers, MACs: macs, RekeyThreshold: c.Rekey},
		PublicKeyAuthAlgorithms: []string{ssh.KeyAlgoED25519},
		MaxAuthTries:            maxTries,
		ServerVersion:           Version,
		PublicKeyCallback:       l.offered,
		VerifiedPublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			return l.offered(conn, key)
		},
	}
	server.AddHostKey(signer)
	return server, nil
}

// identity is under which the Login lies in what the ssh package calls permissions: by
// these, and by nothing that was merely shown, it is known which key has logged in
// (CVE-2024-45337).
type identity struct{}

// A login is one connection's attempts to log in, one after the other.
type login struct {
	config   *Config
	stranger *early
	refused  int // keys
}

// errRefused is all that the ssh package is told. A client hears less.
var errRefused = errors.New("the key is refused")

// offered decides about a key.
func (l *login) offered(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	is := Login{User: printable(conn.User()), From: conn.RemoteAddr(), Program: printable(string(conn.ClientVersion()))}
	err := l.stranger.weak
	if err == nil {
		is.Who, is.Key, err = l.check(conn, key)
	}
	if err == nil {
		return &ssh.Permissions{ExtraData: map[any]any{identity{}: is}}, nil
	}
	if l.refused++; l.refused <= maxTries && l.config.Refused != nil {
		l.config.Refused(Refusal{User: is.User, From: is.From, Fingerprint: ssh.FingerprintSHA256(key), Reason: err})
	}
	return nil, errRefused
}

// check says whose key it is.
func (l *login) check(conn ssh.ConnMetadata, key ssh.PublicKey) (who any, raw ed25519.PublicKey, err error) {
	holder, ok := key.(ssh.CryptoPublicKey)
	if ok && key.Type() == ssh.KeyAlgoED25519 { // a certificate is of another type
		raw, ok = holder.CryptoPublicKey().(ed25519.PublicKey)
	}
	if raw == nil || !ok {
		return nil, nil, errors.New("it is not an Ed25519 key, or a certificate")
	}
	who, err = l.config.Check(conn.User(), raw, conn.RemoteAddr())
	return who, raw, err
}
