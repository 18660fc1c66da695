package httpproxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
)

// as returns the settings of user with a password, and counts the questions for it.
func as(user, password string, asked *int) Config {
	c := settings
	c.User = user
	c.Secret = func(_ context.Context, question string) (string, error) {
		*asked++
		if want := "Password of " + user + " for the proxy "; !strings.HasPrefix(question, want) {
			return "", fmt.Errorf("a question about something else: %q", question)
		}
		return password, nil
	}
	return c
}

// wants returns an answer of 407 with those challenges, after which the connection
// goes on.
func wants(challenges ...string) string {
	return "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: " +
		strings.Join(challenges, "\r\nProxy-Authenticate: ") + "\r\nContent-Length: 4\r\n\r\nno.\n"
}

const yes = "HTTP/1.1 200 OK\r\n\r\n"

func mustBeRefused(t *testing.T, err error, texts ...string) {
	t.Helper()
	var refused *carrier.RefusedError
	if !errors.As(err, &refused) || refused.Layer != "proxy" {
		t.Errorf("%v; want to be refused by the proxy", err)
		return
	}
	all := refused.Reason + "\n" + refused.Hint
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("%q does not say %q", all, text)
		}
	}
}

func TestBasic(t *testing.T) {
	good := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:pässword: 1"))
	serve := func(answer string) func(int, *client) {
		return func(_ int, c *client) {
			for {
				switch c.credentials() {
				case good:
					c.say(yes)
					return
				case "":
					c.say(answer)
				case gone:
					return
				default:
					c.say(wants(`Basic realm="again"`))
				}
				if !strings.Contains(answer, "Content-Length") {
					return
				}
			}
		}
	}
	const closing = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\nand a page"
	for _, c := range []struct {
		name, password string
		secure, basic  bool
		answer         string
		asked, reached int
		refused        []string // none: a tunnel
	}{
		{"over TLS", "pässword: 1", true, false, wants(`Basic realm="x"`), 1, 1, nil},
		{"in clear text by the user's word", "pässword: 1", false, true, wants(`Basic realm="x"`), 1, 1, nil},
		{"in clear text", "pässword: 1", false, false, wants(`Basic realm="x"`), 0, 1, []string{"clear text", "auth=basic"}},
		{"a connection for each", "pässword: 1", true, false, closing, 1, 2, nil},
		{"wrong password", "other", true, false, wants(`Basic realm="x"`), 1, 1, []string{"wrong user or password", `"me"`, "407"}},
		{"control characters", "pass\r\nword", true, false, wants(`Basic realm="x"`), 1, 1, []string{"control characters"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked int
			config := as("me", c.password, &asked)
			config.Secure, config.Basic = c.secure, c.basic
			var log strings.Builder
			config.Log = func(line string) { log.WriteString(line + "\n") }
			_, reached, err := through(t, config, serve(c.answer), nil)
			if c.refused != nil {
				mustBeRefused(t, err, c.refused...)
			} else if err != nil {
				t.Error(err)
			}
			if asked != c.asked || reached != c.reached {
				t.Errorf("asked %d times, reached the proxy %d times", asked, reached)
			}
			if said := fmt.Sprint(err, log.String()); strings.Contains(said, c.password) {
				t.Errorf("the password is in %q", said)
			}
		})
	}
	var asked int
	config := as("me:you", "x", &asked)
	config.Secure = true
	_, _, err := through(t, config, serve(wants(`Basic realm="x"`)), nil)
	mustBeRefused(t, err, "colon")
}

// TestWithoutCredentials: nobody to log in as, or no way to.
func TestWithoutCredentials(t *testing.T) {
	_, _, err := through(t, settings, once(wants(`Digest realm="r", nonce="n"`, `Basic realm="r"`)), nil)
	mustBeRefused(t, err, "wants a user", "Digest, Basic", "http://user@")

	var asked int
	config := as("me", "x", &asked)
	_, _, err = through(t, config, once(wants("Negotiate")), nil)
	mustBeRefused(t, err, "Negotiate (Kerberos) is not supported")
	_, _, err = through(t, config, once(wants("Bearer x, \x1b[1m")), nil)
	mustBeRefused(t, err, "Bearer", "bodkin speaks Digest, NTLM and Basic")
	_, _, err = through(t, config, once("HTTP/1.1 407 No\r\n\r\n"), nil)
	mustBeRefused(t, err, "it names none")
	if asked != 0 {
		t.Errorf("asked for a password that nobody wants")
	}

	config.Secret = nil
	_, _, err = through(t, config, once(wants("NTLM")), nil)
	mustBeRefused(t, err, "nobody to ask")

	mute := errors.New("no terminal")
	config.Secret = func(context.Context, string) (string, error) { return "", mute }
	if _, _, err = through(t, config, once(wants("NTLM")), nil); !errors.Is(err, mute) {
		t.Errorf("%v", err)
	}
}

// TestPasswordIsRemembered: for as long as the proxy likes it, and sent to nobody who
// did not ask.
func TestPasswordIsRemembered(t *testing.T) {
	liked := "one"
	f := &fake{t: t, serve: func(_ int, c *client) {
		if got := c.credentials(); got != "" {
			t.Errorf("%q without being asked", got)
		}
		c.say(wants(`Basic realm="x"`))
		if c.credentials() == "Basic "+base64.StdEncoding.EncodeToString([]byte("me:"+liked)) {
			c.say(yes)
		} else {
			c.say(wants(`Basic realm="x"`))
		}
	}}
	answers := []string{"one", "two"}
	config := settings
	config.User, config.Secure = "me", true
	config.Secret = func(context.Context, string) (string, error) {
		next := answers[0]
		answers = answers[1:]
		return next, nil
	}
	dial := Dial(f.reach, config)
	try := func(works bool, left int) {
		t.Helper()
		s, err := dial(t.Context())
		if works != (err == nil) || len(answers) != left {
			t.Errorf("%v, and %d answers are left", err, len(answers))
		}
		if err == nil {
			s.Close()
		}
	}
	try(true, 1)
	try(true, 1) // without a question
	liked = "two"
	try(false, 1)
	try(true, 0) // with one
	f.running.Wait()
}

// TestNoEnd: a proxy that is never content gets three requests, on however many
// connections.
func TestNoEnd(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"r\", nonce=\"%d\", stale=true\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.0 407 No\r\nProxy-Authenticate: Digest realm=\"r\", nonce=\"%d\", stale=true\r\n\r\n",
	} {
		var asked, requests int
		_, reached, err := through(t, as("me", "x", &asked), func(_ int, c *client) {
			for c.request() != nil {
				requests++
				c.say(fmt.Sprintf(answer, requests))
				if strings.HasPrefix(answer, "HTTP/1.0") {
					return
				}
			}
		}, nil)
		mustBeRefused(t, err, "3 times")
		if requests != maxChallenged || asked != 1 || reached > maxChallenged {
			t.Errorf("%d requests, %d questions, %d connections", requests, asked, reached)
		}
	}
}

// TestBodies: a page with the 407, long or odd, costs at most a new connection.
func TestBodies(t *testing.T) {
	page := strings.Repeat("x", 20000)
	for _, c := range []struct {
		name    string
		hangs   bool // it ends the connection after its answer
		reached int
		answer  string
	}{
		{"a length", false, 1, "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\nContent-Length: 20000\r\n\r\n" + page},
		{"chunked", false, 1, "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n" + page + "\r\n0\r\n\r\n"},
		{"to the end", true, 2, "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\n\r\n" + page},
		{"HTTP/1.0", false, 2, "HTTP/1.0 407 No\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\nContent-Length: 0\r\n\r\n"},
		{"endless", false, 2, "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+page[:4096]+"\r\n", 100)},
		{"promised and not sent", true, 2, "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\nContent-Length: 20000\r\n\r\n"},
		{"closed against its word", true, 2, "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\nContent-Length: 0\r\n\r\n"},
	} {
		var asked int
		_, reached, err := through(t, as("me", "x", &asked), func(_ int, proxy *client) {
			if proxy.credentials() == "" {
				proxy.say(c.answer)
				if c.hangs || proxy.credentials() == gone {
					return
				}
			}
			proxy.say(yes)
		}, nil)
		if err != nil || reached != c.reached || asked != 1 {
			t.Errorf("%s: %v; %d connections, %d questions", c.name, err, reached, asked)
		}
	}
}

// TestEndsInTheMiddle: only a connection that ended before a word of the next answer is
// made anew.
func TestEndsInTheMiddle(t *testing.T) {
	var asked int
	_, reached, err := through(t, as("me", "x", &asked), func(_ int, c *client) {
		c.request()
		c.say(wants("Digest realm=r, nonce=n"))
		c.request()
		c.say("HTTP/1.1 2")
	}, nil)
	if hungUp := new(carrier.HangUpError); !errors.As(err, &hungUp) || reached != 1 {
		t.Errorf("%v; %d connections", err, reached)
	}
}
